"""What depends on what, against what is written in the pair: found by provenance, by escapes, or by the dataflow."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuideList, AutoNormal
from torch import nn
from torch.distributions import constraints as c

import credo
from credo.inference.estimators.dependencies import _missed, dependencies
from credo.inference.pair.costs import DATA, GUIDE, PRIOR
from credo.inference.pair.pair import Pair
from credo.inference.runtime.state import entered, new_state

Y = torch.tensor([1.3, 0.2, 2.0])
NET = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
TABLE = [torch.tensor(-1.0), torch.tensor(2.0)]


def normal(name, mean=0.0):
    return pyro.sample(name, dist.Normal(mean, 1.0))


def y_from(mean):
    with pyro.plate("N", 3):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=Y)


def guide(y):
    """a, b, k and v, each by itself; z after them."""
    for name in "ab":
        normal(name, pyro.param(f"{name}_loc", torch.tensor(0.4)))
    pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.3))))
    pyro.sample("v", dist.Normal(pyro.param("v_loc", torch.zeros(2)), 1.0).to_event(1))


def model_of(mean):
    """The model whose mean is this function of a, b, k and v."""

    def model(y):
        a, b = normal("a"), normal("b")
        k = pyro.sample("k", dist.Bernoulli(0.4))
        v = pyro.sample("v", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        y_from(mean(a, b, k, v))

    return model


def reads_of(model, guide, *data, seed=0):
    with entered(new_state((model, guide), seed, torch.device("cpu"))):
        return dependencies(Pair(model, guide, data))


def parents_of_y(mean):
    return set(reads_of(model_of(mean), guide, Y).parents[DATA, "y"])


SEEN = {  # what the mean of y is, and the draws in it
    "a sum": (lambda a, b, k, v: a + 2 * k, "ak"),
    "none": (lambda a, b, k, v: torch.tensor(1.0), ""),
    "all": (lambda a, b, k, v: a * b + k * v.sum(), "abkv"),
    "a network": (lambda a, b, k, v: NET(b[None]).squeeze(), "b"),
    "an entry": (lambda a, b, k, v: v[..., 1], "v"),
    "an index": (lambda a, b, k, v: torch.stack(TABLE)[k.long()], "k"),
    "where": (lambda a, b, k, v: torch.where(k > 0, a, 0.5), "ak"),
    "unpacked": (lambda a, b, k, v: sum(list(v)), "v"),
    "a maximum, by name": (lambda a, b, k, v: torch.max(v, -1).values, "v"),
}


@pytest.mark.parametrize("name", SEEN)
def test_a_draw_is_followed_to_where_it_is_read_and_no_further(name):
    mean, parents = SEEN[name]
    assert parents_of_y(mean) == set(parents)


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.as_tensor(np.square((x._t if hasattr(x, "_t") else x).detach().numpy()))

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def through_a_list(a, b, k, v):
    kept = [float(x) for x in v]
    return torch.tensor(sum(kept))


def in_place(a, b, k, v):
    mean = torch.zeros(3)
    mean[1] = b
    return mean


ESCAPING = {  # the same by ways that a tensor cannot be followed along: (mean, what must be there)
    "a branch": (lambda a, b, k, v: torch.tensor(1.0 if b > 0 else -1.0), "b"),
    "item": (lambda a, b, k, v: torch.tensor(b.item()), "b"),
    "int": (lambda a, b, k, v: TABLE[int(k)], "k"),
    "an index of Python's": (lambda a, b, k, v: TABLE[k.long()], "k"),
    "in place": (in_place, "b"),
    "numpy": (lambda a, b, k, v: torch.from_numpy(np.tanh(v.detach().numpy())).sum(), "v"),
    "asarray": (lambda a, b, k, v: torch.tensor(np.asarray(v.detach()).sum()), "v"),
    "a list of floats": (through_a_list, "v"),
    "a function of one's own": (lambda a, b, k, v: Squared.apply(b), "b"),
}


@pytest.mark.parametrize("name", ESCAPING)
def test_what_escapes_is_not_lost(name):
    mean, parents = ESCAPING[name]
    assert set(parents) <= parents_of_y(mean) <= set("abkv")


def test_what_escaped_is_in_what_comes_after_and_not_before():
    reads = reads_of(model_of(lambda a, b, k, v: torch.tensor(float(b))), guide, Y)
    assert reads.parents[PRIOR, "k"] == reads.parents[PRIOR, "a"] == frozenset()


def test_a_value_in_a_closure_of_numbers_is_found_by_the_dataflow_and_goes_by_the_order():
    """Nothing of torch carries it: b is held as a number between the sites of the model."""
    kept = {}

    def model(y):
        a = normal("a")
        b = normal("b")
        kept["b"] = b.data_ptr and memoryview(bytearray(_bytes(b)))
        normal("later", 0.1 * a)
        y_from(torch.frombuffer(kept["b"], dtype=torch.float32)[0])

    def own_guide(y):
        for name in ("a", "b", "later"):
            normal(name, pyro.param(f"{name}_loc", torch.tensor(0.4)))

    reads = reads_of(model, own_guide, Y)
    assert reads.parents[DATA, "y"] == {"a", "b", "later"}  # all that was drawn before it
    assert reads.parents[PRIOR, "later"] == {"a"}  # no more than what it reads: provenance saw that


def _bytes(tensor):
    """The numbers of a tensor, not by any function of torch's."""
    import ctypes

    plain = tensor._t if hasattr(tensor, "_t") else tensor
    return ctypes.string_at(plain.data_ptr(), 4)


def chain_model(y):
    first = pyro.sample("first", dist.Poisson(torch.tensor(2.0)))
    second = pyro.sample("second", dist.Poisson(1.0 + 0 * first))
    third = pyro.sample("third", dist.Poisson(torch.tensor(1.0)))
    y_from(third + 0 * second)


def chain_guide(y):
    first = pyro.sample("first", dist.Poisson(pyro.param("rate", torch.tensor(1.5), constraint=c.positive)))
    second = pyro.sample("second", dist.Poisson(1 + first))
    pyro.sample("third", dist.Poisson(1 + second))


def test_a_draw_moves_what_later_draws_of_the_guide_read():
    reads = reads_of(chain_model, chain_guide, Y)
    assert reads.descendants("first") == {"second", "third"} and reads.ancestors("third") == {"first", "second"}
    assert (DATA, "y") in reads.moved_by("first") and (GUIDE, "third") in reads.moved_by("first")
    assert (PRIOR, "first") in reads.moved_by("first") and (GUIDE, "first") not in reads.moved_by("third")


def below(y):
    k = pyro.sample("k", dist.Poisson(torch.tensor(2.0)))
    y_from(pyro.sample("z", dist.Normal(k, 0.5)))


def count(y):
    pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(1.5), constraint=c.positive)))


def with_normal(y):
    count(y)
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.4)), 0.6))


def test_a_kl_stands_in_for_both_sides_of_its_site():
    reads = reads_of(below, with_normal, Y)
    assert set(reads.moved_by("k")) == {(GUIDE, "k"), (PRIOR, "k"), (PRIOR, "z")}
    assert set(reads.moved_by("k", {"z": "z"})) == {(GUIDE, "k"), (PRIOR, "k"), (GUIDE, "z")}
    assert set(reads.moved_by("z", {"z": "z", "k": "k"})) == {(DATA, "y")}  # E KL is no function of its own draw
    assert set(reads.moved_by("k", {"z": "z", "k": "k"})) == {(GUIDE, "z")}


def test_so_does_the_kl_of_a_normal_behind_a_point():
    """AutoNormal's: KL(q(u) || p(z | k)) is a cost of its auxiliary site, and k moves it."""
    hidden = AutoGuideList(below)
    hidden.append(AutoNormal(poutine.block(below, hide=["k"])))
    hidden.append(count)
    reads = reads_of(below, hidden, Y)
    kl = credo.SVI(below, hidden, progress=False).prepare(Y).facts.kl
    assert kl == {"z_unconstrained": "z", "k": "k"}
    assert set(reads.moved_by("k", kl)) == {(GUIDE, "z_unconstrained")}
    assert set(reads.moved_by("k")) == {(GUIDE, "k"), (PRIOR, "k"), (PRIOR, "z")}


def test_the_gradient_of_a_count_above_an_autonormal_is_right():
    """E KL(N(m, s) || N(k, 1/2)) = 2 E (m - k)^2 + ...: its derivative by the rate r of k is 2 (1 + 2 (r - m))."""
    auto = AutoNormal(poutine.block(below, hide=["k"]))

    def hidden(y):
        count(y)
        auto(y)

    runner = credo.SVI(below, hidden, particles=400, progress=False)
    runner.prepare(Y)
    found = torch.stack([runner.gradients(Y)["rate"] for _ in range(100)]).double()
    rate, m = 1.5, runner.params["AutoNormal.locs.z"].item()
    kl = np.log(rate / 2.0)  # d/dr KL(Poisson(r) || Poisson(2))
    exact = rate * (2 * (1 + 2 * (rate - m)) + kl)  # in unconstrained space
    assert abs(found.mean().item() - exact) < 4 * found.std().item() / 10
    assert found.std() > 0


def test_a_deterministic_guide_and_points_are_followed_to_their_own_draws():
    def model(y):
        z = normal("z")
        y_from(normal("w") + 0 * z)

    def own_guide(y):
        u = pyro.sample("u", dist.Normal(pyro.param("loc", torch.tensor(0.4)), 1.0), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Delta(2 * u))
        pyro.sample("w", dist.Delta(pyro.param("point", torch.tensor(0.1))))

    reads = reads_of(model, own_guide, Y)
    assert reads.ancestors("z") == {"u"} and reads.ancestors("w") == frozenset()
    assert set(reads.parents[DATA, "y"]) == {"u", "w", "z"}


def test_a_long_chain_is_tested_by_random_halves_of_its_draws():
    """It has more sets of draws than are held in turn."""
    y = torch.zeros(30)

    def model(y):
        x = torch.tensor(0.0)
        for i in range(len(y)):
            x = pyro.sample(f"z{i}", dist.Normal(x, 1.0))
            pyro.sample(f"y{i}", dist.Normal(x, 1.0), obs=y[i])

    def guide(y):
        for i in range(len(y)):
            pyro.sample(f"z{i}", dist.Normal(pyro.param(f"m{i}", torch.tensor(0.1)), 1.0))

    guide(y)
    pair = Pair(model, guide, (y,))
    alone = {(side, f"{name}{i}"): frozenset() for i in range(30) for side, name in ((GUIDE, "z"), (PRIOR, "z"))}
    chain = {(PRIOR, f"z{i}"): frozenset({f"z{i - 1}"}) for i in range(1, 30)}
    data = {(DATA, f"y{i}"): frozenset({f"z{i}"}) for i in range(30)}
    assert _missed(pair, alone | chain | data) == set()
    assert len(_missed(pair, alone | data)) > 15  # of the 29 priors that depend on the state before


@pytest.mark.parametrize("name", ["sound", "a branch", "noise in the model"])
def test_sets_of_draws_that_are_tried_at_once_give_what_sets_in_turn_give(name):
    """`vmap` takes the first; a branch on a value fails under it, and noise differs there, so that sets go in turn."""

    def mean(a, b, k, v):
        if name == "a branch":
            return a if b > 0 else -a
        return a * b + (torch.rand(()) if name == "noise in the model" else 0.0)

    pair = Pair(model_of(mean), guide, (Y,))
    with entered(new_state((pair.model, pair.guide), 0, torch.device("cpu"))):
        guide(Y)
        one, two = (dependencies(pair, vectorised) for vectorised in (True, False))
        assert one == two and {"a", "b"} <= set(one.parents[DATA, "y"])
        nothing = dict.fromkeys(one.parents, frozenset())
        moved = [_missed(pair, nothing, vectorised) for vectorised in (True, False)]
        assert moved[0] == moved[1] == {(DATA, "y")}
