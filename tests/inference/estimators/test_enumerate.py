"""Finite sites summed over: against a sum over every joint value of every row, which is how it would be done by hand.

The rows are few, so that K^N joint values can be tried one by one; the engine does with K runs.
"""

from itertools import combinations, product

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from credo.inference.objective.elbo import differentiable_loss
from credo.inference.objective.gradients import gradients
from credo.inference.pair.batches import batch
from credo.inference.pair.pair import Pair
from credo.inference.runtime.state import entered

Y = torch.tensor([1.3, 0.2, 2.0])
TABLE = torch.tensor([[0.3, 1.8], [-0.4, 0.9], [1.1, 2.2]])


def choice_model(y):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.2, 0.3])))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(1.5 * k, 1.0), obs=y)


def choice_guide(y):
    pyro.sample("k", dist.Categorical(logits=pyro.param("logits", torch.tensor([0.4, -0.3, 0.1]))))


def rows_model(y):
    shift = pyro.param("shift", torch.tensor(1.2))  # a parameter of the model
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(shift * k, 1.0), obs=y)


def rows_guide(y):
    with pyro.plate("N", len(y)):
        a, b = pyro.param("a", torch.tensor(-0.4)), pyro.param("b", torch.tensor(0.7))
        pyro.sample("k", dist.Bernoulli(logits=a + b * y))


def chain_model(y):
    with pyro.plate("N", len(y)):
        e1 = pyro.sample("e1", dist.Bernoulli(0.4))
        e2 = pyro.sample("e2", dist.Categorical(torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])[e1.long()]))
        pyro.sample("y", dist.Normal(e2 - 0.5 * e1, 1.0), obs=y)


def chain_guide(y):
    u, v = pyro.param("u", torch.tensor(0.3)), pyro.param("v", torch.tensor([[0.2, -0.3, 0.5], [-0.6, 0.1, 0.4]]))
    with pyro.plate("N", len(y)):
        e1 = pyro.sample("e1", dist.Bernoulli(logits=u - 0.3 * y))
        pyro.sample("e2", dist.Categorical(logits=v[e1.long()]))


def deep_model(y):
    """A finite site for all rows above one of each row."""
    g = pyro.sample("g", dist.Bernoulli(0.4))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3 + 0.5 * g))
        pyro.sample("y", dist.Normal(k + g, 1.0), obs=y)


def deep_guide(y):
    g = pyro.sample("g", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.3))))
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=pyro.param("v", torch.tensor([-0.5, 0.8]))[g.long()] + 0.2 * y))


def crossed_model(table):
    """A site for each row, one for each column, data for each pair of them."""
    rows, columns = pyro.plate("rows", 3, dim=-2), pyro.plate("columns", 2, dim=-1)
    with rows:
        r = pyro.sample("r", dist.Bernoulli(0.4))
    with columns:
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
    with rows, columns:
        pyro.sample("y", dist.Normal(r * k, 1.0), obs=table)


def crossed_guide(table):
    with pyro.plate("rows", 3, dim=-2):
        pyro.sample("r", dist.Bernoulli(logits=pyro.param("u", torch.tensor([[0.3], [-0.5], [0.1]]))))
    with pyro.plate("columns", 2, dim=-1):
        pyro.sample("k", dist.Categorical(logits=pyro.param("v", torch.tensor([[0.2, 0.0, -0.3], [0.4, 1.0, 0.0]]))))


def point_model(y):
    """A global latent outside the plate: its prior counts once, however many values k has."""
    z = pyro.sample("z", dist.Normal(0.0, 0.5))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(z + k, 1.0), obs=y)


def point_guide(y):
    pyro.sample("z", dist.Delta(pyro.param("z_hat", torch.tensor(0.8))))
    rows_guide(y)


@poutine.mask(mask=torch.tensor([True, False, True]))
def padded_model(y):
    rows_model(y)


@poutine.mask(mask=torch.tensor([True, False, True]))
def padded_guide(y):
    rows_guide(y)


def branching_model(y):
    """Looks at the value from Python."""
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.2, 0.3])))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.0, 1.0) if k == 0 else dist.StudentT(4.0, 1.5 * k, 1.0), obs=y)


EXACT = {  # model, guide, data
    "one choice for all": (choice_model, choice_guide, Y),
    "a coin for each row": (rows_model, rows_guide, Y),
    "one row": (rows_model, rows_guide, Y[:1]),
    "a chain": (chain_model, chain_guide, Y),
    "global above local": (deep_model, deep_guide, Y),
    "rows and columns": (crossed_model, crossed_guide, TABLE),
    "a point outside the plate": (point_model, point_guide, Y),
    "padded rows": (padded_model, padded_guide, Y),
    "branching": (branching_model, choice_guide, Y),
}


def expectation(pair, finite):
    """-ELBO as a differentiable scalar: the sum over every joint value of the finite sites, all rows, weighted by q."""
    q = poutine.trace(pair.guide).get_trace(*pair.data)
    spaces = []
    for name in finite:
        fn, value = q.nodes[name]["fn"], q.nodes[name]["value"]
        while not isinstance(fn, dist.Bernoulli | dist.Categorical):
            fn = fn.base_dist
        support = fn.enumerate_support(expand=False).flatten()
        cells = product(support.tolist(), repeat=value.numel())
        spaces.append([torch.tensor(cell, dtype=support.dtype).reshape(value.shape) for cell in cells])
    total = torch.zeros((), dtype=torch.float64)
    for values in product(*spaces):
        held = dict(zip(finite, values, strict=True))
        q = poutine.trace(poutine.condition(pair.guide, held)).get_trace(*pair.data)
        drawn = {n: s["value"] for n, s in q.nodes.items() if s["type"] == "sample"}
        p = poutine.trace(poutine.condition(pair.model, drawn)).get_trace(*pair.data)
        p.compute_log_prob(), q.compute_log_prob()
        log_p, log_q = (
            sum(s["log_prob"].sum(dtype=torch.float64) for s in t.nodes.values() if s["type"] == "sample")
            for t in (p, q)
        )
        weight = sum(q.nodes[name]["unscaled_log_prob"].sum(dtype=torch.float64) for name in finite).exp()
        total = total + weight * (log_q - log_p)
    return total


def begun(model, guide, *data, **options):
    """(the runner, its plan, the pair)."""
    runner = credo.SVI(model, guide, **options)
    return runner, runner.prepare(*data), Pair(model, guide, data)


def finite_sites(plan):
    return [e.site for e in plan.entries if e.estimator == "enumerate"]


def close(found, exact):
    return pytest.approx(exact, rel=2e-5, abs=2e-6) == found


@pytest.mark.parametrize("vectorised", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("name", EXACT)
def test_loss_and_gradient_are_those_of_the_sum_over_all_joint_values(name, vectorised):
    runner, plan, pair = begun(*EXACT[name], particles=2)
    assert not plan.needs_score and "sticking the landing" not in plan.terms
    discrete = [e.site for e in plan.entries if e.distribution != "Delta"]
    assert finite_sites(plan) == discrete
    assert runner._steps.vectorised is (name != "branching")
    with entered(runner._prepared.state):
        exact = expectation(pair, discrete)
        slopes = gradients(lambda: exact)
        loss, surrogate = differentiable_loss(plan.recipe, pair, 2, vectorised and runner._steps.vectorised)
        found = gradients(lambda: surrogate)
    assert close(loss, exact.item())
    assert found.keys() == slopes.keys()
    for parameter, slope in slopes.items():
        assert slope.abs().min() > 0
        assert close(found[parameter].flatten().tolist(), slope.flatten().tolist()), parameter


def test_the_runner_reports_the_exact_loss_at_every_call():
    runner, plan, pair = begun(*EXACT["a chain"])
    losses = {runner.evaluate_loss(Y) for _ in range(3)}
    with entered(runner._prepared.state):
        exact = expectation(pair, finite_sites(plan)).item()
    assert len(losses) == 1 and close(losses.pop(), exact)
    assert runner.step(Y) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("name", ["a coin for each row", "a chain", "global above local", "a point outside the plate"])
def test_the_scale_of_a_minibatch_does_not_enter_the_weights(name):
    """Every row is in as many batches as any other: the mean over all batches is the loss on all rows."""
    model, guide, y = EXACT[name]
    runner, plan, pair = begun(model, guide, y, batch_size=2, particles=1)
    rows = runner._prepared.rows
    assert rows.plates == {"N"} and finite_sites(plan)
    with entered(runner._prepared.state):
        exact = expectation(pair, finite_sites(plan))
        slopes = gradients(lambda: exact)
        parts = [batch(pair, rows, torch.tensor(index)) for index in combinations(range(3), 2)]
        by_vmap, by_loop = (
            [differentiable_loss(plan.recipe, part, 1, vectorised) for part in parts] for vectorised in (True, False)
        )
        found = gradients(lambda: sum(surrogate for _, surrogate in by_vmap) / 3)
    assert [loss for loss, _ in by_vmap] == pytest.approx([loss for loss, _ in by_loop])
    assert close(sum(loss for loss, _ in by_vmap) / 3, exact.item())
    for parameter, slope in slopes.items():
        assert close(found[parameter].flatten().tolist(), slope.flatten().tolist()), parameter
