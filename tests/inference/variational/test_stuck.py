"""A parameter that gets no gradient though it matters is named; one that is best where it is, or unused, is not."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo

X = torch.randn(50, generator=torch.Generator().manual_seed(0)) + 2
SD = (50 + 1 / 10**2) ** -0.5


def model(x):
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide_with(loc):
    def guide(x):
        m = pyro.param("m", torch.tensor(-1.0))
        pyro.sample("z", dist.Normal(loc(m), pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)))

    return guide


@pytest.mark.parametrize(
    "loc", [torch.Tensor.detach, torch.Tensor.item, torch.round, torch.relu], ids=["detach", "item", "round", "relu"]
)
def test_a_parameter_without_gradient_that_should_move_is_named(loc):
    with pytest.warns(UserWarning, match="parameter 'm' gets no gradient"):
        fit = credo.fit(model, guide_with(loc), X, progress=False)
    assert not fit.converged and fit.stopped.startswith("not converged: parameter 'm' gets no gradient")


@pytest.mark.parametrize(
    "loc",
    [lambda m: m, lambda m: 2 + torch.sigmoid(m) - 0.5, torch.nn.functional.softplus],
    ids=["own", "logit", "soft"],
)
def test_a_parameter_that_can_move_is_at_its_optimum(loc):
    fit = credo.fit(model, guide_with(loc), X, progress=False)
    assert fit.converged
    assert loc(fit.params["m"]).item() == pytest.approx(X.double().sum().item() * SD**2, abs=0.05 * SD)


def test_the_gradient_of_an_exact_optimum_is_zero_and_nothing_is_stuck():
    """The prior is the posterior, the guide starts there: the analytic KL has no gradient at all."""

    def alone(x):
        pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x):
        m = pyro.param("m", torch.tensor(0.0))
        pyro.sample("z", dist.Normal(m, pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)))

    assert credo.fit(alone, guide, torch.tensor(0.0), progress=False).converged


def test_a_parameter_that_nothing_reads_is_not_stuck():
    def guide(x):
        pyro.param("unused", torch.zeros(3))
        guide_with(lambda m: m)(x)

    with pytest.warns(UserWarning, match="'unused'") as caught:
        fit = credo.fit(model, guide, X, progress=False)
    assert fit.converged and not any("not converged" in str(warning.message) for warning in caught)
