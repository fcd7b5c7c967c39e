"""The runner for a loop of one's own, and what it makes of the less usual programs that Pyro allows."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.distributions import constraints

import credo
from tests.cases.interruptions import Armed, breaking

Y = torch.tensor([1.0, 2.0, 0.3])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y):
    loc = pyro.param("loc", torch.tensor(0.3))
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def factored(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("fit", dist.Normal(z, 1.0).log_prob(y).sum())


def by_steps(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    for i in pyro.plate("N", len(y)):
        pyro.sample(f"y_{i}", dist.Normal(z, 1.0), obs=y[i])


def named(y):
    z = pyro.deterministic("twice", 2 * pyro.sample("z", dist.Normal(0.0, 1.0)))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z / 2, 1.0), obs=y)


def weighted(y):
    """The first and the last row count twice, the second not at all."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)), poutine.scale(scale=2.0), poutine.mask(mask=torch.tensor([True, False, True])):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


ALL = (1 + 3, 1 * Y.sum())
PROGRAMS = {  # precision of z given y, and precision times mean
    "a plate": (model, ALL),
    "a factor": (factored, ALL),
    "a loop over rows": (by_steps, ALL),
    "a deterministic site": (named, ALL),
    "scale and mask": (weighted, (1 + 2 * 2, 2 * (Y[0] + Y[2]))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_way_to_write_a_model_finds_its_posterior(name):
    program, (precision, total) = PROGRAMS[name]
    fit = credo.fit(program, guide, Y, steps=600, lr=0.05)
    assert fit.params["loc"].item() == pytest.approx(total.item() / precision, abs=0.05 * precision**-0.5)
    assert fit.params["scale"].item() == pytest.approx(precision**-0.5, rel=0.03)


def test_steps_of_ones_own_are_recorded_and_evaluation_changes_nothing():
    runner = credo.SVI(model, guide)
    assert runner.params == {} and runner.plan is None
    losses = [runner.step(Y) for _ in range(5)]
    before = runner.params
    assert [type(loss) for loss in losses] == [float] * 5 and losses == runner.losses
    assert np.isfinite(runner.evaluate_loss(Y)) and len(runner.losses) == 5
    assert all(torch.equal(before[name], value) for name, value in runner.params.items())


@pytest.mark.parametrize("overrides", [None, {"z": "score"}], ids=["pathwise", "score"])
def test_the_evaluated_loss_is_minus_the_elbo(overrides):
    """log p(y) - ELBO = KL(N(0.3, 0.5^2) || N(sum y / 4, 0.5^2)), log p(y) = log N(y; 0, 1 + I)."""
    runner = credo.SVI(model, guide, plan=overrides, particles=20)
    found = torch.tensor([runner.evaluate_loss(Y) for _ in range(30)])
    joint = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3) + 1)
    exact = -joint.log_prob(Y) + (0.3 - Y.sum() / 4) ** 2 / 2 / 0.25
    assert found.mean().item() == pytest.approx(exact.item(), abs=5 * found.std().item() / 30**0.5)


KINDS = {
    "NumPy": lambda: np.array([1.0, 2.0, 0.3]),
    "NumPy, single": lambda: np.array([1.0, 2.0, 0.3], dtype=np.float32),
    "pandas": lambda: pd.Series([1.0, 2.0, 0.3]),
    "torch": lambda: torch.tensor([1.0, 2.0, 0.3]),
    "torch, double": lambda: torch.tensor([1.0, 2.0, 0.3], dtype=torch.float64),
}


@pytest.mark.filterwarnings("ignore:the steps get different data")  # on purpose
@pytest.mark.parametrize("kind", KINDS)
def test_a_buffer_that_is_filled_anew_between_steps_is_seen(kind):
    buffer = KINDS[kind]()
    runner = credo.SVI(model, guide)
    runner.step(buffer)
    buffer[:] = buffer + 100
    assert runner.step(buffer) > 10_000  # each of three rows is a hundred sds away


def test_batches_of_any_size_follow_each_other():
    runner = credo.SVI(model, guide, particles=200)
    for n in (3, 1, 7, 3):
        y = torch.ones(n)
        params = runner.params
        m, s = float(params.get("loc", 0.3)), float(params.get("scale", 0.5))
        square = (1 - m) ** 2 + s**2  # E_q[-log N(1; z, 1)], the rest is KL(q || N(0, 1))
        exact = n * (0.5 * square + 0.5 * np.log(2 * np.pi)) + 0.5 * (m**2 + s**2 - 1) - np.log(s)
        assert runner.step(y) == pytest.approx(exact, abs=0.1 + 0.2 * n)


def test_a_run_that_diverges_keeps_the_average_of_its_last_finite_block():
    broken = Armed(model, breaking(after=99))
    diverging = credo.SVI(broken, guide, plan="fast")
    diverging.prepare(Y)
    broken.calls = 0  # from here each run of the model is a step
    with pytest.raises(credo.Diverged) as caught:
        diverging.run(Y)
    fit, runner = caught.value.fit, credo.SVI(model, guide, plan="fast")
    iterates = []
    for loss in fit.losses:
        assert runner.step(Y) == loss
        iterates.append(runner.params["loc"].item())
    end = len(iterates) // 25 * 25  # blocks of 25 steps; of three the last quarter is one
    assert fit.params["loc"].item() == pytest.approx(sum(iterates[end - 25 : end]) / 25, abs=1e-6)


class Late:
    """Makes its second parameter from its 300th call on; `branch` keeps it from running all at once."""

    def __init__(self, branch: bool) -> None:
        self.calls, self.branch = 0, branch

    def __call__(self, y):
        self.calls += 1
        loc = pyro.param("loc", torch.tensor(0.3))
        scale = pyro.param("late", torch.tensor(-2.0)).exp() if self.calls > 300 else 0.1
        z = pyro.sample("z", dist.Normal(loc, scale))
        if self.branch and z > 1e6:
            raise AssertionError


@pytest.mark.parametrize(
    ("steps", "branch"),
    [
        pytest.param(800, False, id="800-at once"),
        pytest.param(800, True, id="800-one by one"),
        pytest.param(None, False, id="until converged-at once"),
        pytest.param(None, True, id="until converged-one by one", marks=pytest.mark.slow),
    ],
)
def test_a_parameter_made_later_is_trained_too(steps, branch):
    fit = credo.fit(model, Late(branch), Y, steps=steps, lr=0.05)
    assert fit.params["loc"].item() == pytest.approx(Y.sum().item() / 4, abs=0.05)
    assert fit.params["late"].exp().item() == pytest.approx(0.5, rel=0.05)


def learnt(net, x, y):
    pyro.module("net", net)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(net(x).squeeze(-1), 1.0), obs=y)


def test_another_network_than_the_first_is_trained_or_refused_but_not_passed_over():
    """Say a network built anew in the loop: the run knows the first one, and the parameters belong to it."""
    runner, x = credo.SVI(learnt, lambda net, x, y: None), Y[:, None]
    runner.step(nn.Linear(1, 1), x, Y + 5)
    other = nn.Linear(1, 1)
    try:
        losses = [runner.step(other, x, Y + 5) for _ in range(10)]
    except ValueError as error:
        assert "net" in str(error)
        return
    assert losses[-1] < losses[0]


class VAE(nn.Module):
    """A linear autoencoder: x ~ N(d z + c, 1), z ~ N(0, 1), with q(z | x) = N(a x + b, s^2) for every x."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder, self.decoder = nn.Linear(1, 1), nn.Linear(1, 1)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z).squeeze(-1), 1.0), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("N", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x[:, None]), scale).to_event(1))


def test_a_network_in_the_guide_learns_the_posterior_of_every_row():
    """Of z given x: precision 1 + d^2, mean d (x - c) / (1 + d^2), with the decoder as it was learnt."""
    x, vae = 2.0 * torch.randn(60, generator=torch.Generator().manual_seed(0)) + 1, VAE()
    fit = credo.fit(vae.model, vae.guide, x, steps=1500, lr=0.05)
    d, c = fit.params["decoder$$$weight"].item(), fit.params["decoder$$$bias"].item()
    a, b = fit.params["encoder$$$weight"].item(), fit.params["encoder$$$bias"].item()
    # and the decoder is the one of most likelihood: x ~ N(c, 1 + d^2)
    assert (c, 1 + d**2) == pytest.approx((x.mean().item(), x.var(correction=0).item()), rel=0.05)
    assert a == pytest.approx(d / (1 + d**2), abs=0.02)
    assert b == pytest.approx(-d * c / (1 + d**2), abs=0.05)
    assert fit.params["scale"].item() == pytest.approx((1 + d**2) ** -0.5, rel=0.03)
    assert fit.predict(3, torch.zeros(5))["x"].shape == (3, 5)
