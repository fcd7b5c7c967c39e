"""Steps that the processes of a run take together: how many at once, with whose noise, and from the same parameters.

    a block of steps:  all meet -> the same number of steps, each with one mean over processes -> the same block for all

Where they meet they tell each other how many compiled steps each could take now, whether Ctrl-C came, and whether one
ends with an error. A step that fails in one of them is a bad step of all: its mean is not a number.

All draw the same random numbers where none belongs to a row, so that K processes take the steps of one. Where latents,
masks or noise have a value for each row, each process draws its own, or rows would share them.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pyro
import torch

from ..capture.native import NativeLoop
from ..capture.record import values_kept
from ..pair.batches import batch
from ..pair.identity import digest
from ..pair.pair import Pair
from ..planning.plain_plan import plain_plan, with_plain
from ..planning.plan import Plan
from ..runtime.generators import device_module, noise, torch_states
from ..runtime.parameters import flat_parameters, place_parameters, unconstrained
from ..runtime.workers import (
    ProcessFailed,
    Workers,
    agreed,
    averaged_step,
    gathered,
    greatest,
    in_words,
    is_first,
    refuse_failed,
    seed_of,
    sent_from_first,
)
from ..updates.update import has_one_rate

APART = 1e-3  # of the largest parameter: what rounding on other processors cannot explain


class StepBlock(NamedTuple):
    """The outcome of consecutive steps."""

    losses: list[float]  # nats, of each step before its update; a step whose loss is not finite is the last
    total: torch.Tensor  # the sum of the flat parameters after each step, shape (P,)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came to one of the processes, and all end before the same step."""


def take_together(steps: Any, pair: Pair, plan: Plan, most: int, take: Callable[[int], StepBlock]) -> StepBlock:
    """The steps that all processes take now, at most so many. take: at least one step, at most the number given.

    Raises Interrupted, ProcessFailed, and the error of a step that failed here.
    """
    workers = steps.workers
    first = plan.choices != steps.averaged
    count = meet(workers, 0 if first else at_once(steps, most), presses=steps.pressed())
    if first:
        settle_noise(steps, pair, plan)
    steps.agreed, steps.first = count, first
    bad = True
    try:
        block = take(max(1, count))
        while len(block.losses) < count and math.isfinite(block.losses[-1]):
            more = take(count - len(block.losses))
            block = StepBlock(block.losses + more.losses, block.total + more.total)
        bad = not math.isfinite(block.losses[-1])
    except ProcessFailed:
        bad = False
        raise
    except Exception as error:
        if not getattr(error, "told", False):
            _tell(steps, first)
        raise
    finally:
        if bad and not steps.own_noise:  # where it failed other numbers were drawn
            share_noise(workers)
    if not bad:
        steps.averaged = plan.choices
    return block


def _tell(steps: Any, first: bool) -> None:
    """Tells the other processes, which wait for a gradient, that this step is bad."""
    if first:
        greatest(steps.workers, [1])
        return
    leaves = list(unconstrained().values())
    bad = leaves[0].new_full((), math.nan)
    averaged_step(steps.workers, bad, [None] * len(leaves), leaves, list(steps.baselines.values()))


def at_once(steps: Any, most: int) -> int:
    """How many compiled steps this process can take now; 0 if the next one is none."""
    replay, batches = steps.last, steps.batches
    native = None if replay is None or steps.captures.refusal else replay.recorded.native
    if not isinstance(native, NativeLoop) or not has_one_rate(steps.optimiser):
        return 0
    known = most if batches is None else batches.at_once
    return max(1, min(most, known, native.at_once, replay.recorded.until_probe))


def meet(workers: Workers, count: int = 0, presses: int = 0, error: Exception | None = None) -> int:
    """The number of steps that all take now: the least that any of them can.

    presses: how often Ctrl-C came here. error: with which this process ends. Raises Interrupted, or ProcessFailed where
    another process ends, or has other parameters.
    """
    numbers = sum(p.numel() for p in unconstrained().values())
    fewest, pressed, leaving, most, least = greatest(
        workers, [-count, presses > 0, error is not None, numbers, -numbers]
    )
    if leaving:
        words = gathered(workers, "" if error is None else in_words(error))
        if error is None:
            refuse_failed(words)
        return 0
    if most != -least:
        each = gathered(workers, numbers)
        raise ProcessFailed(f"the processes have {', '.join(f'{n:,}' for n in each)} parameters: do all run the same?")
    if pressed:
        raise Interrupted
    return -fewest


def leave(workers: Workers | None, error: Exception) -> None:
    """Tells the other processes, at their next step, that this one ends with an error."""
    if workers is not None and not isinstance(error, ProcessFailed):
        with suppress(ProcessFailed):  # the error of this process is the one to be heard here
            meet(workers, error=error)


def settle_noise(steps: Any, pair: Pair, plan: Plan) -> None:
    """Finds whether each process draws noise of its own under this plan, and starts it. pair: on all data."""
    workers, batches = steps.workers, steps.batches
    own = agreed(workers, lambda: workers.shard != "rows" or has_row_noise(steps, pair, plan))
    if batches is not None:
        batches.seed = steps.seed if own else None
    if not own:
        share_noise(workers)
    elif not steps.own_noise and not is_first(workers):
        pyro.set_rng_seed(seed_of(workers, (steps.seed + steps.taken) % 2**32))
    steps.own_noise = own


def has_row_noise(steps: Any, pair: Pair, plan: Plan) -> bool:
    """Whether a step draws more random numbers for more rows: latents of a row, masks of dropout, noise of a row."""
    if steps.batches is None:
        return False
    rows, baselines = steps.batches.rows, dict(steps.baselines)
    size = len(range(0, rows.size, steps.batches.of))
    after = []
    try:
        for n in (size, size - 1 if size > 1 else min(2, rows.n)):
            with noise(0), values_kept([b for module in steps.state.modules for b in module.buffers(recurse=False)]):
                steps.loss(batch(pair, rows, torch.arange(n)), plan)
                after.append(torch_states())
    except Exception:  # at a draw without a density, say: noise of one's own is never wrong
        return True
    finally:
        steps.baselines.clear()
        steps.baselines.update(baselines)
    return not all(map(torch.equal, *after))


def share_noise(workers: Workers) -> None:
    """Gives all processes the random generators of the first."""
    module = device_module()
    states = [torch.get_rng_state(), *([] if module is None else [module.get_rng_state()])]
    first = agreed(workers, lambda: (states, pyro.util.get_rng_state()))
    if is_first(workers):
        return
    states, of_cpu = first
    pyro.util.set_rng_state(of_cpu)
    torch.set_rng_state(states[0])
    if module is not None and len(states) > 1:
        module.set_rng_state(states[1])


def raced(steps: Any, plan: Plan, compute: Callable[[], Plan]) -> Plan:
    """The plan that `compute()` returns in the first process, in all of them. plan: the present one."""
    if steps.workers is None:
        return compute()
    plain, steps.vectorised = agreed(steps.workers, lambda: (plain_plan(compute()), steps.vectorised))
    return with_plain(plan, plain)


def made_alike(steps: Any) -> None:
    """Makes sure that all processes have the same parameters, and gives them the buffers of the first.

    Where they share their noise they get its random generators too, from which a race, run by the first alone, draws.
    Rounding on other processors is put right. Raises ProcessFailed, naming process and parameter, for more.
    """
    workers, leaves = steps.workers, unconstrained()
    if workers is None:
        return
    sent_from_first(workers, [b for module in steps.state.modules for b in module.buffers(recurse=False)])
    if not steps.own_noise:
        share_noise(workers)
    if len(set(gathered(workers, digest(list(leaves.values()))))) == 1:
        return
    first = flat_parameters(leaves.values())
    sent_from_first(workers, [first])
    pieces = first.split([p.numel() for p in leaves.values()])
    largest = first.abs().max().item()
    apart = {
        name: (p.detach().flatten() - piece).abs().nan_to_num(math.inf).max().item() / max(largest, 1e-30)
        for (name, p), piece in zip(leaves.items(), pieces, strict=True)
        if p.numel()
    }
    worst = max(apart, key=lambda name: apart[name])
    for rank, (name, by) in enumerate(gathered(workers, (worst, apart[worst]))):
        if by > APART:
            raise ProcessFailed(
                f"process {rank} of {workers.size} has other parameters than process 0: {name!r} is off by {by:.2g} of "
                f"the largest. A callback that changes parameters in one process, a program that asks for its rank, or "
                f"unequal versions of torch do that"
            )
    place_parameters(first, leaves.values())
