"""A recorded step on a GPU as a CUDA graph: one launch a step, without Python between kernels.

A CUDA graph reads and writes fixed addresses: each block of steps is copied in, and what changed is copied out. Which
step of the block it is counts a number on the GPU, so that nothing but the launch is left to Python. The graph knows
the default generator, so a replay draws what eager code would draw.
"""

import math
from collections.abc import Callable

import torch

from ..runtime.generators import generators_kept, set_accelerator_states, torch_states
from .aot import CompiledInputs, CompileJob
from .compiler import Loop, Rates

WARMUP = 3  # steps before the capture, as torch's manual asks for
BLOCK = 100  # steps whose inputs are copied in at once


def cuda_graph(
    job: CompileJob, x: CompiledInputs, buffers: list[torch.Tensor], program: Callable[..., list[torch.Tensor]]
) -> Loop:
    """A loop over steps of a CUDA graph. x: the inputs of the first step, not changed. buffers: of networks.

    program: what a step computes, a function of all tensors of x, which it changes in place; it returns [the loss].
    Raises RuntimeError if the step cannot be captured: it waits for the GPU, or draws on the CPU.
    """
    own = [t.clone() for part in x for t in part]
    device = own[0].device
    module = torch.get_device_module(device)
    blocks = [torch.empty((BLOCK, *t.shape), dtype=t.dtype, device=device) for t in x.per_step]
    losses, place = (torch.zeros(n, dtype=d, device=device) for n, d in ((BLOCK, torch.float64), (1, torch.int64)))

    def step() -> None:
        for now, block in zip(own, blocks, strict=False):
            now.copy_(block.index_select(0, place)[0])
        losses.index_copy_(0, place, program(*own)[0][None])
        place.add_(1)

    with generators_kept(), torch.no_grad():
        for t, block in zip(own, blocks, strict=False):
            block.copy_(t.expand_as(block))
        stream = module.Stream()
        stream.wait_stream(module.current_stream())
        with module.stream(stream):
            for _ in range(WARMUP):
                step()
        module.current_stream().wait_stream(stream)
        graph = module.CUDAGraph()
        with module.graph(graph):
            step()
    held = graph, program  # the graph launches the program's kernels: without the program they would be unloaded
    changed = CompiledInputs._fields[1 : CompiledInputs._fields.index("others")]  # then come those that are only read
    end = job.sizes["per_step"] + sum(job.sizes[name] for name in changed)
    places = {buffer.data_ptr() for buffer in buffers}
    inputs = [t for part in x for t in part]
    written = [i for i in range(end, len(inputs)) if inputs[i].data_ptr() in places]  # read, and changed too
    last_read: list[tuple[int, int]] = []  # the tensors copied last: copied again only if replaced or changed

    def taken(flat: list[torch.Tensor], stacked: int, count: int, rates: Rates | None) -> list[float]:
        torch._foreach_copy_(own[stacked:end], flat[stacked:end])
        read = [(id(t), t._version) for t in flat[end:]]
        if read != last_read:
            torch._foreach_copy_(own[end:], flat[end:])
            last_read[:] = read
        scheduled = None if rates is None else torch.tensor(rates[1], dtype=torch.float64).to(device)
        found = []
        for first in range(0, count, BLOCK):
            now = min(BLOCK, count - first)
            for block, given in zip(blocks, flat, strict=False):
                block[:now].copy_(given[first : first + now])
            place.zero_()
            for k in range(first, first + now):
                if scheduled is not None:
                    own[end - 1][2:3].copy_(scheduled[k : k + 1])  # the clock is the last of what changes
                held[0].replay()
            found.append(losses[:now].clone())
        values: list[float] = torch.cat(found).tolist()
        return values

    def steps(flat: list[torch.Tensor], stacked: int, count: int, rates: Rates | None = None) -> list[float]:
        with torch.no_grad():
            before = torch_states()[1:]
            values = taken(flat, stacked, count, rates)
            bad = next((k for k, value in enumerate(values) if not math.isfinite(value)), count)
            if bad < count - 1:  # the call ends with that step, and the steps after it were taken already
                set_accelerator_states(before)
                last_read.clear()
                values = taken(flat, stacked, bad + 1, rates)
            torch._foreach_copy_(flat[stacked:end], own[stacked:end])
            for i in written:
                flat[i].copy_(own[i])
        return values

    return steps
