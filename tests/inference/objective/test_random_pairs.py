"""Random small pairs of coins, choices and normals: the mean gradient against that of the ELBO, known exactly.

Sites are global or in a plate of one to three rows; each looks at some of those before it, in the model in one order
and in the guide in another. Oracle: all joint values of all rows, normals by Gauss and Hermite; autograd, in doubles.
"""

import math
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import credo
from tests.cases.elbo.expectations import log_normal, param, positive
from tests.cases.gradients import draws_and_exact

SIZE = {"coin": 2, "choice": 3, "normal": 10}  # points of each axis of the grid
CELLS, EXAMPLES = 30_000, 12
DATA = torch.tensor([1.3, -0.4, 2.1])
fixed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Node(NamedTuple):
    """A latent: what it is, whether each row has one, and which nodes its distribution looks at."""

    kind: str
    rows: bool
    model: tuple[int, ...]
    guide: tuple[int, ...]


class Graph(NamedTuple):
    nodes: tuple[Node, ...]  # in the order of the model
    order: tuple[int, ...]  # that of the guide
    rows: int
    seed: int  # of all weights
    score: int | None  # the node for which the score is asked


@st.composite
def graphs(draw, outside):
    """outside: whether a global node may look at the mean of one that each row has."""
    n, rows = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    kinds = [draw(st.sampled_from(list(SIZE))) for _ in range(n)]
    plated = [draw(st.booleans()) for _ in range(n)]
    order = draw(st.permutations(range(n)))

    def parents(i, before):
        return tuple(j for j in before if (outside or plated[i] or not plated[j]) and draw(st.booleans()))

    nodes = [Node(kinds[i], plated[i], parents(i, range(i)), parents(i, order[: order.index(i)])) for i in range(n)]
    assume(math.prod(SIZE[k] ** (rows if p else 1) for k, p in zip(kinds, plated, strict=True)) <= CELLS)
    return Graph(tuple(nodes), tuple(order), rows, draw(st.integers(0, 999)), draw(st.sampled_from([None, *range(n)])))


def weights(graph, what):
    """Numbers of this graph between -1 and 1, the same for every call: shape (nodes, nodes + 1)."""
    generator = torch.Generator().manual_seed(2 * graph.seed + (what == "model"))
    n = len(graph.nodes)
    return 2 * torch.rand(n, n + 1, generator=generator) - 1


def predictor(graph, i, parents, w, values, keepdim=False):
    """w_i0 + sum over the parents of w_ij value_j, of which a global node sees the mean over the rows."""
    total = w[i, 0]
    for j in parents:
        value = values[j]
        if graph.nodes[j].rows and not graph.nodes[i].rows:
            value = value.sum(-1, keepdim=keepdim) / graph.rows
        total = total + w[i, j + 1] * value
    return total


def distribution(kind, x, scale):
    if kind == "coin":
        return dist.Bernoulli(logits=x)
    return dist.Categorical(logits=torch.stack([0 * x, x, -x], -1)) if kind == "choice" else dist.Normal(x, scale)


def mean(values, w):
    """Of the data, given all latents."""
    return sum(w[i, i + 1] * value for i, value in enumerate(values)) + w[0, 0]


def programs(graph):
    """(model, guide) as one writes them."""

    def sample(i, plate, x, scale):
        if not graph.nodes[i].rows:
            return pyro.sample(f"z{i}", distribution(graph.nodes[i].kind, x, scale))
        with plate:
            return pyro.sample(f"z{i}", distribution(graph.nodes[i].kind, x, scale))

    def model(y):
        w, plate, values = param("w", weights(graph, "model")), pyro.plate("N", len(y)), {}
        for i, node in enumerate(graph.nodes):
            values[i] = sample(i, plate, predictor(graph, i, node.model, w, values), 1.0)
        with plate:
            pyro.sample("y", dist.Normal(mean([values[i] for i in range(len(values))], w), 1.0), obs=y)

    def guide(y):
        v, plate, values = param("v", weights(graph, "guide")), pyro.plate("N", len(y)), {}
        scale = positive("scale", torch.linspace(0.4, 0.8, len(graph.nodes)))
        for i in graph.order:
            values[i] = sample(i, plate, predictor(graph, i, graph.nodes[i].guide, v, values), scale[i])

    return model, guide


def elbo(graph, p):
    """The sum over a grid with an axis for each number that is drawn."""
    w, v = p["w"], p["v"]
    units = [(i, row) for i, node in enumerate(graph.nodes) for row in range(graph.rows if node.rows else 1)]
    grid = torch.cartesian_prod(*[torch.arange(SIZE[graph.nodes[i].kind]) for i, _ in units]).reshape(-1, len(units))
    index = {i: torch.stack([grid[:, u] for u, (k, _) in enumerate(units) if k == i], -1) for i, _ in units}
    nodes, node_weights = map(torch.as_tensor, np.polynomial.hermite_e.hermegauss(SIZE["normal"]))
    log_weights = (node_weights / node_weights.sum()).log()
    values, gain, cell = {}, 0.0, 0.0
    for i in graph.order:
        x = predictor(graph, i, graph.nodes[i].guide, v, values, True).expand(index[i].shape)
        q = distribution(graph.nodes[i].kind, x, p["scale"][i])
        normal = graph.nodes[i].kind == "normal"
        values[i] = x + p["scale"][i] * nodes[index[i]] if normal else index[i].double()
        log_q = q.log_prob(values[i]).sum(-1)
        cell = cell + (log_weights[index[i]].sum(-1) if normal else log_q)
        gain = gain - log_q
    for i, node in enumerate(graph.nodes):
        x = predictor(graph, i, node.model, w, values, True).expand(index[i].shape)
        gain = gain + distribution(node.kind, x, torch.ones_like(x)).log_prob(values[i]).sum(-1)
    gain = gain + log_normal(DATA[: graph.rows], mean([values[i] for i in range(len(values))], w)).sum(-1)
    return (cell.exp() * gain).sum()


def check(graph):
    model, guide = programs(graph)
    plan = None if graph.score is None else {f"z{graph.score}": "score"}
    runner = credo.SVI(model, guide, plan=plan, particles=64, seed=graph.seed, progress=False)
    rows, exact = draws_and_exact(runner, (DATA[: graph.rows],), lambda p: elbo(graph, p), 30)
    sd, off = rows.std(0), rows.mean(0) - exact
    rounding = 1e-4 * (1 + exact.abs())  # of single precision, and of ten points for a normal
    noisy = sd > rounding
    assert (off.abs() <= rounding)[~noisy].all(), (off, runner.plan)
    z = (off / (sd / 30**0.5))[noisy]
    assert not len(z) or z.abs().max() <= norm.isf(1e-4 / 2 / EXAMPLES / len(z)), (z, runner.plan)


@fixed
@given(graphs(outside=False))
def test_a_random_pair_has_the_gradient_of_its_elbo(graph):
    check(graph)


@fixed
@given(graphs(outside=True))
def test_a_random_pair_whose_rows_meet_outside_the_plate_too(graph):
    check(graph)
