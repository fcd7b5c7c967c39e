"""Values that Python reads from the data while a program is recorded, as in `range(int(lengths.max()))`.

    reads(data) = values        a recording holds for all data of which the reads have these values

The operators that lead from the data to the value are recorded beside the program, and run again where other data come.
A value that hangs on a parameter, on noise, on the rows of a batch or on a buffer changes from step to step: it is not
read, and torch refuses the recording; so it does where a tensor is written into, since it may hold anything.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, get_proxy_slot
from torch.utils._python_dispatch import TorchDispatchMode

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


class Reading(TorchDispatchMode):
    """Inside this mode, and that of `make_fx`, Python may read values computed from these inputs of the program alone.

    readable: positions of inputs. changing: identities of tensors that the program closes over and that may change.
    found: the node in the graph and the value, in the order of reading.
    """

    def __init__(self, readable: Iterable[int], changing: set[int]) -> None:
        super().__init__()
        self.readable, self.changing = set(readable), changing
        self.found: list[tuple[torch.fx.Node, Value]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and (mode := get_proxy_mode()) is not None:
            known = get_proxy_slot(args[0], mode.tracer, None)
            if known is not None and self._is_of_the_data(known.proxy.node, getattr(mode.tracer, "root", None)):
                with disable_proxy_modes_tracing():
                    value: Value = func(*args)
                self.found.append((known.proxy.node, value))
                return value
        return func(*args, **(kwargs or {}))

    def _is_of_the_data(self, node: torch.fx.Node, root: Any) -> bool:
        """Whether a value hangs on data and constants alone. root: holds the constants of the graph."""
        places = [n for n in node.graph.nodes if n.op == "placeholder"]
        readable = {place for i, place in enumerate(places) if i in self.readable}
        ancestors = _with_ancestors([node])
        if ancestors & _written(node.graph):  # a write through a view is no ancestor of what is read
            return False
        for n in ancestors:
            changes = n.op == "placeholder" and n not in readable
            changes |= n.op == "get_attr" and id(getattr(root, str(n.target))) in self.changing
            if changes or torch.Tag.nondeterministic_seeded in getattr(n.target, "tags", ()):
                return False
        return True


def reads_of(reading: Reading, module: torch.fx.GraphModule) -> Reads | None:
    """What the program read while it was recorded as `module`; None if nothing. It leaves the module as it is."""
    if not reading.found:
        return None
    nodes, values = zip(*reading.found, strict=True)
    needed = _with_ancestors(nodes)
    graph, copies = torch.fx.Graph(), {}
    positions: list[int] = []
    constants: list[torch.Tensor] = []
    for i, place in enumerate(n for n in module.graph.nodes if n.op == "placeholder"):
        if place in needed:
            copies[place] = graph.placeholder(f"input{i}")
            positions.append(i)
    for node in module.graph.nodes:
        if node in needed and node.op == "get_attr":
            copies[node] = graph.placeholder(f"constant{len(constants)}")
            constants.append(getattr(module, node.target).detach())
    for node in module.graph.nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in nodes])
    return Reads(torch.fx.GraphModule({}, graph).forward, positions, constants, values)


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
