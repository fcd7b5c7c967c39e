"""The log-likelihood of rows against closed forms, and what is none."""

from functools import partial
from itertools import product

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Normal

import credo

X, NEW = torch.tensor([0.3, -1.2, 2.0, 0.4]), torch.tensor([-0.5, 1.5])


def model(x=None, n=None):
    with pyro.plate("N", len(x) if x is not None else n):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def amortised(x=None, n=None):
    a = pyro.param("a", torch.tensor(0.3))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(a * x, 1.0))


def a_parameter_per_row(x=None, n=None):
    m = pyro.param("m", torch.zeros(4))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(m, 1.0))


def point(x=None, n=None):
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Delta(pyro.param("m", torch.tensor(0.0)) + 0 * x))


def fitted(program, guide, *data):
    return credo.fit(program, guide, *data, steps=5, progress=False)


@pytest.mark.parametrize("guide", [amortised, a_parameter_per_row])
def test_the_rows_of_the_fit_by_importance_sampling(guide):
    """x ~ N(0, 2): the latent integrated out."""
    found = credo.log_likelihood(fitted(model, guide, X), 4000)
    exact = Normal(0.0, 2**0.5).log_prob(X)
    assert found.errors.max() < 0.1
    assert ((found.values - exact).abs() <= 5 * found.errors).all()


@pytest.mark.parametrize("rows", [NEW, NEW[:1], torch.cat([NEW, X, NEW])])
def test_new_rows_of_any_number(rows):
    found = credo.log_likelihood(fitted(model, amortised, X), 4000, rows)
    assert found.values.shape == rows.shape
    assert ((found.values - Normal(0.0, 2**0.5).log_prob(rows)).abs() <= 5 * found.errors).all()


def test_a_fit_of_one_row_has_a_likelihood_of_its_row_and_of_more():
    fit = fitted(model, amortised, X[:1])
    for rows in (X[:1], X):
        found = credo.log_likelihood(fit, 2000, rows)
        assert found.values.shape == rows.shape
        assert ((found.values - Normal(0.0, 2**0.5).log_prob(rows)).abs() <= 5 * found.errors).all()


def regression(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=w * x), obs=y)


def regression_guide(x, y=None):
    sd = pyro.param("sd", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("w", dist.Normal(pyro.param("m", torch.tensor(0.1)), sd))


def test_observations_left_out_are_asked_for():
    fit = fitted(regression, regression_guide, X, (X > 0).float())
    with pytest.raises(ValueError, match="site 'y' is not observed"):
        credo.log_likelihood(fit, 10, X)


def test_one_class_of_new_rows_is_no_mistake():
    fit = fitted(regression, regression_guide, X, (X > 0).float())
    ones = credo.log_likelihood(fit, 2000, X, torch.ones(4)).values
    zeros = credo.log_likelihood(fit, 2000, X, torch.zeros(4)).values
    assert torch.allclose(ones.exp() + zeros.exp(), torch.ones(4, dtype=torch.float64), atol=1e-6)  # the same draws


def test_observations_outside_their_support_are_refused():
    fit = fitted(regression, regression_guide, X, (X > 0).float())
    with pytest.raises(ValueError, match="site 'y': 1 of 4 observed values lie outside the support"):
        credo.log_likelihood(fit, 10, X, torch.tensor([0.0, 1.0, 3.0, 1.0]))


def test_a_point_for_each_row_is_refused():
    with pytest.raises(ValueError, match="site 'z': the guide has a point estimate for each row"):
        credo.log_likelihood(fitted(model, point, X), 10)


def test_without_a_plate_there_is_no_row():
    def together(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(w, 1.0).expand([len(x)]).to_event(1), obs=x)

    fit = fitted(together, lambda x: pyro.sample("w", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0)), X)
    with pytest.raises(ValueError, match="no plate of the model has the size of its 4 rows"):
        credo.log_likelihood(fit, 10)


def test_a_plate_of_other_things_of_the_same_number_is_none_of_the_rows():
    """Four weights, one observation each of all: what the weights cost is no part of a row's likelihood."""

    def four(x):
        with pyro.plate("weights", 4):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(w.sum(), 1.0), obs=x)

    def guide(x):
        with pyro.plate("weights", 4):
            pyro.sample("w", dist.Normal(pyro.param("m", torch.zeros(4)), 0.5))

    fit = fitted(four, guide, X)
    found = credo.log_likelihood(fit, 4000)
    exact = Normal(fit.params["m"].sum(), 2**0.5).log_prob(X)  # w.sum() ~ N(sum m, 4 * 0.25)
    assert ((found.values - exact).abs() <= 5 * found.errors).all()


def hierarchy(x):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(m, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


WAYS = {
    "exact": lambda: credo.fit(hierarchy, None, X),
    "full rank": lambda: credo.fit(hierarchy, "full_rank", X),
    "autonormal": lambda: fitted(hierarchy, AutoNormal(hierarchy, init_scale=1.0), X),
    "weighted": lambda: fitted(hierarchy, "mean_field", X).reweighted,
}


@pytest.mark.parametrize("way", WAYS)
def test_latents_of_rows_that_are_drawn_together_with_the_shared_ones(way):
    """p(x_n | q(m)) = N(mean m, 5/4 + var m): a joint draw has no density of one row, so z_n comes from the model."""
    fit = WAYS[way]()
    q = fit.sample(20_000)["m"].double()
    wanted = Normal(q.mean(), (1.25 + q.var()).sqrt())
    for rows in (X,) if way == "autonormal" else (X, NEW, torch.cat([X, NEW])):
        found = credo.log_likelihood(fit, 4000, rows)
        assert found.values.shape == rows.shape and found.errors.max() < 0.1
        assert ((found.values - wanted.log_prob(rows.double())).abs() <= 5 * found.errors + 0.02).all()


def test_data_without_rows_have_no_likelihood_of_a_row():
    def scalar(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    with pytest.raises(ValueError, match="log_likelihood: the data holds no tensor with rows"):
        credo.log_likelihood(credo.fit(scalar, None, X[0]), 10)


def test_latents_of_groups_are_no_latents_of_rows():
    """Effects of two groups of two rows, drawn together with the mean: each keeps its posterior."""

    def groups(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("G", 2):
            z = pyro.sample("z", dist.Normal(m, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(z[torch.arange(len(x)) % 2], 0.5), obs=x)

    fit = credo.fit(groups, None, X)
    z = fit.exact.marginals["z"]
    wanted = Normal(z.mean[torch.arange(4) % 2], (0.25 + z.variance[torch.arange(4) % 2]).sqrt())
    found = credo.log_likelihood(fit, 4000)
    assert ((found.values - wanted.log_prob(X.double())).abs() <= 5 * found.errors).all()


def test_masks_of_rows_that_count_once_are_those_of_the_guide():
    """By all four masks of the inputs of a linear layer: the posterior predictive, whatever the prior's rate."""
    pair, rate = credo.load("bnn_dropout"), 0.4
    net, x, y = torch.nn.Linear(2, 2), torch.tensor([[1.0, -2.0], [0.5, 3.0]] * 5), torch.tensor([0, 1] * 5)
    shared = {"shared": False, "once": True}
    programs = partial(pair.model, rate=rate, **shared), partial(pair.guide, rate=0.1, learn=True, **shared)
    fit = credo.fit(*programs, net, x, y, steps=2, progress=False, compile=False)
    exact, r = 0.0, float(fit.params["weight.rate"])
    for keep in product((0.0, 1.0), repeat=2):
        logits = x * torch.tensor(keep) / (1 - rate) @ fit.params["weight.value"].T + fit.params["bias.value"]
        share = (1 - r) ** sum(keep) * r ** (2 - sum(keep))
        exact = exact + share * logits.softmax(-1)[torch.arange(10), y]
    for rows in (10, 4):  # those of the fit, and new ones, of which N is still that of the fit
        found = credo.log_likelihood(fit, 4000, net, x[:rows], y[:rows])
        assert ((found.values - exact[:rows].log()) / found.errors).abs().max() <= 4.5
