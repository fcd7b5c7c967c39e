"""Plates: vectorised and sequential, nested, crossed, reused, with and without a size, and chosen dimensions."""

import pyro
import pyro.distributions as dist
import torch

from tests.cases.pyro_kinds.exhaustive import Case

Y3 = torch.tensor([0.4, -0.3, 1.1])


def p_of(name="p", value=0.3):
    """A probability without a constraint, as Pyro's tests write it."""
    return pyro.param(name, torch.tensor(value))


def see(mean, y=0.7, name="y"):
    pyro.sample(name, dist.Normal(mean, 1.0), obs=torch.as_tensor(y))


def single():
    see(pyro.sample("x", dist.Bernoulli(0.5)))


def single_guide():
    pyro.sample("x", dist.Bernoulli(p_of()))


def loop():
    for i in pyro.plate("rows", 3):
        see(pyro.sample(f"x_{i}", dist.Bernoulli(0.5)), Y3[i], f"y_{i}")


def loop_guide():
    p = p_of()
    for i in pyro.plate("rows", 3):
        pyro.sample(f"x_{i}", dist.Bernoulli(p))


def in_plate():
    with pyro.plate("rows", 3):
        see(pyro.sample("x", dist.Bernoulli(0.5)), Y3)


def in_plate_guide():
    with pyro.plate("rows", 3):
        pyro.sample("x", dist.Bernoulli(p_of()))


def rows_guide():
    with pyro.plate("rows", 3):
        pyro.sample("x", dist.Bernoulli(pyro.param("p", torch.tensor([0.1, 0.5, 0.8]))))


def expanded():
    with pyro.plate("rows", 3) as rows:
        see(pyro.sample("x", dist.Bernoulli(torch.tensor(0.5)).expand_by([len(rows)])), Y3)


def without_size():
    with pyro.plate("rows"):
        see(pyro.sample("x", dist.Bernoulli(torch.tensor(0.5)).expand_by([3])), Y3)


def without_size_guide():
    with pyro.plate("rows"):
        pyro.sample("x", dist.Bernoulli(p_of()).expand_by([3]))


def loop_in_loop():
    outer, inner = pyro.plate("outer", 2), pyro.plate("inner", 2)
    for i in outer:
        for j in inner:
            see(pyro.sample(f"x_{i}_{j}", dist.Bernoulli(0.4)), 0.3 * i - j, f"y_{i}_{j}")


def loop_in_loop_guide():
    p = p_of()
    outer, inner = pyro.plate("outer", 2), pyro.plate("inner", 2)
    for i in outer:
        for j in inner:
            pyro.sample(f"x_{i}_{j}", dist.Bernoulli(p))


def swapped_loops_guide():
    p = p_of()
    outer, inner = pyro.plate("outer", 2), pyro.plate("inner", 2)
    for j in inner:
        for i in outer:
            pyro.sample(f"x_{i}_{j}", dist.Bernoulli(p))


def plate_of_loop():
    with pyro.plate("rows", 3):
        for i in pyro.plate("columns", 2):
            see(pyro.sample(f"x_{i}", dist.Bernoulli(0.4)), Y3 * i, f"y_{i}")


def plate_of_loop_guide():
    p = p_of()
    with pyro.plate("rows", 3):
        for i in pyro.plate("columns", 2):
            pyro.sample(f"x_{i}", dist.Bernoulli(p))


def loop_of_plate():
    rows = pyro.plate("rows", 2)
    for i in pyro.plate("columns", 2):
        with rows:
            see(pyro.sample(f"x_{i}", dist.Bernoulli(0.4)), Y3[:2] * i, f"y_{i}")


def loop_of_plate_guide():
    p, rows = p_of(), pyro.plate("rows", 2)
    for i in pyro.plate("columns", 2):
        with rows:
            pyro.sample(f"x_{i}", dist.Bernoulli(p))


def stack():
    with pyro.plate_stack("stack", (2, 3)):
        see(pyro.sample("x", dist.Bernoulli(0.4)), Y3.repeat(2, 1))


def stack_guide():
    with pyro.plate_stack("stack", (2, 3)):
        pyro.sample("x", dist.Bernoulli(p_of()))


def nested():
    with pyro.plate("outer", 2, dim=-1):
        x = pyro.sample("x", dist.Bernoulli(0.3))
        with pyro.plate("inner", 2, dim=-2):
            see(pyro.sample("z", dist.Bernoulli(0.2 + 0.5 * x)), torch.tensor([[0.1, 0.9], [1.2, -0.4]]))


def nested_guide():
    with pyro.plate("outer", 2, dim=-1):
        pyro.sample("x", dist.Bernoulli(p_of()))
        with pyro.plate("inner", 2, dim=-2):
            pyro.sample("z", dist.Bernoulli(p_of("q", 0.6)))


def crossed():
    columns, rows = pyro.plate("columns", 2, dim=-1), pyro.plate("rows", 2, dim=-2)
    with columns:
        a = pyro.sample("a", dist.Bernoulli(0.3))
    with rows:
        b = pyro.sample("b", dist.Bernoulli(0.6))
    with columns, rows:
        see(a + b, torch.tensor([[0.1, 0.9], [1.2, -0.4]]))


def crossed_guide():
    columns, rows = pyro.plate("columns", 2, dim=-1), pyro.plate("rows", 2, dim=-2)
    with rows:
        pyro.sample("b", dist.Bernoulli(p_of("b_p", 0.5)))
    with columns:
        pyro.sample("a", dist.Bernoulli(p_of("a_p", 0.4)))


def reused():
    columns, rows = pyro.plate("columns", 2, dim=-1), pyro.plate("rows", 2, dim=-2)
    with columns:
        a = pyro.sample("a", dist.Bernoulli(0.3))
    with columns, rows:
        see(pyro.sample("c", dist.Bernoulli(0.5)) - a, torch.tensor([[0.1, 0.9], [1.2, -0.4]]))


def reused_guide():
    columns, rows = pyro.plate("columns", 2, dim=-1), pyro.plate("rows", 2, dim=-2)
    with columns:
        pyro.sample("a", dist.Bernoulli(p_of("a_p", 0.4)))
    with rows, columns:
        pyro.sample("c", dist.Bernoulli(p_of("c_p", 0.7)))


def chosen_dims():
    with pyro.plate("outer", 2, dim=-3):
        x = pyro.sample("x", dist.Bernoulli(0.4))
        with pyro.plate("inner", 3):
            see(x, Y3.repeat(2, 1, 1))


def chosen_dims_guide():
    with pyro.plate("outer", 2, dim=-3):
        pyro.sample("x", dist.Bernoulli(p_of()))


def depths():
    inner = pyro.plate("inner", 2)
    for i in pyro.plate("outer", 2):
        x = pyro.sample(f"x_{i}", dist.Bernoulli(0.5))
        if i == 0:
            for j in pyro.plate("middle", 2):
                with inner:
                    see(pyro.sample(f"w_{j}", dist.Bernoulli(0.3)) + x, Y3[:2], f"y_{j}")
        else:
            see(x)


def depths_guide():
    p, inner = p_of(), pyro.plate("inner", 2)
    for i in pyro.plate("outer", 2):
        pyro.sample(f"x_{i}", dist.Bernoulli(p))
        if i == 0:
            for j in pyro.plate("middle", 2):
                with inner:
                    pyro.sample(f"w_{j}", dist.Bernoulli(p))


def loop_beside():
    for _ in pyro.plate("unused", 3):
        pass
    single()


CASES = {
    "single": Case(single, single_guide),
    "loop": Case(loop, loop_guide),
    "plate": Case(in_plate, in_plate_guide),
    "plate, probabilities of rows": Case(in_plate, rows_guide),
    "plate, expand_by": Case(expanded, in_plate_guide),
    "plate without a size": Case(without_size, without_size_guide),
    "loop in loop": Case(loop_in_loop, loop_in_loop_guide),
    "loop in loop, swapped": Case(loop_in_loop, swapped_loops_guide),
    "loop in plate": Case(plate_of_loop, plate_of_loop_guide),
    "plate in loop": Case(loop_of_plate, loop_of_plate_guide),
    "plate stack": Case(stack, stack_guide),
    "nested": Case(nested, nested_guide),
    "crossed": Case(crossed, crossed_guide),
    "reused": Case(reused, reused_guide),
    "chosen dims": Case(chosen_dims, chosen_dims_guide),
    "depths": Case(depths, depths_guide),
    "loop in the model alone": Case(loop_beside, single_guide),
}
