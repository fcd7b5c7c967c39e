"""Programs of short.py with networks: autoencoders, a deep Markov model, a Bayesian network.

Each function returns a `Case`. Every call makes new data and new networks from the same seed.
"""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from _short_regressions import POSITIVE, Case
from pyro.infer import TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate
from torch import nn

LATENTS = 5


class Gauss(nn.Module):
    """x -> the mean and the sd of a normal, by one hidden layer."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden, self.loc, self.scale = (nn.Linear(inputs, hidden), *(nn.Linear(hidden, outputs) for _ in "ab"))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = F.softplus(self.hidden(x))
        return self.loc(h), torch.exp(self.scale(h))


def _net(inputs: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Softplus(), nn.Linear(hidden, outputs))


def autoencoder() -> Case:
    """VAE of 8 x 8 binary images: 64-100-5 and back. N = 128."""
    torch.manual_seed(20)
    x = torch.bernoulli(torch.rand(128, 64))
    encoder, decoder = Gauss(64, 100, LATENTS), _net(LATENTS, 100, 64)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENTS), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("N", len(x)):
            pyro.sample("z", dist.Normal(*encoder(x)).to_event(1))

    return Case(model, guide, (x,), TraceMeanField_ELBO)


def conditional_autoencoder() -> Case:
    """CVAE: the lower half of a picture given the upper one, with a prior network. N = 100."""
    torch.manual_seed(21)
    x, y = torch.bernoulli(torch.rand(100, 32)), torch.bernoulli(torch.rand(100, 32))
    prior, recognition, decoder = Gauss(32, 64, LATENTS), Gauss(64, 64, LATENTS), _net(LATENTS + 32, 64, 32)

    def model(x, y):
        pyro.module("prior", prior)
        pyro.module("decoder", decoder)
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(*prior(x)).to_event(1))
            pyro.sample("y", dist.Bernoulli(logits=decoder(torch.cat([z, x], -1))).to_event(1), obs=y)

    def guide(x, y):
        pyro.module("recognition", recognition)
        with pyro.plate("N", len(x)):
            pyro.sample("z", dist.Normal(*recognition(torch.cat([x, y], -1))).to_event(1))

    return Case(model, guide, (x, y))


def half_labelled() -> Case:
    """Semi-supervised VAE: of 80 pictures 40 have labels; the class of the others is summed over in the guide."""
    torch.manual_seed(22)
    x, x_known, y = torch.bernoulli(torch.rand(40, 64)), torch.bernoulli(torch.rand(40, 64)), torch.randint(4, (40,))
    classifier, encoder, decoder = _net(64, 50, 4), Gauss(68, 50, LATENTS), _net(LATENTS + 4, 50, 64)

    def with_class(t, k):
        """t and the class k beside it; Pyro puts all values of k in front of the plate."""
        hot = F.one_hot(k, 4).to(t.dtype)
        shape = torch.broadcast_shapes(t.shape[:-1], hot.shape[:-1])
        return torch.cat([t.expand(*shape, -1), hot.expand(*shape, -1)], -1)

    def model(x, x_known, y):
        pyro.module("decoder", decoder)
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.ones(4) / 4))
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENTS), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(with_class(z, k))).to_event(1), obs=x)
        with pyro.plate("M", len(x_known)):
            k = pyro.sample("y", dist.Categorical(torch.ones(4) / 4), obs=y)
            z = pyro.sample("z_known", dist.Normal(x.new_zeros(LATENTS), 1.0).to_event(1))
            pyro.sample("x_known", dist.Bernoulli(logits=decoder(with_class(z, k))).to_event(1), obs=x_known)

    @config_enumerate
    def guide(x, x_known, y):
        pyro.module("classifier", classifier)
        pyro.module("encoder", encoder)
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Categorical(logits=classifier(x)))
            pyro.sample("z", dist.Normal(*encoder(with_class(x, k))).to_event(1))
        with pyro.plate("M", len(x_known)):
            pyro.sample("z_known", dist.Normal(*encoder(with_class(x_known, y))).to_event(1))

    return Case(model, guide, (x, x_known, y), lambda: TraceEnum_ELBO(max_plate_nesting=1))


def deep_markov() -> Case:
    """A deep Markov model: transitions and emissions by networks, a recurrent guide. 20 sequences of 8 times."""
    torch.manual_seed(23)
    x = torch.bernoulli(torch.rand(20, 8, 12))
    transition, emission, combiner = Gauss(4, 16, 4), _net(4, 16, 12), Gauss(4 + 16, 16, 4)
    recurrent = nn.RNN(12, 16, batch_first=True)

    def model(x):
        pyro.module("transition", transition)
        pyro.module("emission", emission)
        with pyro.plate("N", len(x)):
            z = x.new_zeros(len(x), 4)
            for t in pyro.markov(range(x.shape[1])):
                z = pyro.sample(f"z{t}", dist.Normal(*transition(z)).to_event(1))
                pyro.sample(f"x{t}", dist.Bernoulli(logits=emission(z)).to_event(1), obs=x[:, t])

    def guide(x):
        pyro.module("recurrent", recurrent)
        pyro.module("combiner", combiner)
        h, _ = recurrent(x.flip(1))
        with pyro.plate("N", len(x)):
            z = x.new_zeros(len(x), 4)
            for t in pyro.markov(range(x.shape[1])):
                loc, scale = combiner(torch.cat([z, h[:, -1 - t]], -1))
                z = pyro.sample(f"z{t}", dist.Normal(loc, scale).to_event(1))

    return Case(model, guide, (x,))


def bayesian_network() -> Case:
    """A Bayesian network 2-20-20-1 for regression, mean field written by hand. N = 100."""
    torch.manual_seed(24)
    x = torch.randn(100, 2)
    y = torch.sin(2 * x[:, 0]) * x[:, 1] + 0.1 * torch.randn(100)
    shapes = {"w1": (2, 20), "b1": (20,), "w2": (20, 20), "b2": (20,), "w3": (20, 1), "b3": (1,)}

    def model(x, y):
        w = {name: pyro.sample(name, dist.Normal(torch.zeros(s), 1.0).to_event(len(s))) for name, s in shapes.items()}
        h = torch.tanh(torch.tanh(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"])
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal((h @ w["w3"] + w["b3"])[:, 0], 0.1), obs=y)

    def guide(x, y):
        for name, s in shapes.items():
            loc = pyro.param(f"{name}.loc", 0.1 * torch.randn(s))
            scale = pyro.param(f"{name}.scale", torch.full(s, 0.05), constraint=POSITIVE)
            pyro.sample(name, dist.Normal(loc, scale).to_event(len(s)))

    return Case(model, guide, (x, y))


NETWORKS = (autoencoder, conditional_autoencoder, half_labelled, deep_markov, bayesian_network)
