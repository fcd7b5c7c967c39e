"""Compiled steps on the tensors of a run: when to compile, when to use the result, how to take many steps in a call.

    RecordedStep.native: None -> CompileJob (until it pays) -> Compiling -> NativeLoop; at any stage a str: why not

Parameters, moments and baselines are changed in place: the next eager step finds them as an eager step would have left
them. On a GPU the loop is a CUDA graph (`cuda_graph`) from the start, and its kernels are fused once that pays.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..runtime.generators import noise, torch_states
from ..runtime.workers import GROUP, alone, averaged_step
from .aot import CompiledInputs, CompileJob, split_flat, step_function
from .cache import UnsafeFolder
from .compiler import Compiling, Loop, LoopFailed, begin_compiling, failure, open_library
from .cuda_graph import cuda_graph
from .fused import fused
from .optimiser_state import (
    is_evenly_updated,
    kept_by_leaf,
    read_state,
    rule_of,
    settings,
    unsupported,
    updated_tensors,
    write_state,
)
from .replay import ROUNDING, RecordedStep, Replay
from .rules import row_parts

PATIENCE = 1.0  # seconds of replayed steps before a compiler is started
LONGER = 10  # times PATIENCE: what a compiler takes; a run of given steps must take as long
FUSING = 20  # times PATIENCE: the run waits while its kernels are fused for a GPU, 10 to 20 s
LOOK = 0.3  # seconds of replayed steps until a process looks again for the library that another one compiles
BLOCK, MOST = 0.1, 10_000  # seconds and steps of one call, at most: Ctrl-C and the progress bar wait no longer
FEW = 100  # steps of one call, at most, where there are more than SMALL parameters
SMALL = 50_000  # numbers up to which the parameters are passed as one tensor
SAME = 1e-5  # relative: by how much the losses of compiled code and graph may differ; it sums in another order
CLOSE = 1e-4  # of a tensor's largest magnitude: by how much a gradient may differ


@dataclass
class NativeLoop:
    """A checked loop over compiled steps. flat: parameters are passed as one tensor. pace: seconds a step.

    fusible: the job of a CUDA graph whose kernels could be fused; None otherwise. words: why they were not, or "".
    """

    loop: Loop
    flat: bool
    pace: float = 0.0
    fusible: CompileJob | None = None
    words: str = ""

    @property
    def at_once(self) -> int:
        """How many steps to take in one call."""
        return max(1, min(MOST if self.flat else FEW, int(BLOCK / self.pace))) if self.pace else 1


def advance_compilation(replay: Replay, left: float = math.inf) -> None:
    """Moves `native` of the recorded step to its next stage, if it is time. left: steps that are left, if known.

    It opens a library on disk, starts a compiler once that pays, and opens its result. An error there ends
    compilation, never the run.
    """
    recorded = replay.recorded
    try:
        recorded.native = _next_stage(replay, left)
    except UnsafeFolder as error:
        recorded.native = str(error)
    except Exception as error:
        recorded.native = f"no compiled code ({type(error).__name__}: {error})"[:200]


def _next_stage(replay: Replay, left: float) -> CompileJob | Compiling | NativeLoop | str:
    now = replay.recorded.native
    if now is None:
        job = compile_job(replay)
        if isinstance(job, str):
            return job
        if replay.inputs.leaves[0].device.type != "cpu":
            if replay.workers is not None:
                return "no CUDA graph: processes average their gradients"
            return _graphed(job, replay)
        return _opened(job, replay) or job
    if isinstance(now, CompileJob) and replay.workers is not None and not replay.workers.compiles:
        return (_opened(now, replay) if replay.recorded.looks_again(LOOK) else None) or now
    if isinstance(now, CompileJob) and _pays(replay.recorded, left):
        return begin_compiling(now) or now
    if isinstance(now, NativeLoop) and now.fusible is not None and _pays(replay.recorded, left, FUSING):
        return _fused(now, now.fusible, replay)
    if isinstance(now, Compiling) and now.process.poll() is not None:
        return failure(now) or _opened(now.job, replay) or "the compiled library differs from the graph"
    return now


def _pays(recorded: RecordedStep, left: float, longer: float = LONGER) -> bool:
    """Whether to start a compiler: some steps were replayed, and they, or what is left, take longer than it does."""
    if recorded.seconds <= PATIENCE:
        return False
    ahead = left * recorded.seconds / max(recorded.taken, 1)
    return max(ahead, recorded.seconds) > longer * PATIENCE


def compile_job(replay: Replay) -> CompileJob | str:
    """What to compile, or why it cannot be compiled."""
    recorded, inputs, optimiser, workers = replay
    constants = [t for t in recorded.recording.constants if t.dim()]  # a scalar may stay on the CPU
    devices = {t.device.type for t in [*inputs.leaves, *inputs.per_step, *inputs.data, *constants]}
    if any(t.layout is not torch.strided for t in [*inputs.data, *constants]):
        return "a tensor is sparse"
    if len(devices) > 1:
        return f"tensors are on {' and '.join(sorted(devices))}"
    if reason := unsupported(optimiser):
        return reason
    used = replay.updated
    if not used:
        return "no parameter is trained but rows of tables"
    if not is_evenly_updated(replay):
        return "the parameters were updated unequally often"
    try:
        own = settings(optimiser, used)
    except ValueError as error:
        return str(error)
    if workers is not None:
        own |= {"processes": workers.size, "group": GROUP}
    flat = len({p.dtype for p in used}) == 1 and sum(p.numel() for p in used) <= SMALL
    x = read_state(replay, flat)
    return CompileJob(
        code=recorded.recording.code,
        used=recorded.used,
        shapes=[tuple(p.shape) for p in used] if flat else None,
        sizes={name: len(part) for name, part in zip(CompiledInputs._fields, x, strict=True)},
        inputs=[(tuple(t.shape), t.stride(), t.dtype, t.device) for part in x for t in part],
        rule=rule_of(optimiser) or "",
        settings=own,
        threads=torch.get_num_threads(),
        dtype=torch.get_default_dtype(),
        kept=kept_by_leaf(replay),
        rows=tuple(tuple(whole.shape[1:]) for whole in replay.tables),
    )


def many_steps(replay: Replay, count: int, rates: list[float] | None = None) -> tuple[list[float], torch.Tensor]:
    """Takes `count` compiled steps, for which `per_step` is stacked: (the losses, the sum of the iterates, flat (P,)).

    rates: the learning rate of each step, if it is scheduled; None: that of the optimiser.
    A loss that is not finite ends the call early; that step updates nothing.
    """
    recorded, native = replay.recorded, replay.recorded.native
    tensors = updated_tensors(replay)
    x = read_state(replay, native.flat, tensors)
    begun = time.perf_counter()
    scheduled = [] if rates is None else [(x.clock[0], rates)]
    try:
        losses = native.loop([t for part in x for t in part], len(x.per_step), count, *scheduled)
    except LoopFailed as error:
        losses = _after_failure(error, replay)
    native.pace = (time.perf_counter() - begun) / len(losses)
    recorded.taken += len(losses)
    recorded.seconds += native.pace * len(losses)
    write_state(replay, x, native.flat, sum(map(math.isfinite, losses)), tensors)
    if native.flat and len(replay.updated) == replay.alone:  # at once: a callback cuts a run into many calls
        return losses, x.totals[0]
    shapes = (p.shape for p in replay.updated)
    totals = iter(split_flat(x.totals[0], shapes) if native.flat else x.totals)
    leaves = enumerate(replay.inputs.leaves[: replay.alone])
    every = (next(totals) if i in recorded.used else len(losses) * p.detach() for i, p in leaves)
    return losses, torch.cat([total.flatten().double() for total in every])


def _after_failure(error: LoopFailed, replay: Replay) -> list[float]:
    """The losses of the steps before the one that failed. The other processes of a run, which wait, skip that one too.

    Raises the error if there is neither.
    """
    inputs, workers = replay.inputs, replay.workers
    if workers is None:
        if not error.losses:
            raise error
        return error.losses
    replay.recorded.native = f"a compiled step failed ({str(error).splitlines()[0][:160]})"
    leaves = inputs.leaves
    averaged_step(workers, leaves[0].new_full((), math.nan), [None] * len(leaves), leaves, [*inputs.baselines.values()])
    return [*error.losses, math.nan]


def _opened(job: CompileJob, replay: Replay) -> NativeLoop | None:
    """The library of this job, if there is one and it agrees with the graph."""
    loop = open_library(job)
    return None if loop is None else _checked(loop, job, replay)


def _graphed(job: CompileJob, replay: Replay) -> NativeLoop | str:
    """The step as a CUDA graph of its operators, or why not."""
    try:
        found = _checked(_graph(job, replay, step_function(job)), job, replay)
    except RuntimeError as error:
        return f"no CUDA graph: {str(error).splitlines()[0][:160]}"
    return "the CUDA graph differs from the recorded graph" if found is None else replace(found, fusible=job)


def _fused(plain: NativeLoop, job: CompileJob, replay: Replay) -> NativeLoop:
    """The step as a CUDA graph of fused kernels; the plain graph, with the reason, if they cannot be or differ."""
    try:
        inputs = [t.detach() for part in read_state(replay, plain.flat) for t in part]
        found = _checked(_graph(job, replay, fused(job, inputs)), job, replay)
    except Exception as error:  # whatever a compiler may raise: the plain graph goes on
        message = str(error).strip().splitlines() or [""]
        return replace(plain, fusible=None, words=f"kernels not fused ({type(error).__name__}: {message[0][:160]})")
    return found or replace(plain, fusible=None, words="kernels not fused: fused ones give another result")


def _graph(job: CompileJob, replay: Replay, program: Callable[..., list[torch.Tensor]]) -> Loop:
    return cuda_graph(job, read_state(replay, job.shapes is not None), replay.inputs.buffers, program)


def _checked(loop: Loop, job: CompileJob, replay: Replay) -> NativeLoop | None:
    """The loop, if its first step agrees with the graph's from the same state and noise."""
    flat = job.shapes is not None
    results, generators = [], []
    for native in (True, False):
        x = CompiledInputs(*([t.clone() for t in part] for part in read_state(replay, flat)))
        tensors = [*([t[None] for t in x.per_step] if native else x.per_step), *(t for part in x[1:] for t in part)]
        with noise(0), torch.no_grad(), alone(replay.workers):
            loss = loop(tensors, len(x.per_step), 1)[0] if native else step_function(job)(*tensors)[0].item()
            generators.append(torch_states())
        # Moments show the gradients. A parameter without one is compared itself.
        parts = [row_parts(table, shape) for table, shape in zip(x.tables, job.rows, strict=True)]
        shown = [part[min(1, len(x.first))] for part in parts]
        results.append((loss, [*(x.first or x.leaves), *(x.leaves if job.kept else []), *x.baselines, *shown]))
    (loss, found), (wanted, expected) = results
    rounding = ROUNDING * abs(wanted)
    same = abs(loss - wanted) <= SAME * abs(wanted) and all(map(torch.equal, *generators))
    same = same and all(
        torch.allclose(a, b, rtol=0, atol=CLOSE * b.abs().max().item() + rounding)
        for a, b in zip(found, expected, strict=True)
        if a.numel()
    )
    return NativeLoop(loop, flat) if same else None
