"""The operators of a step as a graph without in-place operators but for copies at its end: what Inductor compiles.

Both of its callers load this file when they compile: `aot` by its path, in the compiler's process, and `fused`, in the
run's own. Its imports take a second, and it imports nothing of credo.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch._inductor.lowering  # the decomposition of max_pool2d looks it up and does not import it
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx


def plain_graph(step: Callable[..., list[torch.Tensor]], inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
    """The graph of a function of all inputs, some of which it changes in place. inputs: of its form, not changed."""
    program = torch.func.functionalize(step, remove="mutations")
    plain: torch.fx.GraphModule = make_fx(program, decomposition_table=select_decomp_table(), tracing_mode="fake")(
        *inputs
    )
    plain.graph.eliminate_dead_code()
    plain.recompile()
    return plain


def draws_in_order(nodes: list[Any]) -> list[Any]:
    """The kernels of a step in an order in which its random draws come as the program makes them.

    nodes: of Inductor's scheduler, after it has fused kernels: a fused one stands where the first of its parts stood,
    and a draw that a later part reads came before all draws between the two (tried with torch 2.13).
    """
    makers = {name: node for node in nodes for name in node.get_buffer_names()}
    draws = [(part.min_order, node) for node in nodes for part in node.get_nodes() if _is_random(part.node)]
    placed: dict[Any, None] = {}

    def place(node: Any) -> None:
        if node in placed:
            return
        for needed in node.unmet_dependencies:
            maker = makers.get(needed.name, node)
            if maker is not node:
                place(maker)
        placed[node] = None

    for node in [*(node for _, node in sorted(draws, key=lambda draw: draw[0])), *nodes]:
        place(node)
    return list(placed)


def _is_random(kernel: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(getattr(kernel, "op_overload", None), "tags", ())
