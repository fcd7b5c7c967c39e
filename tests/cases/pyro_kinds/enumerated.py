"""Finite latents: annotated for enumeration, or left out of the guide and summed out, with chains and plates."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.ops.indexing import Vindex

from tests.cases.pyro_kinds.exhaustive import Case
from tests.cases.pyro_kinds.plates import Y3, in_plate, in_plate_guide, p_of, see, single, single_guide

EXACT = [TraceEnum_ELBO(max_plate_nesting=nesting, strict_enumeration_warning=False) for nesting in range(3)]


def nothing(*data):
    """A guide without sites: all that is trained stands in the model."""


def sequential_guide():
    pyro.sample("x", dist.Bernoulli(p_of()), infer={"enumerate": "sequential"})


def parallel_guide():
    pyro.sample("x", dist.Bernoulli(p_of()), infer={"enumerate": "parallel"})


def two():
    a = pyro.sample("a", dist.Bernoulli(0.4))
    see(a - pyro.sample("b", dist.Bernoulli(0.2 + 0.5 * a)))


def two_guide():
    a = pyro.sample("a", dist.Bernoulli(p_of()))
    pyro.sample("b", dist.Bernoulli(p_of("b_p", 0.6) * (0.5 + 0.5 * a)))


def mixed_guide():
    a = pyro.sample("a", dist.Bernoulli(p_of()), infer={"enumerate": "parallel"})
    pyro.sample("b", dist.Bernoulli(p_of("b_p", 0.6) * (0.5 + 0.5 * a)), infer={"enumerate": "sequential"})


def table():
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
    pyro.sample("y", dist.Categorical(torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.8, 0.2]])[k]), obs=torch.tensor(1))


def table_guide():
    pyro.sample("k", dist.Categorical(pyro.param("p", torch.tensor([0.4, 0.3, 0.3]))))


def outer_finite():
    x = pyro.sample("x", dist.Bernoulli(0.5))
    with pyro.plate("rows", 2):
        see(pyro.sample("z", dist.Bernoulli(0.2 + 0.6 * x)), Y3[:2])


def outer_finite_guide():
    pyro.sample("x", dist.Bernoulli(p_of()))
    with pyro.plate("rows", 2):
        pyro.sample("z", dist.Bernoulli(p_of("z_p", 0.6)))


def leaving_a_plate():
    """A draw that reads the rows of a plate above it."""
    with pyro.plate("rows", 2):
        a = pyro.sample("a", dist.Bernoulli(0.5))
    see(a.sum(-1))


def leaving_a_plate_guide():
    with pyro.plate("rows", 2):
        pyro.sample("a", dist.Bernoulli(p_of()))


def binomial():
    see(0.5 * pyro.sample("k", dist.Binomial(3, torch.tensor(0.4))))


def binomial_guide():
    pyro.sample("k", dist.Binomial(3, pyro.param("p", torch.tensor(0.7))))


@config_enumerate
def mixture(y):
    weights = pyro.param("weights", torch.tensor([0.3, 0.7]), constraint=dist.constraints.simplex)
    locs = pyro.param("locs", torch.tensor([-1.0, 1.5]))
    with pyro.plate("rows", len(y)):
        see(locs[pyro.sample("k", dist.Categorical(weights))], y)


def chain(y):
    p = pyro.param("p", torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
    x = 0
    for t in pyro.markov(range(len(y))):
        x = pyro.sample(f"x_{t}", dist.Categorical(p[x]), infer={"enumerate": "parallel"})
        see(2.0 * x - 1, y[t], f"y_{t}")


def chain_without_markov(y):
    p = pyro.param("p", torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
    x = 0
    for t in range(len(y)):
        x = pyro.sample(f"x_{t}", dist.Categorical(p[x]), infer={"enumerate": "parallel"})
        see(2.0 * x - 1, y[t], f"y_{t}")


@config_enumerate
def two_chains(y):
    p, q = pyro.param("p", torch.tensor([[0.2, 0.8], [0.6, 0.4]])), pyro.param("q", torch.tensor([0.3, 0.7]))
    r, x = pyro.param("r", torch.tensor([[0.1, 1.0], [-1.0, 0.4]])), 0
    for t in pyro.markov(range(len(y))):
        x = pyro.sample(f"x_{t}", dist.Categorical(p[x]))
        see(Vindex(r)[x, pyro.sample(f"w_{t}", dist.Categorical(q))], y[t], f"y_{t}")


@config_enumerate
def second_order(y):
    p, old, new = pyro.param("p", torch.tensor([[0.2, 0.8], [0.6, 0.4]])), 0, 0
    for t in pyro.markov(range(len(y)), history=2):
        old, new = new, pyro.sample(f"x_{t}", dist.Bernoulli(Vindex(p)[old, new])).long()
        see(new.float(), y[t], f"y_{t}")


@config_enumerate
def loop_of_finite(y):
    p = pyro.param("p", torch.tensor([0.2, 0.8]))
    for i in pyro.plate("rows", len(y)):
        see(pyro.sample(f"k_{i}", dist.Categorical(p)).float(), y[i], f"y_{i}")


@config_enumerate
def outer_and_inner(y):
    p = pyro.param("p", torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
    a = pyro.sample("a", dist.Bernoulli(0.4)).long()
    with pyro.plate("rows", len(y)):
        see(pyro.sample("k", dist.Categorical(p[a])).float(), y)


@config_enumerate
def beside_guided(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0), infer={"enumerate": None})
    with pyro.plate("rows", len(y)):
        see(z * pyro.sample("k", dist.Bernoulli(0.3)), y)


def beside_guide(y):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.5)), 0.3))


@config_enumerate
def one_hot_mixture(y):
    locs = pyro.param("locs", torch.tensor([-1.0, 1.5]))
    with pyro.plate("rows", len(y)):
        k = pyro.sample("k", dist.OneHotCategorical(torch.tensor([0.4, 0.6])))
        see((k * locs).sum(-1), y)


@config_enumerate
def interleaved(y):
    with pyro.markov() as outer, pyro.markov(), outer:
        k = pyro.sample("k", dist.Categorical(pyro.param("p", torch.tensor([0.2, 0.3, 0.5]))))
    see(k.float())


@config_enumerate
def nested_chains(y):
    p = pyro.param("p", torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
    x = 0
    for i in pyro.markov(range(2)):
        x = w = pyro.sample(f"x_{i}", dist.Categorical(p[x]))
        for j in pyro.markov(range(2)):
            w = pyro.sample(f"w_{i}_{j}", dist.Categorical(p[w]))
            see(w.float(), y[j], f"y_{i}_{j}")


DATA = (Y3,)
CASES = {
    "sequential": Case(single, sequential_guide),
    "parallel": Case(single, parallel_guide),
    "config_enumerate": Case(single, config_enumerate(single_guide)),
    "config_enumerate, parallel, in a plate": Case(in_plate, config_enumerate(in_plate_guide, "parallel")),
    "two": Case(two, two_guide),
    "two, annotated differently": Case(two, mixed_guide),
    "row of a table": Case(table, table_guide),
    "above a plate": Case(outer_finite, outer_finite_guide),
    "leaving a plate": Case(leaving_a_plate, leaving_a_plate_guide, n=200),
    "Binomial": Case(binomial, binomial_guide),
    "mixture": Case(mixture, nothing, DATA, elbo=EXACT[1]),
    "chain": Case(chain, nothing, DATA, elbo=EXACT[0]),
    "chain without markov": Case(chain_without_markov, nothing, DATA, elbo=EXACT[0]),
    "two chains": Case(two_chains, nothing, DATA, elbo=EXACT[0]),
    "second order": Case(second_order, nothing, DATA, elbo=EXACT[0]),
    "sequential plate": Case(loop_of_finite, nothing, DATA, elbo=EXACT[0]),
    "outer and inner": Case(outer_and_inner, nothing, DATA, elbo=EXACT[1]),
    "one-hot mixture": Case(one_hot_mixture, nothing, DATA, elbo=EXACT[1]),
    "nested chains": Case(nested_chains, nothing, DATA, elbo=EXACT[0]),
}
