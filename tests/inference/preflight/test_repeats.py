"""Noise and counters outside of sample sites are warned of with their line; noise that is meant is not."""

import random
import time

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.nn import functional

import credo
from tests.cases.checked import X, belief, positive, warned, world

CALLS = [0]


def shifted(noise):
    """x ~ N(mu + noise(), 1): with noise of sd 1 the posterior sd of mu is 1.01, not .16."""

    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        e = noise()
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mu + e, 1.0), obs=x)

    return model


def counted():
    CALLS[0] += 1
    return 1 / CALLS[0]


OWN = {
    "numpy": np.random.default_rng(0),
    "old": np.random.RandomState(0),
    "python": random.Random(0),
    "torch": torch.Generator().manual_seed(0),
}
LINES = {
    "torch.randn": lambda: torch.randn(()),
    "rsample": lambda: dist.Normal(0.0, 1.0).rsample(),
    "in place": lambda: torch.zeros(()).normal_(),
    "NumPy": lambda: float(np.random.normal()),
    "Python": lambda: random.gauss(0.0, 1.0),
    "own, of NumPy": lambda: float(OWN["numpy"].normal()),
    "own, of NumPy's old kind": lambda: OWN["old"].randn(),
    "own, of Python": lambda: OWN["python"].gauss(0.0, 1.0),
    "own, of torch": lambda: torch.randn((), generator=OWN["torch"]),
}


@pytest.mark.parametrize("kind", LINES)
def test_noise_outside_of_a_site_is_warned_of_with_its_line(kind):
    found = warned(shifted(LINES[kind]), belief, X)
    assert "test_repeats.py" in found and "site 'x' has another density" in found and LINES[kind] is not None


def test_the_warning_comes_at_the_line_of_the_call():
    with pytest.warns(UserWarning, match=r"e = noise\(\)|torch.randn.*outside of a sample site") as caught:
        credo.fit(shifted(lambda: torch.randn(())), belief, X, steps=2)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("noise", [counted, lambda: time.time_ns() % 1000 / 1000], ids=["a counter", "a clock"])
def test_a_program_that_does_not_repeat_itself_is_warned_of_without_a_line(noise):
    assert "does it count its calls" in warned(shifted(noise), belief, X)


def by_hand(x):
    """A draw made by hand has no density: the entropy of the guide is lost."""
    pyro.sample("mu", dist.Delta(pyro.param("m", torch.tensor(0.0)) + positive("s") * torch.randn(())))


def noisy(x):
    pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.0)) + torch.randn(()), positive("s")))


@pytest.mark.parametrize("guide", [by_hand, noisy])
def test_noise_in_the_guide_is_warned_of(guide):
    assert "the guide draws random numbers outside of a sample site" in warned(world, guide, X)


def made_up(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", 40):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=torch.randn(40))


def test_data_that_the_model_makes_up_anew_is_warned_of():
    assert "test_repeats.py" in warned(made_up, belief, X)


def own_indices(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    index = torch.randperm(len(x))[:10]
    with pyro.plate("rows", len(x), subsample=index):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x[index])


def own_scale(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    index = torch.as_tensor(np.random.choice(len(x), 10))
    with poutine.scale(scale=len(x) / 10), pyro.plate("rows", 10):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x[index])


def subsampled(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x), subsample_size=10) as index:
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x[index])


def dequantised(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x + 0.5 * torch.rand_like(x))


def annealed(x):
    with poutine.scale(scale=min(1.0, 10 * counted())):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


DROP = nn.Dropout(0.5)


def dropped(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu + functional.dropout(DROP(0.01 * x), 0.5), 1.0), obs=x)


def hidden_by_chance(x):
    """F.dropout of the latent itself: the rows see mu or 0, twice as large."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(functional.dropout(mu.expand(len(x)), 0.5), 1.0), obs=x)


class Decoder(nn.Module):
    """Dropout of activations that are computed from a latent, as layers and as functions."""

    def __init__(self):
        super().__init__()
        self.layer, self.drop = nn.Linear(1, 40), nn.Dropout(0.1)

    def forward(net, z):  # whatever its first argument is called
        return functional.dropout(net.drop(net.layer(z[None])), 0.1, training=net.training) + functional.dropout(z)


DECODER = Decoder()


def decoded(x):
    pyro.module("decoder", DECODER)
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(DECODER(mu), 1.0), obs=x)


def test_dropout_of_a_latent_is_warned_of_and_that_of_a_network_is_not():
    found = warned(hidden_by_chance, belief, X)
    assert "test_repeats.py" in found and "outside of a sample site" in found and "functional.dropout(mu" in found
    assert warned(decoded, belief, X) == ""


@pytest.mark.parametrize("model", [own_indices, own_scale, subsampled, dequantised, annealed, dropped])
def test_noise_that_is_meant_is_fine(model):
    assert warned(model, belief, X) == ""


def test_noise_in_a_site_is_fine():
    def guide(x):
        e = pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        scale = positive("s")
        pyro.sample("mu", dist.Delta(pyro.param("m", torch.tensor(0.0)) + scale * e, log_density=-scale.log()))

    assert warned(world, guide, X) == ""
