"""Pairs that Pyro's tests expect an error or a warning of: each is refused, and the error names the site."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import config_enumerate
from pyro.ops.indexing import Vindex

from tests.cases.pyro_kinds.enumerated import interleaved, nothing
from tests.cases.pyro_kinds.exhaustive import Case
from tests.cases.pyro_kinds.plates import Y3, p_of, see, single, single_guide
from tests.cases.pyro_kinds.weighted import masked_data, normal_guide


def clash():
    pyro.sample("x", dist.Bernoulli(0.5))
    see(pyro.sample("x", dist.Bernoulli(0.5)))


def clash_guide():
    pyro.sample("x", dist.Bernoulli(p_of()))
    pyro.sample("x", dist.Bernoulli(p_of()))


def loop_clash():
    for _ in pyro.plate("rows", 2):
        see(pyro.sample("x", dist.Bernoulli(0.5)))


def missing_normal():
    see(pyro.sample("x", dist.Normal(0.0, 1.0)))


def trains_something():
    pyro.param("unused", torch.tensor(0.0))


def event():
    see(pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1)).sum())


def other_dim_guide():
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(2, 1)), 1.0).to_event(2))


def other_shape_guide():
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(3)), 1.0).to_event(1))


def undeclared():
    see(pyro.sample("x", dist.Bernoulli(torch.tensor(0.5)).expand_by([5])).sum(-1))


def undeclared_guide():
    pyro.sample("x", dist.Bernoulli(p_of()).expand_by([5]))


def wrong_plate():
    with pyro.plate("rows", 10):
        see(pyro.sample("x", dist.Bernoulli(torch.tensor(0.5)).expand_by([2])).sum())


def wrong_plate_guide():
    with pyro.plate("rows", 10):
        pyro.sample("x", dist.Bernoulli(p_of()).expand_by([2]))


def param_of_wrong_size_guide():
    with pyro.plate("rows", 3):
        pyro.sample("x", dist.Bernoulli(pyro.param("p", torch.full((2,), 0.5), event_dim=0)))


def in_rows():
    with pyro.plate("rows", 3):
        see(pyro.sample("x", dist.Bernoulli(0.5)), Y3)


def impossible_probability_guide():
    pyro.sample("x", dist.Bernoulli(p_of(value=1.4)))


def outside_support():
    see(pyro.sample("x", dist.Beta(2.0, 2.0)))


def outside_support_guide():
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(5.0)), 0.1))


def moving_bound():
    see(pyro.sample("x", fakes_uniform(torch.tensor(2.0))))


def fakes_uniform(high):
    return dist.Uniform(0.0, high).has_rsample_(False)


def moving_bound_guide():
    pyro.sample("x", fakes_uniform(pyro.param("high", torch.tensor(1.0))))


@config_enumerate
def short_memory(y):
    p, old, new = pyro.param("p", torch.tensor([[0.2, 0.8], [0.6, 0.4]])), 0, 0
    for t in pyro.markov(range(len(y)), history=1):
        old, new = new, pyro.sample(f"x_{t}", dist.Bernoulli(Vindex(p)[old, new])).long()
        see(new.float(), y[t], f"y_{t}")


@config_enumerate
def branching(y):
    k = pyro.sample("k", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))))
    see(1.0 if k.item() else 0.0)


def unseen():
    pyro.sample("x", dist.Bernoulli(0.5))


DATA = (Y3,)
CASES = {
    "two sites of one name in the model": Case(clash, single_guide, refused="'x'"),
    "two sites of one name in the guide": Case(single, clash_guide, refused="'x'"),
    "one name in a loop": Case(loop_clash, single_guide, refused="'x'"),
    "guide without a site": Case(missing_normal, trains_something, refused="no site 'x'"),
    "guide with another event": Case(event, other_dim_guide, refused="'x'"),
    "guide with another shape": Case(event, other_shape_guide, refused="'x'"),
    "rows without a plate": Case(undeclared, undeclared_guide, refused="'x'"),
    "plate of another size": Case(wrong_plate, wrong_plate_guide, refused="site 'x'"),
    "parameter of another size": Case(in_rows, param_of_wrong_size_guide, refused="p"),
    "probability above one": Case(single, impossible_probability_guide, refused="'?x'?"),
    "guide outside of the support": Case(outside_support, outside_support_guide, refused="'?x'?"),
    "support that moves": Case(moving_bound, moving_bound_guide, refused="'x'"),
    "chain with too short a memory": Case(short_memory, nothing, DATA, refused="'x_"),
    "branch on a summed site": Case(branching, nothing, DATA, refused="'k'"),
    "markov contexts that overlap": Case(interleaved, nothing, DATA, refused="site 'k'"),
    "nothing unmasked": Case(masked_data(False), normal_guide, refused="site 'y': a mask hides every"),
    "nothing observed": Case(unseen, single_guide, refused="observes nothing"),
}
