"""Programs of short.py with finite latents, which both sides sum out: mixtures, topics, hidden states, animals.

Each function returns a `Case`. Every call makes new data and new networks from the same seed.
"""

import pyro
import pyro.distributions as dist
import torch
from _short_regressions import POSITIVE, Case
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.ops.indexing import Vindex
from torch.distributions import constraints


def _nested() -> TraceEnum_ELBO:
    return TraceEnum_ELBO(max_plate_nesting=1)


def mixture() -> Case:
    """A mixture of three normals, AutoNormal over weights, places and scale. N = 200."""
    torch.manual_seed(10)
    x = torch.tensor([-3.0, 0.0, 4.0])[torch.randint(3, (200,))] + 0.7 * torch.randn(200)

    @config_enumerate
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("components", 3):
            locs = pyro.sample("locs", dist.Normal(0.0, 5.0))
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[k], scale), obs=x)

    start = {"weights": torch.full((3,), 1 / 3), "scale": torch.tensor(1.0), "locs": torch.tensor([-2.0, 0.1, 2.0])}
    guide = AutoNormal(
        poutine.block(model, expose=list(start)), init_loc_fn=lambda site: start[site["name"]], init_scale=0.1
    )
    return Case(model, guide, (x,), _nested)


def mixture_point() -> Case:
    """The mixture of the tutorial: two normals with a shared scale, AutoDelta. Five data."""
    x = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])

    @config_enumerate
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[k], scale), obs=x)

    start = {"weights": torch.full((2,), 0.5), "scale": torch.tensor(3.0), "locs": torch.tensor([1.0, 10.0])}
    exposed = poutine.block(model, expose=list(start))
    return Case(model, AutoDelta(exposed, init_loc_fn=lambda site: start[site["name"]]), (x,), _nested)


def hidden_markov() -> Case:
    """A hidden Markov chain of three states over 15 times, its states summed out, AutoNormal."""
    torch.manual_seed(11)
    y = torch.randn(15) + torch.tensor([-2.0, 0.0, 2.0])[torch.randint(3, (15,))]

    @config_enumerate
    def model(y):
        with pyro.plate("states", 3):
            moves = pyro.sample("moves", dist.Dirichlet(torch.ones(3)))
            locs = pyro.sample("locs", dist.Normal(torch.tensor([-2.0, 0.0, 2.0]), 1.0))
        z = 0
        for t in pyro.markov(range(len(y))):
            z = pyro.sample(f"z{t}", dist.Categorical(Vindex(moves)[z]))
            pyro.sample(f"y{t}", dist.Normal(Vindex(locs)[z], 1.0), obs=y[t])

    return Case(model, AutoNormal(poutine.block(model, expose=["moves", "locs"])), (y,), _nested)


def topics() -> Case:
    """Latent Dirichlet allocation: the topic of each word summed out, Dirichlet guides. 8 documents of 20 words."""
    torch.manual_seed(12)
    words = torch.randint(30, (20, 8))

    @config_enumerate
    def model(words):
        with pyro.plate("topics", 3):
            of_topic = pyro.sample("of_topic", dist.Dirichlet(torch.ones(30) / 30))
        with pyro.plate("documents", words.shape[1]):
            share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
            with pyro.plate("words", len(words)):
                topic = pyro.sample("topic", dist.Categorical(share))
                pyro.sample("word", dist.Categorical(Vindex(of_topic)[topic]), obs=words)

    def guide(words):
        a = pyro.param("a", torch.rand(3, 30) + 0.5, constraint=POSITIVE)
        b = pyro.param("b", torch.ones(words.shape[1], 3), constraint=POSITIVE)
        with pyro.plate("topics", 3):
            pyro.sample("of_topic", dist.Dirichlet(a))
        with pyro.plate("documents", words.shape[1]):
            pyro.sample("share", dist.Dirichlet(b))

    return Case(model, guide, (words,), lambda: TraceEnum_ELBO(max_plate_nesting=2))


def capture_recapture() -> Case:
    """Cormack, Jolly and Seber: survival and capture, whether an animal lives summed out, AutoNormal. 40 animals."""
    torch.manual_seed(13)
    seen = torch.bernoulli(torch.full((40, 5), 0.5))
    seen[:, 0] = 1.0

    @config_enumerate
    def model(seen):
        survival = pyro.sample("survival", dist.Beta(2.0, 2.0))
        found = pyro.sample("found", dist.Beta(2.0, 2.0))
        with pyro.plate("animals", len(seen)):
            lives = torch.ones(())
            for t in range(seen.shape[1]):
                lives = pyro.sample(f"lives{t}", dist.Bernoulli(survival * lives if t else torch.tensor(1.0)))
                pyro.sample(f"seen{t}", dist.Bernoulli(found * lives), obs=seen[:, t])

    return Case(model, AutoNormal(poutine.block(model, expose=["survival", "found"])), (seen,), _nested)


def annotators() -> Case:
    """Dawid and Skene: the true class of each item summed out, Dirichlet guides. 100 items, 5 people."""
    torch.manual_seed(14)
    labels = torch.randint(3, (5, 100))

    @config_enumerate
    def model(labels):
        share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("people", len(labels), dim=-2):
            with pyro.plate("classes", 3, dim=-1):
                errors = pyro.sample("errors", dist.Dirichlet(torch.ones(3) + 5 * torch.eye(3)))
        with pyro.plate("items", labels.shape[1], dim=-1):
            truth = pyro.sample("truth", dist.Categorical(share))
            with pyro.plate("labelled", len(labels), dim=-2):
                people = torch.arange(len(labels))[:, None]
                pyro.sample("label", dist.Categorical(Vindex(errors)[people, truth]), obs=labels)

    def guide(labels):
        s = pyro.param("s", torch.ones(3), constraint=POSITIVE)
        e = pyro.param("e", torch.ones(len(labels), 3, 3) + 5 * torch.eye(3), constraint=constraints.positive)
        pyro.sample("share", dist.Dirichlet(s))
        with pyro.plate("people", len(labels), dim=-2), pyro.plate("classes", 3, dim=-1):
            pyro.sample("errors", dist.Dirichlet(e))

    return Case(model, guide, (labels,), lambda: TraceEnum_ELBO(max_plate_nesting=2))


FINITE = (mixture, mixture_point, hidden_markov, topics, capture_recapture, annotators)
