"""Models of rows with finite latents, their twins whose sum over the values is written by hand, and a guide."""

import math
from itertools import product

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex

X = torch.tensor([-2.1, 0.4, 1.7, 2.2], dtype=torch.float64)


def normal(x, loc, scale=1.0):
    return -0.5 * ((x - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)


def locs(k=2):
    """A guide's draw of k means."""
    m = pyro.param("m", torch.linspace(-1.0, 1.3, k))
    s = pyro.param("s", torch.linspace(0.4, 0.9, k), constraint=dist.constraints.positive)
    return pyro.sample("loc", dist.Normal(m, s).to_event(1))


def guide(x, *rest):
    return locs()


def prior(k=2):
    return pyro.sample("loc", dist.Normal(torch.zeros(k), 3.0).to_event(1))


def weights(k=2):
    return pyro.param("w", torch.linspace(0.2, 1.0, k) / torch.linspace(0.2, 1.0, k).sum(), dist.constraints.simplex)


def total(values):
    """log sum exp of a list of scalars."""
    return torch.stack(list(values)).logsumexp(0)


def mixture(x):
    loc, w = prior(), weights()
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def mixture_by_hand(x):
    loc, w = prior(), weights()
    pyro.factor("x", sum(total(w[k].log() + normal(v, loc[k]) for k in range(2)) for v in x))


def one_for_all(x):  # z stands outside of the plate
    loc, w = prior(), weights()
    z = pyro.sample("z", dist.Categorical(w))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def one_for_all_by_hand(x):
    loc, w = prior(), weights()
    pyro.factor("x", total(w[k].log() + sum(normal(v, loc[k]) for v in x) for k in range(2)))


def inside_and_outside(x):  # a site of all rows, one of each row, and one of neither
    loc, w = prior(), weights()
    a = pyro.sample("a", dist.Bernoulli(0.3))
    pyro.sample("y", dist.Normal(loc[0], 1.0), obs=x[0])
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(Vindex(torch.stack([w, w.flip(0)]))[a.long(), :]))
        pyro.sample("x", dist.Normal(loc[z] + 0.5 * a, 1.0), obs=x)


def inside_and_outside_by_hand(x):
    loc, w = prior(), weights()
    pyro.factor("y", normal(x[0], loc[0]))
    terms = []
    for a in range(2):
        own = w if a == 0 else w.flip(0)
        rows = sum(total(own[k].log() + normal(v, loc[k] + 0.5 * a) for k in range(2)) for v in x)
        terms.append(math.log(0.3 if a else 0.7) + rows)
    pyro.factor("x", total(terms))


def dependent(x):  # two sites of a row, the second drawn given the first, and a latent of the guide given both
    loc, w = prior(), weights()
    table = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    with pyro.plate("N", len(x)):
        a = pyro.sample("a", dist.Categorical(w))
        b = pyro.sample("b", dist.Categorical(table[a]))
        h = pyro.sample("h", dist.Normal(loc[a] + 1.0 * b, 1.0))
        pyro.sample("x", dist.Normal(h - 0.2 * b, 0.7), obs=x)


def dependent_guide(x):
    locs()
    with pyro.plate("N", len(x)):
        pyro.sample("h", dist.Normal(pyro.param("c", torch.tensor(0.8)) * x, 0.5))


def dependent_by_hand(x):
    loc, w = prior(), weights()
    table = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    with pyro.plate("N", len(x)):
        h = pyro.sample("h", dist.ImproperUniform(dist.constraints.real, (), ()))
    for n, v in enumerate(x):
        terms = (
            w[a].log() + table[a, b].log() + normal(h[n], loc[a] + b) + normal(v, h[n] - 0.2 * b, 0.7)
            for a, b in product(range(2), range(3))
        )
        pyro.factor(f"x{n}", total(terms))


MASK = torch.tensor([True, False, True, False])


def mixture_under(x, handler):
    loc, w = prior(), weights()
    with pyro.plate("N", len(x)), handler:
        z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def masked(x):
    mixture_under(x, poutine.mask(mask=MASK))


def masked_by_hand(x):
    mixture_by_hand(x[MASK])


def scaled(x):
    mixture_under(x, poutine.scale(scale=2.5))


def scaled_by_hand(x):
    with poutine.scale(scale=1.0):
        loc, w = prior(), weights()
    pyro.factor("x", 2.5 * sum(total(w[k].log() + normal(v, loc[k]) for k in range(2)) for v in x))


ROWS = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def weighted_rows(x):
    mixture_under(x, poutine.scale(scale=ROWS))


def weighted_rows_by_hand(x):
    loc, w = prior(), weights()
    rows = (r * total(w[k].log() + normal(v, loc[k]) for k in range(2)) for v, r in zip(x, ROWS, strict=True))
    pyro.factor("x", sum(rows))


def impossible(x):  # of two boxes, one cannot hold most of the rows
    loc, w = prior(), weights()
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(w))
        low, high = torch.tensor([-2.0, -9.0]), torch.tensor([2.0, 9.0])
        pyro.sample("x", dist.Uniform(low[z], high[z] + loc[z] ** 2), obs=x)


def impossible_by_hand(x):
    loc, w = prior(), weights()
    for n, v in enumerate(x):
        boxes = ((k, low, high + loc[k] ** 2) for k, low, high in ((0, -2.0, 2.0), (1, -9.0, 9.0)))
        pyro.factor(f"x{n}", total(w[k].log() - (high - low).log() for k, low, high in boxes if low <= v < high))
