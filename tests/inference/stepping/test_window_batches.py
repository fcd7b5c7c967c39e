"""Runs on rows that do not fit into memory: the same steps as on rows in memory, resumed to the bit, looked at."""

import functools
import threading
from itertools import islice

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.pair.batches import Rows
from credo.inference.pair.pair import Pair
from credo.inference.runtime.state import entered
from credo.inference.runtime.workers import Workers
from credo.inference.stepping.window_batches import batches_of, open_windows
from credo.inference.streaming.source import source_of
from tests.cases.job import in_job
from tests.cases.windows import in_files, small_windows

N, D, B = 3_000, 2, 50
G = torch.Generator().manual_seed(0)
W = torch.tensor([0.5, -1.0])
X = torch.randn(N, D, generator=G)
Y = X @ W + torch.randn(N, generator=G)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Memory-mapped X and Y, of which a window holds a third."""
    small_windows(monkeypatch)
    return functools.partial(in_files, tmp_path)


def model(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(D), 10.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def guide(x, y):
    loc = pyro.param("loc", torch.zeros(D))
    scale = pyro.param("scale", torch.full((D,), 0.02), constraint=dist.constraints.positive)
    pyro.sample("w", dist.Normal(loc, scale).to_event(1))


def runner(**options):
    return credo.SVI(model, guide, **{"batch_size": B, "particles": 1, "plan": "fast", "compile": False, **options})


def test_an_epoch_of_batches_has_each_row_once_and_is_scaled_to_all(files):
    svi, data = runner(), files(X, Y)
    svi.prepare(*data)
    batches, rows = svi._steps.batches, svi._prepared.rows
    assert (rows.n, rows.total, rows.plates) == (1_000, N, {"N"})
    seen = []
    with entered(svi._prepared.state):
        for _ in range(N // B):
            index = next(batches)
            numbers = batches.numbers[index]
            assert torch.equal(batches.tensors[0][index], X[numbers])
            assert torch.equal(batches.tensors[1][index], Y[numbers])
            seen.append(numbers)
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(N))
    # The mean of the losses of an epoch is the loss of all rows: N / B times the rows of each batch.
    whole = credo.SVI(model, guide, particles=1, plan="fast", compile=False)
    of_all = whole.evaluate_loss(X, Y)
    assert abs(np.mean([svi.evaluate_loss(*data) for _ in range(N // B)]) / of_all - 1) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_a_fit_by_windows_is_the_posterior_of_all_rows(files, compiled):
    fit = credo.fit(
        model, guide, *files(X, Y), batch_size=B, steps=1_000, compile=compiled, progress=False, plan="fast"
    )
    precision = X.T @ X + torch.eye(D) / 100
    mean, sd = torch.linalg.solve(precision, X.T @ Y), 1 / precision.diagonal().sqrt()
    assert ((fit.params["loc"] - mean).abs() < sd).all()
    assert (fit.params["scale"] / sd - 1).abs().max() < 0.2


def test_a_fit_by_windows_answers_what_the_rows_do_not_matter_for(files, tmp_path):
    fit = credo.fit(model, guide, *files(X, Y), batch_size=B, steps=5, compile=False, progress=False, plan="fast")
    assert fit.verdict.trust == "unknown" and "3,000 rows" in repr(fit.verdict)
    assert fit.summary(100).shape[0] == D and fit.sample(5)["w"].shape == (5, D)
    assert fit.predict(5, X[:7], None)["y"].shape == (5, 7)
    assert credo.check(fit) == fit.verdict
    for ask in (lambda: fit.predict(5), lambda: credo.compare(fit), lambda: fit.save("never.credo", with_data=True)):
        with pytest.raises(ValueError, match="3,000 rows of this fit by windows"):
            ask()
    assert sum(v.numel() for v in fit.data) < N  # no window stays
    fit.save(tmp_path / "fit.credo")
    again = credo.load_fit(tmp_path / "fit.credo", model, guide)
    assert torch.equal(again.sample(5)["w"], fit.sample(5)["w"])
    assert torch.equal(again.predict(5, X[:3], None)["y"], fit.predict(5, X[:3], None)["y"])
    with pytest.raises(ValueError, match="3,000 rows"):
        again.predict(5)


def test_processes_read_rows_of_their_own_and_take_their_share_of_a_batch(files):
    data, seen = files(X, Y), []
    for rank in range(2):
        settings = runner(batch_size=51)._settings._replace(workers=Workers(rank, 2, rank))
        streamed = open_windows(source_of(model, data, 51), data, settings, torch.float32, torch.device("cpu"))
        rows = Rows((0, 1), len(streamed.numbers), 51, frozenset({"N"}), total=N)
        batches = batches_of(streamed, Pair(model, guide, streamed.given.values), rows, ())
        batches.first, batches.of = rank, 2
        count = batches.windows.number * (batches.rows.n // batches.each)
        taken = [batches.numbers[index] for index in islice(batches, count)]
        assert {len(numbers) for numbers in taken} == {26 - rank} and count == 56
        assert batches.factor == N / 51 * 2 and batches.left == 0
        seen += torch.cat(taken).tolist()
    assert len(set(seen)) == len(seen) == 56 * 51 > 0.95 * N


@pytest.mark.slow
def test_two_processes_by_windows_fit_all_rows(files, tmp_path):
    data = files(X, Y)
    precision = X.T @ X + torch.eye(D) / 100
    mean, sd = torch.linalg.solve(precision, X.T @ Y), precision.inverse().diagonal().sqrt()

    def work(rank):
        every = []
        for compiled in (False, True):
            svi = runner(compile=compiled, lr=0.002, seed=3, particles=4)
            fit = svi.run(*data, steps=2_000)
            every.append((svi.losses, fit.params["loc"], fit.params["scale"], svi._steps.own_noise))
        return every

    one, two = in_job(work, seconds=300.0)
    for (losses, loc, scale, own), (other, other_loc, *_) in zip(one, two, strict=True):
        assert losses == other and torch.equal(loc, other_loc) and not own
        assert ((loc - mean).abs() < 0.25 * sd).all() and ((scale / sd - 1).abs() < 0.15).all(), (loc, mean, scale / sd)


def test_a_state_goes_on_to_the_bit_in_the_same_window(files):
    data, first, second = files(X, Y), runner(), runner()
    for _ in range(25):  # beyond the first window, of 20 batches
        first.step(*data)
    state = first.state_dict()
    rest = [first.step(*data) for _ in range(25)]
    second.load_state_dict(state)
    assert [second.step(*data) for _ in range(25)] == rest
    for a, b in zip(first.params.values(), second.params.values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match=r"had them in memory there|reads its rows by windows"):
        other = runner()
        other.prepare(X, Y)
        second.load_state_dict(other.state_dict())


def test_a_checkpoint_goes_on_to_the_bit(files, tmp_path):
    data, options = files(X, Y), {"batch_size": B, "compile": False, "progress": False, "plan": "fast"}
    whole = credo.fit(model, guide, *data, steps=50, **options)

    class Stop(Exception):
        pass

    def stop(svi, step, loss):
        if step == 30:
            raise Stop

    kept = {"checkpoint": tmp_path / "run.credo", "every": 10, "callback_every": 10}
    with pytest.raises(Stop):
        credo.fit(model, guide, *data, steps=50, callback=stop, **kept, **options)
    again = credo.fit(model, guide, *data, steps=50, **kept, **options)
    assert again.losses == whole.losses
    assert all(torch.equal(again.params[k], v) for k, v in whole.params.items())


def test_looks_of_a_callback_take_no_batches(files):
    data = files(X, Y)
    options = {"batch_size": B, "steps": 30, "compile": False, "progress": False, "plan": "fast", "callback_every": 10}
    plain = credo.fit(model, guide, *data, **options)
    watched = credo.fit(
        model,
        guide,
        *data,
        callback=lambda svi, step, loss: [svi.evaluate_loss() for _ in range(25)] and None,
        **options,
    )
    assert watched.losses == plain.losses


def test_a_mistake_in_a_later_window_is_named_and_costs_no_fit(files):
    def counts(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(D), 10.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Poisson((x @ w).exp()), obs=y)

    data = files(X, torch.poisson(torch.ones(N)))
    svi = credo.SVI(counts, guide, batch_size=B, particles=1, plan="fast", compile=False, progress=False)
    svi.prepare(*data)
    first = set(svi._steps.batches.numbers.tolist())
    row = next(i for i in range(N) if i not in first)
    y = torch.from_numpy(np.array(data[1]))
    y[row] = -1.0
    data = files(X, y)
    with pytest.raises(ValueError, match=r"outside the support of Poisson, the first is -1\.0") as error:
        credo.fit(counts, guide, *data, batch_size=B, steps=60, particles=1, plan="fast", compile=False, progress=False)
    assert f"{row:,}" in str(error.value) and len(error.value.fit.losses) in (20, 40)


def test_what_needs_all_rows_is_refused_by_name(files):
    data, options = files(X, Y), {"batch_size": B, "steps": 5, "progress": False}
    with pytest.raises(ValueError, match=r"validation: got 0.1 of 3,000 rows.*validation=\(x_val, y_val\)"):
        credo.fit(model, guide, *data, validation=0.1, **options)
    with pytest.raises(ValueError, match=r"seeds: .*3,000 rows"):
        credo.fit(model, guide, *data, seeds=2, **options)
    svi = runner()
    svi.step(*data)
    with pytest.raises(ValueError, match="other data"):
        svi.step(X, Y)
    with pytest.raises(ValueError, match="rows: "):
        svi.step(*data, rows=N)


def test_a_run_that_has_ended_reads_no_further_window(files):
    data, svi = files(X, Y), runner(progress=False)

    def opened():
        windows = svi._prepared.streamed.windows
        return windows._ahead, windows._kept, [t for t in threading.enumerate() if t.name == "credo: next window"]

    def fails(svi, step, loss):
        raise KeyError

    svi.run(*data, steps=30)
    assert opened() == (None, (), [])
    with pytest.raises(KeyError):
        svi.run(*data, steps=30, callback=fails, callback_every=10)
    assert opened() == (None, (), [])
    for _ in range(30):
        svi.step(*data)
    whole = runner(progress=False)
    whole.prepare(*data)
    for _ in range(70):
        next(whole._steps.batches)
    one, other = svi._steps.batches, whole._steps.batches
    assert one.state() == other.state() and torch.equal(one.numbers, other.numbers)  # as if nothing had been closed


def test_the_normal_around_the_mode_is_that_of_all_rows(files):
    fit = credo.fit(model, "laplace", *files(X, Y), batch_size=B, steps=4, compile=False, progress=False, plan="fast")
    sd = (X.T @ X + torch.eye(D) / 100).inverse().diagonal().sqrt()
    found = fit.sample(4000)["w"].std(0)
    assert (
        found / sd - 1
    ).abs().max() < 0.1  # a window has a third of the rows: their sds alone are 1.7 times as large


def test_held_out_rows_end_a_run_by_windows(files):
    fit = credo.fit(
        model,
        guide,
        *files(X, Y),
        validation=(X[:50], -5 * X[:50] @ W),
        patience=1,
        callback_every=20,
        batch_size=B,
        steps=80,
        compile=False,
        progress=False,
        plan="fast",
    )
    assert "ended by the held-out rows at step 40" in fit.stopped
