"""The operators of a step as a graph without in-place operators but for copies at its end: what Inductor compiles.

Both of its callers load this file when they compile: `aot` by its path, in the compiler's process, and `fused`, in the
run's own. Its imports take a second, and it imports nothing of credo.
"""

from collections.abc import Callable

import torch
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
