"""A recorded step on a GPU as a CUDA graph: one launch a step, without Python between kernels.

A CUDA graph reads and writes fixed addresses: each block of steps is copied in, and what changed is copied out. The
graph knows the default generator, so a replay draws what eager code would draw.
"""

import math

import torch

from ..runtime.generators import generators_kept
from .aot import CompiledInputs, CompileJob, step_function
from .compiler import Loop

WARMUP = 3  # steps before the capture, as torch's manual asks for


def cuda_graph(job: CompileJob, x: CompiledInputs) -> Loop:
    """A loop over steps of a CUDA graph. x: the inputs of the first step, not changed.

    Raises RuntimeError if the step cannot be captured: it waits for the GPU, or draws on the CPU.
    """
    own = [t.clone() for part in x for t in part]
    program = step_function(job)
    with generators_kept(), torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUP):
                program(*own)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = program(*own)[0]
    changed = CompiledInputs._fields[1 : CompiledInputs._fields.index("others")]  # then come those that are only read
    end = job.sizes["per_step"] + sum(job.sizes[name] for name in changed)
    last_read: list[tuple[int, int]] = []  # the tensors copied last: copied again only if replaced or changed

    def steps(flat: list[torch.Tensor], stacked: int, count: int) -> list[float]:
        with torch.no_grad():
            torch._foreach_copy_(own[stacked:end], flat[stacked:end])
            read = [(id(t), t._version) for t in flat[end:]]
            if read != last_read:
                torch._foreach_copy_(own[end:], flat[end:])
                last_read[:] = read
            losses = torch.empty(count, dtype=torch.float64, device=loss.device)
            for k in range(count):
                for i in range(stacked):
                    own[i].copy_(flat[i][k])
                graph.replay()
                losses[k] = loss
            torch._foreach_copy_(flat[stacked:end], own[stacked:end])
        found: list[float] = losses.tolist()
        stop = next((k for k, value in enumerate(found) if not math.isfinite(value)), count - 1)
        return found[: stop + 1]

    return steps
