"""Subsampled plates: vectorised and sequential, nested, with parameters for each row, and chosen by the caller."""

import pyro
import pyro.distributions as dist
import torch

from tests.cases.pyro_kinds.exhaustive import Case
from tests.cases.pyro_kinds.plates import Y3, p_of, see


def global_model(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y), subsample_size=2) as rows:
        see(m, y[rows])


def global_guide(y):
    pyro.sample("m", dist.Normal(pyro.param("loc", torch.tensor(0.2)), 0.5))


def loop_model(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    for i in pyro.plate("rows", len(y), subsample_size=2):
        see(m, y[i], f"y_{i}")


def coin_loop_model(y):
    k = pyro.sample("k", dist.Bernoulli(0.4))
    for i in pyro.plate("rows", len(y), subsample_size=2):
        see(k, y[i], f"y_{i}")


def coin_guide(y):
    pyro.sample("k", dist.Bernoulli(p_of()))


def local_loop_model(y):
    for i in pyro.plate("rows", len(y), subsample_size=2):
        see(pyro.sample(f"x_{i}", dist.Normal(0.0, 1.0)), y[i], f"y_{i}")


def local_loop_guide(y):
    loc = pyro.param("loc", torch.tensor([0.1, -0.3, 0.5]))
    for i in pyro.plate("rows", len(y), subsample_size=2):
        pyro.sample(f"x_{i}", dist.Normal(loc[i], 0.6))


def local_coins_model(y):
    for i in pyro.plate("rows", len(y), subsample_size=2):
        see(pyro.sample(f"x_{i}", dist.Bernoulli(0.5)), y[i], f"y_{i}")


def local_coins_guide(y):
    p = p_of()
    for i in pyro.plate("rows", len(y), subsample_size=2):
        pyro.sample(f"x_{i}", dist.Bernoulli(p))


def local_model(y):
    with pyro.plate("rows", len(y), subsample_size=2) as rows:
        see(pyro.sample("x", dist.Bernoulli(0.5)), y[rows])


def local_guide(y):
    with pyro.plate("rows", len(y), subsample_size=2) as rows:
        pyro.sample("x", dist.Bernoulli(pyro.param("p", torch.tensor([0.2, 0.5, 0.8]))[rows]))


def param_of_rows_guide(y):
    with pyro.plate("rows", len(y), subsample_size=2):
        pyro.sample("x", dist.Bernoulli(pyro.param("p", torch.tensor([0.2, 0.5, 0.8]), event_dim=0)))


def normal_model(y):
    with pyro.plate("rows", len(y), subsample_size=2) as rows:
        see(pyro.sample("z", dist.Normal(0.0, 1.0)), y[rows])


def normal_guide(y):
    loc, scale = pyro.param("loc", torch.zeros(3)), pyro.param("scale", torch.tensor([0.8]))
    with pyro.plate("rows", len(y), subsample_size=2) as rows:
        pyro.sample("z", dist.Normal(loc[rows], scale))


def subsample_primitive_model(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y), subsample_size=2):
        see(m, pyro.subsample(y, event_dim=0))


def nested_model(y):
    with pyro.plate("outer", 2, subsample_size=1, dim=-1):
        x = pyro.sample("x", dist.Bernoulli(0.3))
        with pyro.plate("inner", 3, subsample_size=2, dim=-2) as rows:
            see(x, y[rows][:, None])


def nested_guide(y):
    with pyro.plate("outer", 2, subsample_size=1, dim=-1):
        pyro.sample("x", dist.Bernoulli(p_of()))


def loop_in_plate_model(y):
    with pyro.plate("rows", 3, subsample_size=2) as rows:
        for i in pyro.plate("columns", 3, subsample_size=1):
            see(pyro.sample(f"x_{i}", dist.Bernoulli(0.4)), y[rows] * i, f"y_{i}")


def loop_in_plate_guide(y):
    p = p_of()
    with pyro.plate("rows", 3, subsample_size=2):
        for i in pyro.plate("columns", 3, subsample_size=1):
            pyro.sample(f"x_{i}", dist.Bernoulli(p))


def chosen_model(y):
    """Always the same rows: refused, since the others never count."""
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    rows = torch.tensor([0, 2])
    with pyro.plate("rows", len(y), subsample=rows):
        see(m, y[rows])


DATA = (Y3,)
CASES = {
    "global latent": Case(global_model, global_guide, DATA, n=200),
    "global latent, loop": Case(loop_model, global_guide, DATA, n=200),
    "global coin, loop": Case(coin_loop_model, coin_guide, DATA, n=200),
    "local latents, loop": Case(local_loop_model, local_loop_guide, DATA, n=200),
    "local coins, loop": Case(local_coins_model, local_coins_guide, DATA, n=200),
    "local coins": Case(local_model, local_guide, DATA, n=200),
    "local coins, pyro.param of rows": Case(local_model, param_of_rows_guide, DATA, n=200),
    "local normals": Case(normal_model, normal_guide, DATA, n=200),
    "pyro.subsample": Case(subsample_primitive_model, global_guide, DATA, n=200),
    "nested": Case(nested_model, nested_guide, DATA, n=200),
    "loop in plate": Case(loop_in_plate_model, loop_in_plate_guide, DATA, n=200),
}
