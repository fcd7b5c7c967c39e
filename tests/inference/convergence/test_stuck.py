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


NOTHING = "parameter 'unused' gets no gradient, since nothing uses it"


def test_a_run_with_a_parameter_that_nothing_uses_is_not_converged():
    def guide(x):
        pyro.param("unused", torch.zeros(3))
        guide_with(lambda m: m)(x)

    with pytest.warns(UserWarning, match="'unused'") as caught:
        fit = credo.fit(model, guide, X, progress=False)
    assert not fit.converged and fit.stopped.startswith(f"not converged: {NOTHING}")
    assert len(caught) == 1  # one word, once
    assert fit.summary().loc["z", "mean"] == pytest.approx(X.double().sum().item() * SD**2, abs=0.1 * SD)


def net_with(head, frozen=False):
    """A linear model through the first layer of a network; `head` is whether its second layer is in the forward."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(1, 2), torch.nn.Linear(2, 1)
            self.second.requires_grad_(not frozen)

        def forward(self, x):
            return self.second(self.first(x)) if head else self.first(x)[:, :1]

    def observed(x):
        mean = pyro.module("net", network)(x[:, None])[:, 0]
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(mean + z, 1.0), obs=2 * x)

    network = Net().train(not frozen)  # Pyro warns of frozen layers of a network in training mode
    return observed


def test_a_layer_that_forward_forgets_is_named():
    with pytest.warns(UserWarning, match=r"'net.*second.* gets no gradient"):
        fit = credo.fit(net_with(head=False), guide_with(lambda m: m), X, progress=False)
    assert fit.stopped.startswith("not converged: parameter 'net$$$second.weight' gets no gradient, since nothing")


def test_a_frozen_layer_converges():
    assert credo.fit(net_with(head=False, frozen=True), guide_with(lambda m: m), X, progress=False).converged


def flat_prior(x):
    """A MAP of a location with a second parameter on which nothing but a flat density depends: its gradient is zero."""
    m = pyro.param("m", torch.tensor(0.0))
    free = pyro.param("free", torch.tensor(0.5))
    z = pyro.sample("z", dist.Normal(m, 1.0))
    pyro.factor("flat", 0.0 * free)
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def shown_only(x):
    """A parameter that only `pyro.deterministic` shows."""
    pyro.deterministic("shown", pyro.param("free", torch.tensor(0.5)) * 2)
    model(x)


@pytest.mark.parametrize("sound", [flat_prior, shown_only])
def test_a_parameter_with_a_gradient_of_zero_or_a_deterministic_site_converges(sound):
    assert credo.fit(sound, guide_with(lambda m: m) if sound is shown_only else point, X, progress=False).converged


def point(x):
    pyro.sample("z", dist.Normal(pyro.param("l", torch.tensor(0.0)), pyro.param("s", torch.tensor(0.2))))


def test_rows_of_an_embedding_that_no_observation_has_converge():
    """Rows 3 and 4 of the table have a gradient of zero."""
    group = torch.arange(50) % 3

    def grouped(x):
        table = pyro.param("table", torch.zeros(5))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(z + table[group], 1.0), obs=x)
        pyro.factor("ridge", -0.5 * (table[:3] ** 2).sum())

    fit = credo.fit(grouped, guide_with(lambda m: m), X, progress=False)
    assert fit.converged and not fit.params["table"][3:].any()
