"""A captured step on a GPU, recorded once more as a CUDA graph: one launch a step, no Python between its kernels.

What the graph reads and writes lies at fixed addresses: each block of steps is copied in, and what changed back out.
The default generator is known to the graph, so a replay draws what eager code would draw.
"""

import math

import torch

from ..runtime.generators import generators_kept
from .aot import CompileJob, Inputs, step
from .compiler import Loop

WARMUP = 3  # steps before the recording, as torch asks for


def cuda_graph(job: CompileJob, x: Inputs) -> Loop:
    """A loop over steps like `native.opened`'s. x: what the first step would be run on; it is left as it is.

    Raises RuntimeError where the step cannot be recorded: it waits for the GPU, or draws on the CPU.
    """
    own = [t.clone() for part in x for t in part]
    program = step(job)
    with generators_kept(), torch.no_grad():
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARMUP):
                program(*own)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = program(*own)[0]
    own_kinds = Inputs._fields[1 : Inputs._fields.index("others")]  # what the graph changes comes before what it reads
    end = job.sizes["each"] + sum(job.sizes[kind] for kind in own_kinds)
    seen: list[tuple[int, int]] = []  # what was read last: copied again only if it is another, or was changed

    def steps(flat: list[torch.Tensor], each: int, count: int) -> list[float]:
        with torch.no_grad():
            torch._foreach_copy_(own[each:end], flat[each:end])
            read = [(id(t), t._version) for t in flat[end:]]
            if read != seen:
                torch._foreach_copy_(own[end:], flat[end:])
                seen[:] = read
            losses = torch.empty(count, dtype=torch.float64, device=loss.device)
            for k in range(count):
                for i in range(each):
                    own[i].copy_(flat[i][k])
                graph.replay()
                losses[k] = loss
            torch._foreach_copy_(flat[each:end], own[each:end])
        found: list[float] = losses.tolist()
        stop = next((k for k, value in enumerate(found) if not math.isfinite(value)), count - 1)
        return found[: stop + 1]

    return steps
