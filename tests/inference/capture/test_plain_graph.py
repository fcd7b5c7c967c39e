"""The plain graph of a step. Oracle: the step itself, from the same state and noise."""

import torch

from credo.inference.capture.plain_graph import plain_graph
from credo.inference.runtime.generators import noise


def step(total, x):
    """Changes both; what it computes and does not use is left out of the graph."""
    x.cos()
    total.add_(x.sum())
    x.copy_(x * 0.5 + torch.randn_like(x))
    return [total.double()]


def test_the_graph_does_what_the_step_does_and_nothing_else():
    mine, oracle = ([torch.tensor(1.0), torch.arange(4.0)] for _ in range(2))
    graph = plain_graph(step, mine)
    assert mine[0].item() == 1.0 and mine[1].tolist() == [0.0, 1.0, 2.0, 3.0]
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert not any("cos" in name for name in names)
    assert [name for name in names if name.split(".")[1].endswith("_")] == ["aten.copy_.default"] * 2
    for program, state in ((graph, mine), (step, oracle)):
        with noise(3), torch.no_grad():
            program(*state)
    for found, wanted in zip(mine, oracle, strict=True):
        torch.testing.assert_close(found, wanted)
