"""A captured step as machine code, at work on the tensors of a run.

    Replay.machine:   None -> Job (waits until it pays) -> Compiling -> Machine,   or at any point a str: why not

Parameters, Adam's moments and the baselines are changed where they are: the next eager step finds them as eager steps
would have left them.
"""

import math
import time
from dataclasses import dataclass

import torch

from ..runtime.generators import noise
from .aot import CompileJob, Inputs, apart, step
from .compiler import Compiling, Loop, begin_compiling, failure, open_library
from .cuda_graph import cuda_graph
from .optimiser_state import fits, read_state, refused, settings, write_state
from .replay import ROUNDING, Replay, StepInputs

PATIENCE = 2.0  # seconds of steps, from which on a compiler is worth its while


BLOCK, MOST = 0.1, 10_000  # seconds and steps in one call: Ctrl-C and the progress bar do not wait longer


FEW = 100  # steps in one call where there are more parameters than SMALL


SMALL = 50_000  # numbers up to which parameters are handed over as one tensor


SAME = 1e-5  # relative: what the loss of machine code may be off by, whose sums in single precision have another order


CLOSE = 1e-4  # of the largest number: what a gradient may be off by


@dataclass
class NativeLoop:
    """The loop of a library. pace: seconds of a step."""

    loop: Loop
    flat: bool
    pace: float = 0.0

    @property
    def at_once(self) -> int:
        """How many steps to take in one call."""
        return max(1, min(MOST if self.flat else FEW, int(BLOCK / self.pace))) if self.pace else 1


def advance_compilation(replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer) -> None:
    """Brings `replay.machine` on: opens what is on disk, has it made when that pays, and takes it when it is ready.

    Whatever goes wrong there, the run goes on without it.
    """
    try:
        _pursue(replay, live, optimiser)
    except Exception as error:
        replay.machine = f"no machine code ({type(error).__name__}: {error})"[:200]


def _pursue(replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer) -> None:
    now = replay.machine
    if now is None:
        job = job_of(replay, live, optimiser)
        if isinstance(job, str):
            replay.machine = job
        elif live.leaves[0].device.type == "cuda":
            replay.machine = _graphed(job, replay, live, optimiser)
        else:
            replay.machine = _opened(job, replay, live, optimiser) or job
    elif isinstance(now, CompileJob) and replay.seconds > PATIENCE:
        replay.machine = begin_compiling(now) or now
    elif isinstance(now, Compiling) and now.process.poll() is not None:
        why = failure(now)
        replay.machine = why or _opened(now.job, replay, live, optimiser) or "the library it was compiled to is no good"


def job_of(replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer) -> CompileJob | str:
    """What is to be compiled, or why it cannot be."""
    constants = [t for t in replay.captured.constants if t.dim()]  # a number may stay on the CPU
    devices = {t.device.type for t in [*live.leaves, *live.each, *live.data, *constants]}
    if any(t.layout is not torch.strided for t in [*live.data, *constants]):
        return "a tensor is sparse"
    if "cuda" in devices and live.buffers:
        return "a CUDA graph would keep the buffers of a network for itself"
    if devices not in ({"cpu"}, {"cuda"}):
        return f"no machine code where tensors are on {' and '.join(sorted(devices))}"
    if why := (refused(optimiser) or ("" if fits(replay, live, optimiser) else "parameters of different ages")):
        return why
    used = replay.updated(live)
    flat = len({p.dtype for p in used}) == 1 and sum(p.numel() for p in used) <= SMALL
    x = read_state(replay, live, optimiser, flat)
    return CompileJob(
        code=replay.captured.code,
        used=replay.used,
        shapes=[tuple(p.shape) for p in used] if flat else None,
        sizes={kind: len(part) for kind, part in zip(Inputs._fields, x, strict=True)},
        inputs=[(tuple(t.shape), t.stride(), t.dtype, t.device) for part in x for t in part],
        rule=type(optimiser).__name__,
        settings=settings(optimiser),
        threads=torch.get_num_threads(),
        dtype=torch.get_default_dtype(),
    )


def many_steps(
    replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer, count: int
) -> tuple[list[float], torch.Tensor]:
    """So many steps, `each` of `live` stacked for them: (the losses, the sum of the iterates, flat).

    Fewer if a loss is not finite: that step updates nothing and is the last.
    """
    machine = replay.machine
    x = read_state(replay, live, optimiser, machine.flat)
    begun = time.perf_counter()
    losses = machine.loop([t for part in x for t in part], len(x.each), count)
    machine.pace = (time.perf_counter() - begun) / len(losses)
    replay.taken += len(losses)
    write_state(replay, live, optimiser, x, machine.flat, sum(map(math.isfinite, losses)))
    shapes = (p.shape for p in replay.updated(live))
    totals = iter(apart(x.totals[0], shapes) if machine.flat else x.totals)
    every = (next(totals) if i in replay.used else len(losses) * p.detach() for i, p in enumerate(live.leaves))
    return losses, torch.cat([total.flatten().double() for total in every])


def _opened(job: CompileJob, replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer) -> NativeLoop | None:
    """The library of this job, if there is one that does what the graph does."""
    loop = open_library(job)
    return None if loop is None else _held_against(loop, job, replay, live, optimiser)


def _graphed(job: CompileJob, replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer) -> NativeLoop | str:
    try:
        loop = cuda_graph(job, read_state(replay, live, optimiser, job.shapes is not None))
    except RuntimeError as error:
        return f"no CUDA graph: {str(error).splitlines()[0][:160]}"
    return _held_against(loop, job, replay, live, optimiser) or "its CUDA graph does something else"


def _held_against(
    loop: Loop, job: CompileJob, replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer
) -> NativeLoop | None:
    """The loop, if its first step is that of the graph, from the same state and noise."""
    results, generators = [], []
    for native in (True, False):
        x = Inputs(*([t.clone() for t in part] for part in read_state(replay, live, optimiser, job.shapes is not None)))
        flat = [*([t[None] for t in x.each] if native else x.each), *(t for part in x[1:] for t in part)]
        with noise(0), torch.no_grad():
            loss = loop(flat, len(x.each), 1)[0] if native else step(job)(*flat)[0].item()
            generators.append(torch.get_rng_state())
        results.append((loss, [*(x.first or x.leaves), *x.baselines]))
    (loss, found), (wanted, expected) = results
    rounding = ROUNDING * abs(wanted)
    same = abs(loss - wanted) <= SAME * abs(wanted) and torch.equal(*generators)
    same = same and all(
        torch.allclose(a, b, rtol=0, atol=CLOSE * b.abs().max().item() + rounding)
        for a, b in zip(found, expected, strict=True)
        if a.numel()
    )
    return NativeLoop(loop, job.shapes is not None) if same else None
