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


def cuda_graph(job: CompileJob, x: CompiledInputs, buffers: list[torch.Tensor]) -> Loop:
    """A loop over steps of a CUDA graph. x: the inputs of the first step, not changed. buffers: of networks.

    Raises RuntimeError if the step cannot be captured: it waits for the GPU, or draws on the CPU.
    """
    own = [t.clone() for part in x for t in part]
    module = torch.get_device_module(own[0].device)
    program = step_function(job)
    with generators_kept(), torch.no_grad():
        stream = module.Stream()
        stream.wait_stream(module.current_stream())
        with module.stream(stream):
            for _ in range(WARMUP):
                program(*own)
        module.current_stream().wait_stream(stream)
        graph = module.CUDAGraph()
        with module.graph(graph):
            loss = program(*own)[0]
    changed = CompiledInputs._fields[1 : CompiledInputs._fields.index("others")]  # then come those that are only read
    end = job.sizes["per_step"] + sum(job.sizes[name] for name in changed)
    places = {buffer.data_ptr() for buffer in buffers}
    inputs = [t for part in x for t in part]
    written = [i for i in range(end, len(inputs)) if inputs[i].data_ptr() in places]  # read, and changed too
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
            for i in written:
                flat[i].copy_(own[i])
        found: list[float] = losses.tolist()
        stop = next((k for k, value in enumerate(found) if not math.isfinite(value)), count - 1)
        return found[: stop + 1]

    return steps
