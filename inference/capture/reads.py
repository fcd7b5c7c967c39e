"""Values that Python reads from the data while a program is recorded, as in `range(int(lengths.max()))`.

    reads(data) = values        a recording holds for all data of which the reads have these values

The operators that lead from the data to the value are recorded beside the program, and run again where other data come.
A value that hangs on a parameter, on noise, on the rows of a batch or on a buffer changes from step to step: it is not
read, and torch refuses the recording; so it does where a tensor is written into, since it may hold anything.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

Value = bool | int | float | complex


class Reads(NamedTuple):
    """What a program read from its data. run(*needed) computes the values again."""

    run: Callable[..., Sequence[torch.Tensor]]
    positions: list[int]  # of the inputs of the program that it needs
    constants: list[torch.Tensor]  # tensors that the program closes over
    values: tuple[Value, ...]

    def needed(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors that the values are computed from. inputs: all of the program."""
        return [*(inputs[i] for i in self.positions), *self.constants]

    def now(self, needed: Sequence[torch.Tensor]) -> tuple[Value, ...]:
        """The values for these tensors."""
        with torch.no_grad():
            return tuple(value.item() for value in self.run(*needed))


def is_of_the_data(node: torch.fx.Node, readable: Collection[torch.fx.Node]) -> bool:
    """Whether a value hangs on these placeholders alone, and on no noise."""
    ancestors = _with_ancestors([node])
    if ancestors & _written(node.graph):  # a write through a view is no ancestor of what is read
        return False
    return not any(
        (n.op == "placeholder" and n not in readable)
        or torch.Tag.nondeterministic_seeded in getattr(n.target, "tags", ())
        for n in ancestors
    )


def reads_of(
    found: Sequence[tuple[torch.fx.Node, Value]],
    places: Sequence[torch.fx.Node],
    constants: Mapping[torch.fx.Node, torch.Tensor],
) -> Reads | None:
    """What a program read while it was recorded; None if nothing. It leaves the graph as it is.

    found: the nodes and their values, in the order of reading. places: of the inputs of the program.
    """
    if not found:
        return None
    nodes, values = zip(*found, strict=True)
    needed = _with_ancestors(nodes)
    graph, copies = torch.fx.Graph(), {}
    positions = [i for i, place in enumerate(places) if place in needed]
    used = [node for node in constants if node in needed]
    for node in (*(places[i] for i in positions), *used):
        copies[node] = graph.placeholder(node.name)
    for node in nodes[0].graph.nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in nodes])
    run = torch.fx.GraphModule({}, graph).forward
    return Reads(run, positions, [constants[node] for node in used], values)


def _written(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """The nodes that share memory with one that an operator writes into."""
    memory: dict[torch.fx.Node, torch.fx.Node] = {}  # a node and the first that has its memory
    written = set()
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments if schema is not None else (), node.args, strict=False):
            if isinstance(value, torch.fx.Node) and argument.alias_info is not None:
                memory[node] = memory.get(value, value)
                if argument.alias_info.is_write:
                    written.add(memory[node])
    return {node for node in graph.nodes if memory.get(node, node) in written}


def _with_ancestors(nodes: Iterable[torch.fx.Node]) -> set[torch.fx.Node]:
    found: set[torch.fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found
