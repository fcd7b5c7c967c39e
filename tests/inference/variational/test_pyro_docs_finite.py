"""The enumeration tutorial and the auto-encoders of Pyro's documentation, small, without the name of an ELBO.

Oracles: sums over all values, quadrature over the one hidden number of an auto-encoder.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import config_enumerate
from pyro.infer.autoguide import AutoDelta
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.distributions import constraints as c

import credo
from tests.cases.elbo.expectations import corners, hermite, log_normal, param
from tests.cases.tutorials.mixture import gaussian_mixture

STEPS, LOOKS = 50, 40


def doubles(params):
    return {name: value.double() for name, value in params.items()}


@config_enumerate
def guide_side(y):
    with pyro.plate("data", len(y)):
        pyro.sample("k", dist.Categorical(logits=param("logits", [[0.3, -0.2], [0.0, 0.5], [-1.0, 1.0]])))


def sequential_side(y):
    logits = param("logits", [[0.3, -0.2], [0.0, 0.5], [-1.0, 1.0]])
    with pyro.plate("data", len(y)):
        pyro.sample("k", dist.Categorical(logits=logits), infer={"enumerate": "sequential"})


POINTS = torch.tensor([0.0, 1.0, 10.0])


def points(y):
    weight, loc = param("weight", [0.4, 0.6], c.simplex), param("loc", [1.0, 8.0])
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.Categorical(weight))
        pyro.sample("obs", dist.Normal(loc[k], 1.0), obs=y)


@pytest.mark.parametrize("guide", [guide_side, sequential_side])
def test_a_mixture_whose_guide_has_the_assignments_is_exact(guide):
    def exact(p):
        log_q = p["logits"].log_softmax(-1)
        gain = p["weight"].log() + log_normal(POINTS[:, None].double(), p["loc"]) - log_q
        return -(log_q.exp() * gain).sum()

    runner = credo.SVI(points, guide, progress=False)
    fit = runner.run(POINTS, steps=STEPS)
    assert fit.plan.estimator("k") == "enumerate" and len(set(fit.losses)) == STEPS
    assert runner.evaluate_loss(POINTS) == pytest.approx(exact(doubles(runner.params)).item(), rel=1e-5)


def nothing(*data):
    """A guide with nothing to do."""


def dependent(y):
    """Two latents, one below the other, and data below both."""
    p, q = param("p", [0.3, 0.7], c.simplex), param("q", [[0.2, 0.8], [0.6, 0.4]], c.simplex)
    x = pyro.sample("x", dist.Categorical(p))
    with pyro.plate("data", len(y)):
        z = pyro.sample("z", dist.Categorical(q[x]))
        pyro.sample("obs", dist.Normal(3.0 * z + x, 1.0), obs=y)


def chain(y):
    """A hidden Markov model."""
    move, x = param("move", [[0.8, 0.2], [0.3, 0.7]], c.simplex), 0
    for t in pyro.markov(range(len(y))):
        x = pyro.sample(f"x_{t}", dist.Categorical(move[x]))
        pyro.sample(f"y_{t}", dist.Normal(4.0 * x, 1.0), obs=y[t])


def points_loss(p):
    return -torch.logsumexp(p["weight"].log() + log_normal(POINTS[:, None].double(), p["loc"]), 1).sum()


def dependent_loss(p):
    x, z = torch.arange(2).double(), torch.arange(2).double()
    rows = log_normal(POINTS[:, None, None].double(), 3 * z + x[:, None]) + p["q"].log()
    return -torch.logsumexp(p["p"].log() + rows.logsumexp(-1).sum(0), 0)


def chain_loss(p):
    """The sum over all paths."""
    paths, log_p = corners(3).long(), 0.0
    before = torch.zeros(len(paths), dtype=torch.long)
    for t, y in enumerate(POINTS.double()):
        log_p = log_p + p["move"].log()[before, paths[:, t]] + log_normal(y, 4.0 * paths[:, t])
        before = paths[:, t]
    return -torch.logsumexp(log_p, 0)


@pytest.mark.parametrize(
    ("model", "exact"),
    [(points, points_loss), (dependent, dependent_loss), (chain, chain_loss)],
    ids=["mixture", "two levels", "hidden Markov model"],
)
def test_discrete_latents_of_the_model_alone_are_summed_out(model, exact):
    runner = credo.SVI(config_enumerate(model), nothing, progress=False)
    fit = runner.run(POINTS, steps=STEPS)
    assert len(fit.losses) == STEPS
    wanted = exact(doubles(runner.params)).item()
    assert runner.evaluate_loss(POINTS) == pytest.approx(wanted, rel=1e-4)


def test_the_gaussian_mixture_of_the_tutorial():
    """Points for the weights and the means, by AutoDelta; the assignments are summed out."""

    model = gaussian_mixture
    runner = credo.SVI(model, AutoDelta(pyro.poutine.block(model, expose=["weights", "locs"])), progress=False)
    runner.run(POINTS, steps=STEPS)
    p = {name.split(".")[-1]: value for name, value in doubles(runner.params).items()}
    prior = dist.Dirichlet(torch.full((2,), 0.5).double()).log_prob(p["weights"])
    prior = prior + Normal(0.0, 10.0).log_prob(p["locs"]).sum()
    wanted = points_loss({"weight": p["weights"], "loc": p["locs"]}) - prior
    assert runner.evaluate_loss(POINTS) == pytest.approx(wanted.item(), rel=1e-4)


# Auto-encoders: a VAE with one hidden number, and the semi-supervised one with a class beside it.

PIXELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])


class AutoEncoder(nn.Module):
    """classes: 0 for the plain one; classify: whether the guide is to find them."""

    def __init__(self, classes, classify):
        super().__init__()
        self.classes = classes
        self.encode, self.decode = nn.Linear(3 + classes, 2), nn.Linear(1 + classes, 3)
        self.classify = nn.Linear(3, classes) if classify else None

    def q(self, x, *y):
        loc, log_scale = self.encode(torch.cat([x, *y], -1)).chunk(2, -1)
        return loc, (0.3 * log_scale - 1).exp()

    def model(self, x, labels=None):
        pyro.module("net", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1))
            if self.classes:
                y = pyro.sample("y", dist.OneHotCategorical(torch.ones(len(x), self.classes)), obs=labels)
                z = torch.cat([z, y], -1)
            pyro.sample("x", dist.Bernoulli(logits=self.decode(z)).to_event(1), obs=x)

    def guide(self, x, labels=None):
        pyro.module("net", self)
        with pyro.plate("data", len(x)):
            y = [] if labels is None else [labels]
            if self.classify:
                y = [pyro.sample("y", dist.OneHotCategorical(logits=self.classify(x)))]
            loc, scale = self.q(x, *y)
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def loss(self, x, *y):
        """-ELBO of each row given its class, by quadrature over z; the prior of the class left out."""
        loc, scale = (t.squeeze(-1) for t in self.q(x, *y))
        z, weights = hermite(loc, scale)
        z = z[..., None]
        logits = self.decode(torch.cat([z, *(t[:, None].expand(*z.shape[:-1], -1) for t in y)], -1))
        fit = (weights * dist.Bernoulli(logits=logits).log_prob(x[:, None]).sum(-1)).sum(-1)
        return kl_divergence(Normal(loc, scale), Normal(0.0, 1.0)) - fit


@pytest.mark.parametrize("kind", ["plain", "labelled", "unlabelled"])
def test_auto_encoders(kind):
    pyro.set_rng_seed(0)
    net = AutoEncoder(0 if kind == "plain" else 2, kind == "unlabelled")
    labels = torch.eye(2)
    data = (PIXELS, labels) if kind == "labelled" else (PIXELS,)
    runner = credo.SVI(net.model, net.guide, progress=False)
    fit = runner.run(*data, steps=STEPS)
    assert dict(fit.plan.frame["estimator"]) == {"z": "pathwise"} | ({"y": "enumerate"} if kind == "unlabelled" else {})
    losses = torch.tensor([runner.evaluate_loss(*data) for _ in range(LOOKS)]).double()
    learnt = fit.trained(net).double()
    x, given = PIXELS.double(), labels.double()
    with torch.no_grad():
        if kind == "plain":
            wanted = learnt.loss(x).sum()
        elif kind == "labelled":
            wanted = learnt.loss(x, given).sum() + 2 * math.log(2)
        else:
            log_q = learnt.classify(x).log_softmax(-1)
            each = torch.stack([learnt.loss(x, given[k].expand(2, 2)) for k in (0, 1)], -1)
            wanted = (log_q.exp() * (each + log_q + math.log(2))).sum()
    assert losses.mean().item() == pytest.approx(wanted.item(), abs=4.5 * losses.std().item() / LOOKS**0.5)
