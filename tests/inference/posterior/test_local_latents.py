"""Latents of rows in predictions: kept for the rows of the fit, of their own for others."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import nn

import credo

N = 12
X = torch.linspace(-1.0, 1.0, N)
OWN = 5.0 * torch.arange(N)  # where the guides of these tests believe the latents of the rows to be
B = 2.0  # and the slope


def rows(x, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 3.0))
    with pyro.plate("N", len(x)):
        u = pyro.sample("u", dist.Normal(1.0, 0.5))
        pyro.sample("y", dist.Normal(b * x + u, 0.1), obs=y)


def event(x, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 3.0))
    u = pyro.sample("u", dist.Normal(torch.ones(len(x)), 0.5).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(b * x + u, 0.1), obs=y)


def by_heart(x, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 3.0))
    with pyro.plate("N", N):
        u = pyro.sample("u", dist.Normal(1.0, 0.5))
        pyro.sample("y", dist.Normal(b * x + u, 0.1), obs=y)


def guide(x, y=None):
    pyro.sample("b", dist.Normal(pyro.param("b_loc", torch.tensor(B)), 0.01))
    loc = pyro.param("u_loc", OWN.clone())
    with pyro.plate("N", N):
        pyro.sample("u", dist.Normal(loc, 0.01))


def guide_event(x, y=None):
    pyro.sample("b", dist.Normal(pyro.param("b_loc", torch.tensor(B)), 0.01))
    pyro.sample("u", dist.Normal(pyro.param("u_loc", OWN.clone()), 0.01).to_event(1))


PAIRS = {"plate": (rows, guide), "event": (event, guide_event), "a plate by heart": (by_heart, guide)}


def fitted(model, guide, *data, **options):
    return credo.fit(model, guide, *data, steps=0, progress=False, **options)


def at(draws, mean, sd):
    """Whether draws, (n, rows), have this mean and sd in every row."""
    error = sd / len(draws) ** 0.5
    return bool((draws.mean(0) - mean).abs().max() < 5 * error and (draws.std(0) - sd).abs().max() < 5 * error)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_rows_of_the_fit_keep_their_latents(pair):
    fit = fitted(*PAIRS[pair], X, OWN)
    for new in ((), (X,), (X, None), (X, OWN), (X.double().numpy(), -OWN)):
        draws = fit.predict(400, *new)
        assert set(draws) == {"y"} and at(draws["y"], B * X + OWN, 0.1)


@pytest.mark.parametrize("number", [1, 3, N, 30])
@pytest.mark.parametrize("pair", PAIRS)
def test_other_rows_draw_theirs_from_the_prior_given_the_shared_latents(pair, number):
    if pair == "a plate by heart" and number != N:
        with pytest.raises(ValueError, match=r"x: got \d+ rows, but plate 'N' has size 12.*len\(x\)"):
            fitted(*PAIRS[pair], X, OWN).predict(2, torch.zeros(number))
        return
    draws = fitted(*PAIRS[pair], X, OWN).predict(2000, 3.0 + torch.zeros(number))
    assert draws["y"].shape == draws["u"].shape == (2000, number)
    assert at(draws["y"], 3.0 * B + 1.0, 0.26**0.5) and at(draws["u"], 1.0, 0.5)
    if number > 1:  # rows share b, of sd .01, and nothing else
        assert torch.corrcoef(draws["u"].T)[0, 1].abs() < 0.12


def test_new_data_that_begins_with_all_rows_of_the_fit_continues_them():
    draws = fitted(rows, guide, X, OWN).predict(1000, torch.cat([X, torch.zeros(2)]))["y"]
    assert at(draws[:, :N], B * X + OWN, 0.1) and at(draws[:, N:], 1.0, 0.26**0.5)


@pytest.mark.parametrize("make", [lambda: None, lambda: AutoMultivariateNormal(rows), lambda: "map"])
def test_automatic_guides_have_no_latents_for_other_rows(make):
    """Trained on rows of mean 5, where the prior of u has mean 1 whatever the data are."""
    fit = credo.fit(rows, make(), X, X + 5.0, steps=300, lr=0.05, progress=False)
    slope = fit.sample(500)["b"].mean()
    draws = fit.predict(2000, 3.0 + X)
    assert at(draws["u"], 1.0, 0.5)
    assert (draws["y"].mean(0) - slope * (3.0 + X) - 1.0).abs().max() < 0.5
    assert fit.predict(500)["y"].mean(0).mean() > 3.0


def groups(g, y=None, n_groups=None):
    with pyro.plate("G", int(g.max()) + 1 if n_groups is None else n_groups):
        a = pyro.sample("a", dist.Normal(-1.0, 0.5))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(a[g], 0.1), obs=y)


def groups_guide(g, y=None, n_groups=None):
    with pyro.plate("G", 4):
        pyro.sample("a", dist.Normal(pyro.param("a_loc", 10.0 * torch.arange(4.0)), 0.01))


@pytest.mark.parametrize("settings", [(), (None, 4)])
def test_groups_keep_their_latents_and_new_groups_draw_theirs(settings):
    g = torch.arange(12) % 4
    fit = fitted(groups, groups_guide, g, 10.0 * g, *settings[1:])
    assert at(fit.predict(500, torch.tensor([3, 0, 3]), *settings)["y"], torch.tensor([30.0, 0.0, 30.0]), 0.1)
    assert at(fit.predict(500, torch.tensor([1, 1]), *settings)["y"], torch.tensor([10.0, 10.0]), 0.1)
    draws = fit.predict(2000, torch.tensor([2, 5, 5]), None, 6)["y"]
    assert at(draws[:, :1], 20.0, 0.1) and at(draws[:, 1:], -1.0, 0.26**0.5)
    assert torch.corrcoef(draws[:, 1:].T)[0, 1] > 0.9  # both rows are of the one new group


def crossed(i, j, y=None, sizes=(3, 2)):
    with pyro.plate("I", sizes[0]):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("J", sizes[1]):
        b = pyro.sample("b", dist.Normal(7.0, 1.0))
    with pyro.plate("N", len(i)):
        pyro.sample("y", dist.Normal(a[i] + b[j], 0.1), obs=y)


def crossed_guide(i, j, y=None, sizes=(3, 2)):
    with pyro.plate("I", 3):
        pyro.sample("a", dist.Normal(pyro.param("a_loc", torch.tensor([10.0, 20.0, 30.0])), 0.01))
    with pyro.plate("J", 2):
        pyro.sample("b", dist.Normal(pyro.param("b_loc", torch.tensor([1.0, 2.0])), 0.01))


def test_crossed_groups_are_kept_on_both_sides():
    i, j = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 0, 1])
    fit = fitted(crossed, crossed_guide, i, j, torch.zeros(4))
    assert at(fit.predict(500, torch.tensor([2, 0]), torch.tensor([1, 1]))["y"], torch.tensor([32.0, 12.0]), 0.1)
    draws = fit.predict(2000, torch.tensor([2, 0]), torch.tensor([1, 2]), None, (3, 3))["y"]
    assert at(draws[:, :1], 32.0, 0.1) and at(draws[:, 1:], 17.0, 1.01**0.5)


class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.scale * x


def decoder(net, x):
    pyro.module("net", net)
    shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(2.0 * z + shift, 0.1), obs=x)


def encoder(net, x):
    pyro.module("net", net)
    shift = pyro.sample("shift", dist.Normal(x.mean(), 0.01))  # belongs to the fit, however it is computed
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(net(x) - 0.5 * shift, 0.01))


def test_an_amortised_guide_computes_the_latents_of_new_rows():
    net = Coder()
    fit = fitted(decoder, encoder, net, X + 4.0)
    new = 30.0 * torch.arange(5.0)
    assert at(fit.predict(1000, net, new)["x"], new, 0.0104**0.5)  # 2 (x / 2 - shift / 2) + shift
    draws = fit.predict(1000, net, new, prior=True)
    assert at(draws["x"], 0.0, 5.01**0.5) and at(draws["z"], 0.0, 1.0)


def seen(x, y=None):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(x, 1.0))
        pyro.sample("y", dist.Normal(z, 0.1), obs=y)


def test_a_guide_that_reads_y_is_run_only_where_y_is_given():
    def guide(x, y=None):
        w = pyro.param("w", torch.tensor(1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("z", dist.Normal(w * y, 0.01))

    fit = fitted(seen, guide, X, OWN)
    assert at(fit.predict(500, X)["y"], OWN, 0.1)
    assert at(fit.predict(1000, 50.0 + X)["y"], 50.0 + X, 1.01**0.5)
    assert at(fit.predict(500, 50.0 + X, 2 * OWN)["y"], 2 * OWN, 0.1)


def walk(y=None, steps=8):
    z = 0.0
    for t in pyro.markov(range(steps if y is None else len(y))):
        z = pyro.sample(f"z{t}", dist.Normal(z, 1.0))
        pyro.sample(f"y{t}", dist.Normal(z, 0.1), obs=None if y is None else y[t])


def walk_guide(y=None, steps=8):
    loc = pyro.param("loc", 10.0 * torch.arange(8.0))
    for t in range(8):
        pyro.sample(f"z{t}", dist.Normal(loc[t], 0.01))


def test_a_series_goes_on_and_another_series_is_refused():
    fit = fitted(walk, walk_guide, torch.zeros(8))
    draws = fit.predict(2000, None, 11)
    assert at(draws["y7"][:, None], 70.0, 0.1) and at(draws["y10"][:, None], 70.0, 3.01**0.5)
    with pytest.raises(ValueError, match=r"'z8': a site of a row by its name.*begin the new data with all rows"):
        fit.predict(3, torch.ones(5))


def volatility(r=None, steps=None):
    steps = len(r) if r is not None else steps
    h = pyro.sample("h", dist.Normal(torch.zeros(steps), 0.1).to_event(1)).cumsum(-1)
    with pyro.plate("T", steps):
        pyro.sample("r", dist.Normal(h, 0.01), obs=r)


def volatility_guide(r=None, steps=None):
    pyro.sample("h", dist.Normal(pyro.param("loc", torch.ones(8)), 0.001).to_event(1))


def test_a_series_of_innovations_goes_on():
    draws = fitted(volatility, volatility_guide, torch.zeros(8)).predict(2000, None, 12)["r"]
    assert draws.shape == (2000, 12) and (draws.mean(0)[:8] - torch.arange(1.0, 9.0)).abs().max() < 0.01
    assert at(draws[:, 11:], 8.0, (0.04 + 8e-6 + 1e-4) ** 0.5)
