"""A captured step as machine code, at work on the tensors of a run.

    Replay.machine:   None -> Job (waits until it pays) -> Compiling -> Machine,   or at any point a str: why not

Parameters, Adam's moments and the baselines are changed where they are: the next eager step finds them as eager steps
would have left them.
"""

import time
from dataclasses import dataclass

import torch

from .ahead import Inputs, Job, step
from .native import Compiling, Loop, begin, finish, opened
from .replay import Live, Replay
from .scope import noise

PATIENCE = 2.0  # seconds of steps, from which on a compiler is worth its while
BLOCK, MOST = 0.1, 100  # seconds and steps in one call: Ctrl-C and the progress bar do not wait longer
CLOSE, ROUNDING = 1e-4, 1e-6  # of the largest number, and of the loss: what a gradient of machine code may be off by


@dataclass
class Machine:
    """The loop of a library. pace: seconds of a step."""

    loop: Loop
    pace: float = 0.0

    @property
    def at_once(self) -> int:
        """How many steps to take in one call."""
        return max(1, min(MOST, int(BLOCK / self.pace))) if self.pace else 1


def job_of(replay: Replay, live: Live, optimiser: torch.optim.Optimizer) -> Job | str:
    """What is to be compiled, or why it cannot be."""
    if any(t.device.type != "cpu" for t in [*live.leaves, *live.data, *replay.captured.constants]):
        return "machine code is for the CPU only"
    if _age(replay, live, optimiser) is None:
        return "its parameters began to be trained at different steps"
    x = _inputs(replay, live, optimiser)
    group = optimiser.param_groups[0]
    shapes = [(tuple(t.shape), t.stride(), t.dtype, t.device) for part in x for t in part]
    sizes = {kind: len(part) for kind, part in zip(Inputs._fields, x, strict=True)}
    code = replay.captured.graph.code
    return Job(code, replay.used, sizes, shapes, group["betas"], group["eps"], torch.get_num_threads())


def pursue(replay: Replay, live: Live, optimiser: torch.optim.Optimizer) -> None:
    """Brings `replay.machine` on: opens what is on disk, has it made when that pays, and takes it when it is ready."""
    now = replay.machine
    if now is None:
        job = job_of(replay, live, optimiser)
        replay.machine = job if isinstance(job, str) else _opened(job, replay, live, optimiser) or job
    elif isinstance(now, Job) and replay.seconds > PATIENCE:
        replay.machine = begin(now)
    elif isinstance(now, Compiling) and now.process.poll() is not None:
        why = finish(now)
        replay.machine = why or _opened(now.job, replay, live, optimiser) or "the library it was compiled to is no good"


def many_steps(
    replay: Replay, live: Live, optimiser: torch.optim.Optimizer, count: int
) -> tuple[list[float], torch.Tensor] | None:
    """So many steps, `each` of `live` stacked for them: (the losses, the sum of the iterates, flat).

    Fewer if a loss is not finite: that step updates nothing and is the last. None if the state does not fit.
    """
    if _age(replay, live, optimiser) is None:
        return None
    x = _inputs(replay, live, optimiser)
    begun = time.perf_counter()
    losses = replay.machine.loop([t for part in x for t in part], len(x.each), count)
    replay.machine.pace = (time.perf_counter() - begun) / len(losses)
    replay.taken += len(losses)
    for i in replay.used:
        optimiser.state[live.leaves[i]]["step"] += sum(loss - loss == 0 for loss in losses)
    return losses, torch.cat([total.flatten() for total in x.totals])


def _inputs(replay: Replay, live: Live, optimiser: torch.optim.Optimizer) -> Inputs:
    states = [optimiser.state[live.leaves[i]] for i in replay.used]
    group, age = optimiser.param_groups[0], _age(replay, live, optimiser) or 0.0
    return Inputs(
        each=live.each,
        leaves=[p.detach() for p in live.leaves],
        first=[state["exp_avg"] for state in states],
        second=[state["exp_avg_sq"] for state in states],
        totals=[torch.zeros_like(p, requires_grad=False) for p in live.leaves],
        averages=list(live.averages.values()),
        clock=[torch.tensor(x, dtype=torch.float64) for x in (*(b**age for b in group["betas"]), group["lr"])],
        data=[*live.data, *replay.captured.constants],
    )


def _age(replay: Replay, live: Live, optimiser: torch.optim.Optimizer) -> float | None:
    """How many updates the parameters have had; None if not all the same."""
    ages = {float(optimiser.state[live.leaves[i]].get("step", -1)) for i in replay.used}
    return ages.pop() if len(ages) == 1 and min(ages) > 0 else None


def _opened(job: Job, replay: Replay, live: Live, optimiser: torch.optim.Optimizer) -> Machine | None:
    """The library of this job, if there is one and its step is that of the graph, from the same state and noise."""
    loop = opened(job)
    if loop is None:
        return None
    results = []
    for native in (True, False):
        x = Inputs(*([t.clone() for t in part] for part in _inputs(replay, live, optimiser)))
        flat = [*([t[None] for t in x.each] if native else x.each), *(t for part in x[1:] for t in part)]
        with noise(0), torch.no_grad():
            loss = loop(flat, len(x.each), 1)[0] if native else step(job)(*flat)[0].item()
        results.append((loss, [*x.first, *x.averages]))
    (loss, found), (wanted, expected) = results
    rounding = ROUNDING * abs(wanted)  # a gradient may be a difference of costs as large as this
    same = abs(loss - wanted) <= rounding and all(
        torch.allclose(a, b, rtol=0, atol=CLOSE * b.abs().max().item() + rounding)
        for a, b in zip(found, expected, strict=True)
    )
    return Machine(loop) if same else None
