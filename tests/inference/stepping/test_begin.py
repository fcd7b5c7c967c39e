"""The first look at many rows: what is refused of all rows is refused still, and it runs the pair on some of them."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.streaming.some_rows import MANY
from tests.cases.windows import in_files, small_windows

N, B = 100_003, 20
X = torch.randn(N, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(1))
ROW = 76_543
FIT = {"batch_size": B, "steps": 10, "plan": "fast", "compile": False, "progress": False}


def labels(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)


def counts(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Poisson((x @ w).sum(-1).exp()), obs=y)


def guide(x, y):
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(2, 3)), 0.1).to_event(2))


def of_fixed_size(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("N", N):
        pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)


def local(x, y):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def of_each_row(x, y):
    loc = pyro.param("loc", torch.zeros(len(x)))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(loc, 1.0))


def prepared(model, guide, *data, **options):
    runner = credo.SVI(model, guide, batch_size=B, plan="fast", particles=1, compile=False, **options)
    runner.prepare(*data)
    return runner


def changed(value, row, to):
    value = value.clone()
    value[row] = to
    return value


@pytest.mark.parametrize(
    ("model", "x", "y", "words"),
    [
        (labels, X, changed(LABELS, ROW, 3), "1 of 100003 observed values lie outside the support of Categorical"),
        (counts, X, changed(LABELS.float(), ROW, -1.0), "1 of 100003 observed values lie outside the support of Poi"),
        (counts, X, changed(LABELS.float(), ROW, 0.5), "1 of 100003 observed values lie outside the support of Poi"),
        (labels, changed(X, (ROW, 1), torch.nan), LABELS, "x: 1 of 200006 values are not finite"),
        (of_fixed_size, X, LABELS, "does not run on 20 of the 100003 rows|plate"),
    ],
)
def test_one_row_of_many_is_refused_in_the_words_of_all(model, x, y, words):
    with pytest.raises(ValueError, match=words):
        prepared(model, guide, x, y)


def test_the_pair_runs_on_some_rows_only():
    seen = []

    def counted(x, y):
        seen.append(len(x))
        return labels(x, y)

    prepared(counted, guide, X, LABELS)
    assert seen and max(seen) < MANY


def test_a_run_on_many_rows_is_scaled_to_all_of_them():
    runner = prepared(labels, guide, X, LABELS)
    assert runner._prepared.rows[:4] == ((0, 1), N, B, frozenset({"N"}))
    assert runner._prepared.rows.in_all == N


def test_few_rows_are_all_looked_at():
    seen = []

    def counted(x, y):
        seen.append(len(x))
        return labels(x, y)

    prepared(counted, guide, X[:MANY], LABELS[:MANY])
    assert max(seen) == MANY


@pytest.mark.parametrize("many", [1_000, 12_000])  # of the first window: all are looked at, or some
def test_what_is_wrong_in_the_first_window_is_said_of_the_rows_of_the_data(many, tmp_path, monkeypatch):
    small_windows(monkeypatch, rows=many)
    n = 20_000
    x = changed(X[:n], torch.arange(5, n, 10), torch.nan)  # in every window
    (y,) = in_files(tmp_path / "y", LABELS[:n])
    with pytest.raises(ValueError, match="not finite") as caught:
        prepared(labels, guide, *in_files(tmp_path / "x", x), y)
    (note,) = [note for note in caught.value.__notes__ if "found on" in note]
    assert (found := re.search(r" of 20,000 rows; x is not finite in row ([\d,]+)$", note)), note
    assert x[int(found[1].replace(",", ""))].isnan().all()
    with pytest.raises(ValueError, match="y") as caught:
        prepared(labels, guide, *in_files(tmp_path / "x", X[:n]), LABELS[: n - 1])
    assert any("y, of length 19,999, was given whole" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("own", [of_each_row, "mean_field"])
@pytest.mark.parametrize("many", [1_000, 12_000])  # rows of a window: all are looked at, or some
def test_a_parameter_for_each_row_of_a_window_is_refused(own, many, tmp_path, monkeypatch):
    small_windows(monkeypatch, rows=many)
    x = torch.arange(40_000) % 7 + 0.0  # no window has a value that others lack
    files = in_files(tmp_path, x, torch.stack([x, x], -1))
    with pytest.raises(ValueError, match=r"batch_size: parameter .* has an entry for each row.*guide='amortised'"):
        credo.fit(lambda y, x: local(x, y), own if own == "mean_field" else lambda y, x: own(x, y), *files, **FIT)
