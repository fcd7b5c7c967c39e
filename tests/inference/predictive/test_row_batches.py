"""Rows that may be drawn batch by batch, and rows that must not."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.pair.batches import cut
from credo.inference.pair.pair import Pair
from credo.inference.posterior.local_latents import Sources
from credo.inference.predictive import row_batches as module
from credo.inference.predictive.row_batches import cut_latent, find_batches

X, Y = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(-1.0, 1.0, 20)


def regression(mean):
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(mean(x, w), 0.5), obs=y)

    return model


def one_draw(x, y=None):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
    covariance = (-(torch.cdist(x, x) ** 2)).exp() * scale + 0.1 * torch.eye(len(x))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), covariance), obs=y)


def independent_draw(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(x @ w, 0.5).to_event(1), obs=y)


def of_all_rows(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.deterministic("total", (x @ w).sum())
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def loop(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    for i in pyro.plate("N", len(x)):
        pyro.sample(f"y_{i}", dist.Normal(x[i] @ w, 0.5), obs=None if y is None else y[i])


def walk(x, y=None):
    with pyro.plate("N", len(x)):
        step = pyro.sample("step", dist.Normal(0.0, 1.0))
    with pyro.plate("M", len(x)):
        pyro.sample("y", dist.Normal(step.cumsum(-1), 0.5), obs=y)


OFFSET = torch.arange(20.0)
SOUND = {
    "a row is a function of its inputs": regression(lambda x, w: x @ w),
    "independent rows in one site": independent_draw,
}
COUPLED = {
    "centred": (regression(lambda x, w: (x - x.mean(0)) @ w), "'y': a row depends on the other rows"),
    "later rows count": (regression(lambda x, w: (x @ w).flip(0).cumsum(0)), "'y': a row depends on the other rows"),
    "numbered": (regression(lambda x, w: x @ w + torch.arange(len(x))), "'y': a row depends on the other rows"),
    "a walk": (walk, "'y': a row depends on the other rows"),
    "one draw": (one_draw, "'y': one joint draw of all rows"),
    "of all rows": (of_all_rows, "'total': it depends on which rows are given"),
    "by name": (loop, "'y_7' exists for some batches only"),
    "held outside": (regression(lambda x, w: x @ w + OFFSET), "batch: the model does not run on 7 of the 20 rows"),
}


def fitted(model):
    return credo.fit(model, "mean_field", X, Y, steps=2, progress=False)


@pytest.mark.parametrize("case", SOUND)
def test_rows_that_do_not_depend_on_each_other_are_cut(case):
    assert fitted(SOUND[case]).predict(3, X + 1.0, batch=7)["y"].shape == (3, 20)


@pytest.mark.parametrize("case", COUPLED)
def test_rows_that_depend_on_each_other_are_refused(case):
    model, message = COUPLED[case]
    fit = fitted(model)
    with pytest.raises(ValueError, match=message):
        fit.predict(3, X, batch=7)
    if case != "by name":  # whose rows have no other draw in a fit
        assert fit.predict(3, X, batch=20)["y"].shape == (3, 20)  # one batch needs no independence


def test_the_batches_and_the_dimension_of_the_rows():
    pair = Pair(SOUND["a row is a function of its inputs"], lambda x, y=None: None, (X, Y))
    found = find_batches(pair, (X[:10], None), Sources((X[:10], None)), 4, ["x", "y"])
    assert found.slices == (slice(0, 4), slice(4, 8), slice(8, 10)) and found.n == 10
    assert found.dims == {"y": 0} and found.shared == {"w"} and found.arguments == (0,)
    assert torch.equal(cut((X, 3.0, None), (0, 2), slice(4, 8))[0], X[4:8])


def test_arguments_of_different_lengths_are_named():
    fit = fitted(SOUND["a row is a function of its inputs"])
    with pytest.raises(ValueError, match="x has 20, y has 7"):
        fit.predict(3, X, Y[:7], batch=5)


def test_a_latent_is_cut_along_the_dimension_of_the_rows():
    value = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(cut_latent(value, 4, slice(2, 6)), value[:, 2:])
    assert cut_latent(value, 4, slice(4, 6)) is None
    with pytest.raises(ValueError, match="not clear"):
        cut_latent(torch.zeros(4, 4), 4, slice(0, 2))


def test_a_finite_latent_that_all_rows_share_is_refused():
    def model(x, y=None):
        z = pyro.sample("z", dist.Bernoulli(0.5))
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ w + z, 0.5), obs=y)

    def guide(x, y=None):
        pyro.sample("w", dist.Normal(pyro.param("m", torch.zeros(2)), 0.1).to_event(1))

    fit = credo.fit(model, guide, X, Y, steps=2, progress=False)
    with pytest.raises(ValueError, match=r"'z': summed out of the model.*rows cannot be drawn apart; leave out batch="):
        fit.predict(3, batch=7)
    assert fit.predict(3)["y"].shape == (3, 20)


G = torch.arange(40) // 10


def counted_groups(g, y=None):
    """Counts its groups from the data, as textbooks do."""
    with pyro.plate("J", int(g.max()) + 1):
        a = pyro.sample("a", dist.Normal(0.0, 30.0))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(a[g], 0.1), obs=y)


@pytest.mark.parametrize("size", [3, 7, 10, 13, 25])
def test_groups_that_are_counted_are_those_of_the_fit_in_each_batch(size):
    fit = credo.fit(counted_groups, None, G, 10.0 * G, progress=False)
    for found in (fit, fit.exact):
        drawn = found.predict(200, G, batch=size, reduce="mean")["y"]
        torch.testing.assert_close(drawn.float(), 10.0 * G, atol=0.1, rtol=0.0)
    new = torch.tensor([3, 2, 5, 1, 5])
    whole, cut_up = (fit.predict(2000, new, batch=b, seed=1)["y"] for b in (None, 2))
    for drawn in (whole, cut_up):  # group 5 is new: one draw from its prior, the same in both rows
        torch.testing.assert_close(drawn.mean(0), torch.tensor([30.0, 20.0, 0.0, 10.0, 0.0]), atol=2.5, rtol=0.0)
        assert drawn[:, 2].std() > 20.0 and (drawn[:, 2] - drawn[:, 4]).std() < 0.3


TOGETHER = {
    "a share of the largest": lambda x: x / x.max(),
    "above the smallest": lambda x: x - x.min(),
    "a threshold": lambda x: x if (x > 8).any() else 100 * x,
    "the rank": lambda x: x.argsort().argsort() / 10.0,
}


@pytest.mark.parametrize("most", [2**22, 8], ids=["all rows", "as many as fit"])
@pytest.mark.parametrize("case", TOGETHER)
def test_rows_that_depend_on_the_extremes_are_refused(case, most, monkeypatch):
    monkeypatch.setattr(module, "MOST", most)
    x = torch.linspace(10.0, 1.0, 40)

    def model(x, y=None):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(b * TOGETHER[case](x), 0.1), obs=y)

    fit = credo.fit(model, "mean_field", x, x, steps=2, progress=False)
    with pytest.raises(ValueError, match="'y': a row depends on the other rows"):
        fit.predict(3, x, batch=10)
    assert fit.predict(3, x)["y"].shape == (3, 40)


@pytest.mark.parametrize("most", [2**22, 8], ids=["all rows", "as many as fit"])
def test_sound_rows_are_cut_however_many_fit(most, monkeypatch):
    monkeypatch.setattr(module, "MOST", most)
    fit = fitted(SOUND["a row is a function of its inputs"])
    assert fit.predict(3, X, batch=3)["y"].shape == (3, 20)
    assert fit.predict(3, X, prior=True, batch=3)["w"].shape == (3, 2)


def test_prior_draws_of_counted_groups_have_all_groups_or_none():
    fit = credo.fit(counted_groups, None, G, 10.0 * G, progress=False)
    assert fit.predict(3, G, prior=True)["a"].shape == (3, 4)
    with pytest.raises(ValueError, match=r"'a': it has shape \(1,\) for 7 rows and \(4,\) for 40"):
        fit.predict(3, G, prior=True, batch=7)
