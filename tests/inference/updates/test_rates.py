"""Learning rates by name, compared with torch's own loops and with the posterior in closed form."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.updates.optimiser import optimiser
from credo.inference.updates.rates import checked_rates, grouped, rate_of
from credo.inference.updates.update import limit_rates, update
from tests.cases.elbo.expectations import observe, param

X = torch.tensor([1.0, 2.0, 3.0])


def model(y):
    a, b = pyro.sample("a", dist.Normal(0.0, 1.0)), pyro.sample("b", dist.Normal(0.0, 0.1))
    observe(y, a + b)


def points(y):
    pyro.sample("a", dist.Delta(param("first.loc", 3.0)))
    pyro.sample("b", dist.Delta(param("second.loc", 1.0)))


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("optim", [None, partial(torch.optim.SGD, momentum=0.5)], ids=["Adam", "SGD"])
def test_a_run_with_rates_by_name_is_a_loop_of_torch_with_parameter_groups(compile, optim):
    """At a point the loss has no noise, so each iterate is that of torch."""
    svi = credo.SVI(model, points, optim, lr={"second.*": 0.002, "*": 0.05}, particles=1, plan="fast", compile=compile)
    path = []
    for _ in range(40):
        svi.step(X)
        path.append([svi.params["first.loc"].item(), svi.params["second.loc"].item()])
    a, b = torch.tensor(3.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    groups = [{"params": [a], "lr": 0.05}, {"params": [b], "lr": 0.002}]
    kind = partial(torch.optim.SGD, momentum=0.5) if optim else partial(torch.optim.Adam, betas=(0.9, 0.99))
    adam, expected = kind(groups, lr=0.05), []
    for _ in range(40):
        adam.zero_grad()
        (a**2 / 2 + b**2 / 0.02 + ((X - a - b) ** 2).sum() / 2).backward()
        adam.step()
        expected.append([a.item(), b.item()])
    assert torch.tensor(path).allclose(torch.tensor(expected), atol=2e-5)


def test_layers_of_other_units_reach_the_posterior_in_closed_form_by_rates_of_their_own():
    """y = (1000 a, b / 1000) + noise: the posterior mean is (y1 / 2000, 500 y2), with sds of 7e-4 and 700.

    Gradient descent contracts by 1 - 2e6 rate in a, by 1 - 2e-6 rate in b: no one rate does for both.
    """

    def layers(y):
        a, b = pyro.sample("a", dist.Normal(0.0, 1e-3)), pyro.sample("b", dist.Normal(0.0, 1e3))
        with pyro.plate("N", 2):
            pyro.sample("y", dist.Normal(torch.stack([1e3 * a, 1e-3 * b]), 1.0), obs=y)

    def guide(y):
        pyro.sample("a", dist.Delta(param("narrow.loc", 0.0)))
        pyro.sample("b", dist.Delta(param("wide.loc", 0.0)))

    y = torch.tensor([4.0, -6.0])

    def found(lr):
        svi = credo.SVI(layers, guide, torch.optim.SGD, lr=lr, particles=1, plan="fast", compile=False)
        for _ in range(40):
            svi.step(y)
        return svi.params["narrow.loc"].item() / 2e-3, svi.params["wide.loc"].item() / -3e3

    assert found({"narrow.*": 2e-7, "wide.*": 2e5}) == pytest.approx((1, 1), abs=1e-4)
    assert found(2e-7) == pytest.approx((1, 0), abs=1e-4)  # b has not moved


def test_the_first_pattern_that_matches_decides():
    rates = {"0.weight.*": 0.1, "0.*": 0.2, "*.scale": 0.3}
    names = ["0.weight.loc", "0.bias.scale", "2.weight.scale", "2.weight.loc"]
    assert [rate_of(name, rates, 0.02) for name in names] == [0.1, 0.2, 0.3, 0.02]


@pytest.mark.parametrize(
    ("rates", "what"),
    [
        ({"third.*": 0.1}, r"'third.\*', which matches no parameter; the parameters are 'first.loc', 'second.loc'"),
        ({"*": 0.1, "first.*": 0.2}, r"'first.\*', whose parameters earlier patterns match; put it before them"),
        ({}, "no pattern"),
        ({"*": 0.0}, r"got 0.0 for '\*', wanted a positive number"),
        ({"*": True}, r"got True for '\*', wanted a positive number"),
        ({3: 0.1}, "got pattern 3, wanted text"),
    ],
)
def test_what_decides_no_rate_is_refused(rates, what):
    with pytest.raises(ValueError, match=f"lr: .*{what}"):
        credo.SVI(model, points, lr=rates, compile=False).step(X)


def test_natural_gradients_take_one_rate():
    with pytest.raises(ValueError, match=r"lr: got a rate for each of \['\*'\], which optim='natural' does not take"):
        checked_rates({"*": 0.1}, "natural")


def test_parameters_without_a_name_are_refused():
    with pytest.raises(ValueError, match="1 parameters without a name"):
        grouped([torch.zeros(1, requires_grad=True)], {"*": 0.1}, 0.02)


def test_a_parameter_made_by_a_later_step_has_the_rate_of_its_name():
    a = pyro.param("a", torch.tensor(2.0))
    sgd = optimiser(torch.optim.SGD, {"a": 0.1})([a])
    sgd.defaults["rates"] = {"a": 0.1, "b*": 0.01}  # b is not there when the patterns are checked

    def loss():
        value = pyro.param("a") * pyro.param("b1", torch.tensor(3.0)) * pyro.param("c", torch.tensor(5.0))
        return value.item(), value

    update(sgd, loss)
    found = [pyro.param(name).item() for name in ("a", "b1", "c")]
    assert found == pytest.approx([2 - 0.1 * 15, 3 - 0.01 * 10, 5 - 0.02 * 6])


def test_rates_that_fall_for_narrow_optima_keep_their_own_proportions():
    a, b, c = (pyro.param(name, torch.zeros(1)) for name in "abc")
    adam = optimiser(None, {"a": 0.1, "*": 0.01})([a, b, c])
    for group in adam.param_groups:
        group["lr"] *= 0.5  # as a run does where it comes to rest
    limit_rates(adam, torch.tensor([1.0, 1.0, 1e-4]), 0.5)
    rates = {id(p): group["lr"] for group in adam.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in (a, b, c)] == pytest.approx([0.05, 0.005, 0.5 * 0.2 * 1e-4])
    limit_rates(adam, torch.ones(3), 0.25)
    rates = {id(p): group["lr"] for group in adam.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in (a, b, c)] == pytest.approx([0.025, 0.0025, 0.0025])
