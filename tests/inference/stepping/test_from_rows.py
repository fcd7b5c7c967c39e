"""Parameters computed from rows: those of all rows, where the first look saw some of many."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

import credo
from credo.inference.streaming.some_rows import MANY
from tests.cases.windows import in_files, small_windows

N, B = 5 * MANY, 50
X = torch.randn(N, generator=torch.Generator().manual_seed(0))
FIT = {"batch_size": B, "steps": 20, "plan": "fast", "compile": False, "progress": False}


def constant(name, value):
    found = pyro.param(name, value)
    if found.requires_grad and found.is_leaf:
        found.requires_grad_(False)
    return found.detach()


def centred(x):
    mean = constant("mean", lambda: x.double().mean().float())
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mean + w, 1.0), obs=x)


def counting(x):
    n = constant("n", lambda: torch.tensor(float(len(x))))
    w = pyro.sample("w", dist.Normal(0.0, n**-0.5))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(w, 1.0), obs=x)


def weighted(x):
    weight = constant("weight", lambda: x.abs())
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(w, weight), obs=x)


def started(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(w, pyro.param("sd", lambda: x.std())), obs=x)


def guide(x):
    loc = pyro.param("loc", lambda: 0.1 * torch.randn(()))
    pyro.sample("w", dist.Normal(loc, 0.1))


@pytest.mark.parametrize("its_guide", [guide, None])
def test_a_constant_of_the_model_is_that_of_all_rows(its_guide):
    fit = credo.fit(centred, its_guide or "mean_field", X, **FIT)
    assert fit.params["mean"].item() == pytest.approx(X.double().mean().item(), abs=1e-7)


def test_a_count_of_rows_is_that_of_all_rows():
    assert credo.fit(counting, guide, X, **FIT).params["n"].item() == N


def test_the_start_of_a_parameter_is_computed_from_all_rows():
    runner = credo.SVI(started, guide, batch_size=B, plan="fast", compile=False)
    runner.prepare(X)
    assert runner.params["sd"].item() == pytest.approx(X.std().item(), rel=1e-6)


def test_parameters_that_no_row_decides_stay_as_the_first_look_made_them():
    few, many = (credo.SVI(counting, guide, batch_size=B, plan="fast", compile=False, seed=3) for _ in range(2))
    few.prepare(X[:MANY])
    many.prepare(X)
    assert few.params["loc"].item() == many.params["loc"].item() != 0


def test_a_constant_of_each_row_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="constant 'weight' has an entry for each of the 50000 rows"):
        credo.fit(weighted, guide, X, **FIT)
    small_windows(monkeypatch)
    with pytest.raises(ValueError, match="parameter 'weight' has an entry for each row"):
        credo.fit(weighted, guide, *in_files(tmp_path, X), **FIT)


def with_constant(compute):
    def model(x):
        constant("c", lambda: compute(x).float())
        return started(x)

    return model


WIDE = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x.norm(dim=1).max(),
        lambda x: (x[:, 0] * x[:, 1]).min(),
        lambda x: (x.norm(dim=1) > 4).sum(),
        lambda x: x[:3],
        lambda x: torch.tensor(x[:, 0].median().item()),
    ],
)
def test_what_some_rows_and_their_first_half_agree_on_is_computed_from_all_rows_too(compute):
    def model(x):
        constant("c", lambda: compute(x).float())
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0).expand([3]).to_event(1), obs=x)

    for seed in range(3):
        x = WIDE[torch.randperm(N, generator=torch.Generator().manual_seed(seed))]
        torch.testing.assert_close(credo.fit(model, guide, x, **FIT).params["c"], compute(x).float())


def test_the_labels_that_occur_are_those_of_all_rows():
    y = torch.where(X > X.sort().values[-7], 1, 2 * (X > 0).long())  # six rows of class 1

    def model(y):
        labels = constant("labels", lambda: y.unique().float())
        p = pyro.sample("p", dist.Dirichlet(torch.ones(len(labels))))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Categorical(p), obs=torch.searchsorted(labels, y.float()))

    fit = credo.fit(model, "mean_field", y, **FIT)
    assert fit.params["labels"].tolist() == [0, 1, 2]
    assert fit.sample(2)["p"].shape == (2, 3)


class Scaling(nn.Module):
    """It keeps the sds of the first rows that it sees in a buffer, and their number."""

    def __init__(self):
        super().__init__()
        self.register_buffer("sd", None)
        self.rows = 0

    def forward(self, x):
        if self.sd is None:
            self.sd, self.rows = x.std(), len(x)
        return x / self.sd


def test_what_a_network_keeps_of_its_first_rows_is_that_of_all():
    def model(net, x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=net(x))

    fit = credo.fit(model, lambda net, x: guide(x), Scaling(), X, **FIT)
    kept = fit.trained(fit.data[0])
    assert kept.rows == N
    torch.testing.assert_close(kept.sd, X.std())


@pytest.mark.parametrize(
    "compute", [lambda x: 1 / x.new_tensor(len(x)), lambda x: x.new_tensor(len(x)).log(), lambda x: x.square().sum()]
)
def test_every_number_that_counts_the_rows_of_a_window_is_refused(compute, tmp_path, monkeypatch):
    small_windows(monkeypatch)
    (x,) = in_files(tmp_path, X)
    with pytest.raises(ValueError, match="'c' is a constant that follows the number"):
        credo.fit(with_constant(compute), guide, x, **FIT)

    def detached(x):
        pyro.param("c", lambda: compute(x), constraint=constraints.real).detach()
        return started(x)

    with pytest.raises(ValueError, match="'c' is a constant that follows the number"):
        credo.fit(detached, guide, x, **FIT)


def test_a_window_gives_a_start_that_follows_its_sum(tmp_path, monkeypatch):
    def starting(x):
        pyro.sample("w", dist.Normal(pyro.param("loc", lambda: x.sum() / 1000), 0.1))

    small_windows(monkeypatch)
    assert credo.fit(started, starting, *in_files(tmp_path, X), **FIT).losses


def test_learnt_rates_of_dropout_count_the_divergence_once_for_all_rows():
    x = torch.randn(MANY + 1000, 5, generator=torch.Generator().manual_seed(1))
    net, pair = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), credo.load("bnn_dropout")
    options = {"shared": False, "once": True}
    model, of_guide = functools.partial(pair.model, **options), functools.partial(pair.guide, learn=True, **options)
    fit = credo.fit(model, of_guide, net, x, (x[:, 0] > 0).long(), **FIT)
    assert fit.params["masks.rows"].item() == len(x)


def test_a_window_gives_constants_of_its_rows_and_refuses_to_count_them(tmp_path, monkeypatch):
    small_windows(monkeypatch)
    (x,) = in_files(tmp_path, X)
    mean = credo.fit(centred, guide, x, **FIT).params["mean"].item()
    assert mean == pytest.approx(X.double().mean().item(), abs=0.1)
    with pytest.raises(ValueError, match=rf"'n' is a constant that follows the number .* of {N:,} rows"):
        credo.fit(counting, guide, x, **FIT)
