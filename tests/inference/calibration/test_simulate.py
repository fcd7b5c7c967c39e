"""Data sets from a model: their moments, autoregressions by hand, and models of which no data can be drawn."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.calibration.origins import origins
from credo.inference.calibration.simulate import simulate
from tests.cases import calibration as cases

S = 2000


def simulated(model, *data, S=S, seed=0):
    names = [f"argument {i}" for i in range(len(data))]
    return simulate(model, data, origins(model, data, names), S, seed, names)


def test_moments_are_those_of_the_model():
    found = simulated(cases.normal_mean, cases.Y)
    m, y = found.latents["m"], found.arguments[0]
    assert m.mean().item() == pytest.approx(0, abs=4 * cases.SD / S**0.5)
    assert m.std().item() == pytest.approx(cases.SD, rel=4 / (2 * S) ** 0.5)
    assert (y - m[:, None]).std().item() == pytest.approx(1, rel=4 / (2 * y.numel()) ** 0.5)


def walk_in_a_loop(y):
    a = pyro.sample("a", dist.Normal(0.0, 0.5))
    for t in range(1, len(y)):
        pyro.sample(f"y_{t}", dist.Normal(a * y[t - 1], 1.0), obs=y[t])


def garch(y):
    b = pyro.sample("b", dist.Beta(2.0, 2.0))
    scale = torch.ones(())
    for t in range(len(y)):
        pyro.sample(f"y_{t}", dist.Normal(0.0, scale), obs=y[t])
        scale = (1 + b * y[t] ** 2).sqrt()


@pytest.mark.parametrize("model", [cases.walk, walk_in_a_loop], ids=["vectors", "loop"])
def test_an_autoregression_reads_what_was_drawn_before(model):
    start = torch.tensor([3.0, 0, 0, 0, 0])
    found = simulated(model, start)
    a, y = found.latents["a"][:, None], found.arguments[0]
    assert (y[:, 0] == 3).all()  # it is observed by no site
    noise = y[:, 1:] - a * y[:, :-1]
    assert noise.std().item() == pytest.approx(1, rel=0.05)
    assert (noise * y[:, :-1]).mean().abs().item() < 0.15
    assert y[:, 4].var().item() > y[:, 4].sub(a[:, 0] ** 4 * 3).var().item()


def test_a_scale_that_grows_with_the_draw_before():
    found = simulated(garch, torch.zeros(4))
    y, b = found.arguments[0], found.latents["b"]
    scaled = y[:, 3] / (1 + b * y[:, 2] ** 2).sqrt()
    assert scaled.std().item() == pytest.approx(1, rel=0.05)


def branching(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    scale = 1.0 if z > 0 else 2.0
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, scale), obs=y)


def test_a_model_that_vmap_does_not_take_runs_in_a_loop():
    found = simulated(branching, torch.zeros(50), S=40)
    spread = (found.arguments[0] - found.latents["z"][:, None]).std(1)
    assert spread[found.latents["z"] > 0].mean() < 1.2 < 1.8 < spread[found.latents["z"] < 0].mean()


def test_the_same_seed_draws_the_same():
    one, two, other = (simulated(cases.counts, cases.Y, S=30, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.arguments[0], two.arguments[0])
    assert not torch.equal(one.arguments[0], other.arguments[0])


def own_prior(y):
    m = pyro.sample("m", dist.Normal(y.mean(), 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def own_scale(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 0.1 + 0.5 * y.std()), obs=y)


def improper(y):
    m = pyro.sample("m", dist.ImproperUniform(dist.constraints.real, (), ()))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def masked(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0).mask(False))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def sometimes(y):
    if pyro.sample("k", dist.Bernoulli(0.5)) > 0:
        pyro.sample("extra", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (own_prior, "site 'm': its prior depends on argument 0"),
        (own_scale, "site 'y' from 'argument 0'"),
        (improper, r"site 'm': ImproperUniform has no draws \(an improper prior\)"),
        (masked, "site 'm': its prior is masked"),
        (sometimes, "other sites in one run"),
    ],
)
def test_models_without_data_are_refused(model, words):
    with pytest.raises(ValueError, match=words):
        simulated(model, torch.arange(5.0), S=30)


def test_a_mask_that_nothing_depends_on_is_no_improper_prior():
    def model(y):
        with pyro.plate("two", 2), pyro.poutine.mask(mask=torch.tensor([True, False])):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z[0], 1.0), obs=y)

    assert simulated(model, torch.arange(5.0), S=30).latents["z"].shape == (30, 2)
