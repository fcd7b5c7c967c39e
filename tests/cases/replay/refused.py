"""Pairs that a replayed step gets wrong unless somebody looks: Python decides, counts, draws or reads values itself.

Each function makes a pair anew: (model, guide, before). `before(step)` is the user's loop up to a step: it changes what
the user changes and returns the data of that step. A line marked `# here` is the one that a message has to name.
`accepted` holds those that look as bad and are replayed, `changing` what changes between steps.
"""

import math
import random

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from tests.cases.elbo.expectations import observe, param, positive

Y = torch.tensor([0.3, 1.2, 2.1, -0.4])
ARMED = 15  # the step from which on a counter counts
heat = 1.0  # of `heated`


def same(step):
    """Nothing happens between the steps."""
    return (Y,)


def normal(y):
    pyro.sample("z", dist.Normal(param("loc", 0.5), positive("scale", 0.5)))


def normals(y):
    loc, scale = param("loc", [0.5, -0.5, 0.1, 0.3]), positive("scale", [0.5] * 4)
    pyro.sample("z", dist.Normal(loc, scale).to_event(1))


def count(y):
    pyro.sample("k", dist.Poisson(positive("rate", 2.0)))


def drawn():
    return pyro.sample("z", dist.Normal(0.0, 1.0))


def four_drawn():
    return pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))


def counted():
    return pyro.sample("k", dist.Poisson(2.0))


# Python looks at a value: the capture itself fails.


def branch():
    def model(y):
        z = drawn()
        if z > 0:  # here
            observe(y, z)
        else:
            observe(y, 0.1 * z)

    return model, normal, same


def whole_number():
    def model(y):
        k = counted()
        table = [0.0, 0.5, 1.0]
        observe(y, table[int(k) % 3])  # here

    return model, count, same


def arithmetic():
    def model(y):
        k = counted()
        mean = math.log1p(k.item())  # here
        observe(y, mean)

    return model, count, same


def all_of_them():
    def model(y):
        z = four_drawn()
        if (z > 0).all():  # here
            observe(y, z.min())
        else:
            observe(y, 0.1 * z.min())

    return model, normals, same


# Python reads a value past torch: nothing fails, and the first draw would be in all later steps.


def through_numpy():
    def model(y):
        k = counted()
        mean = torch.as_tensor(np.log1p(k.numpy()))
        observe(y, mean)

    return model, count, same


def through_a_list():
    def model(y):
        with pyro.plate("four", 4):
            k = pyro.sample("k", dist.Poisson(2.0))
        observe(y, sum(k.tolist()) / 8)

    def guide(y):
        with pyro.plate("four", 4):
            pyro.sample("k", dist.Poisson(positive("rate", [2.0, 1.0, 3.0, 2.0])))

    return model, guide, same


def picked_by_value():
    """As many entries as are above zero: the shapes of a gradient's graph are those of one draw."""

    def model(y):
        z = four_drawn()
        above = z[z > 0]
        observe(y, above.sum())

    return model, normals, same


# Python draws numbers of its own, from the generators of the run.


def python_noise():
    def model(y):
        z = drawn()
        observe(y, z + 0.1 * random.random())

    return model, normal, same


def numpy_noise():
    def model(y):
        z = drawn()
        observe(y, z + 0.1 * np.random.rand())

    return model, normal, same


def heated():
    """The user anneals the KL by a global, a little at each step."""
    global heat
    heat = 1.0

    def model(y):
        with poutine.scale(scale=heat):
            z = drawn()
        observe(y, z)

    def guide(y):
        with poutine.scale(scale=heat):
            normal(y)

    def before(step):
        global heat
        heat = (step + 1) / 100
        return (Y,)

    return model, guide, before


EAGER = [
    branch,
    whole_number,
    arithmetic,
    all_of_them,
    through_numpy,
    through_a_list,
    picked_by_value,
    python_noise,
    numpy_noise,
    heated,
]


# Python counts its own calls. Looking at such a pair is a call more: no two ways to run it give the same losses.


def counter():
    calls = 0

    def model(y):
        nonlocal calls
        calls += 1
        z = drawn()
        observe(y, z, 1.0 + 0.001 * calls)

    return model, normal, same


def counter_that_waits():
    """Changes with the eighth call after step ARMED: with a capture at step 20, while it is being looked at."""
    calls, armed = 0, False

    def model(y):
        nonlocal calls
        calls += armed
        z = drawn()
        observe(y, z, 1.0 if calls < 8 else 2.0)

    def before(step):
        nonlocal armed
        armed = step >= ARMED
        return (Y,)

    return model, normal, before


COUNTING = [counter, counter_that_waits]
