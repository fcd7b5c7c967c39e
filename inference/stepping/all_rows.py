"""When steps that took batches of rows go on with all of them, which ends a run at the answer for all rows.

    noise of a mean after T steps on batches of B of N rows: sqrt(N / (B T)) sds of the posterior

For N / B = 1,000 that is 100,000 steps for a tenth of an sd. A step on all rows has no such noise. So batches lead to
where their noise hides the rest of the way, and steps on all rows from there to its end, if these are cheap: the rows
are in memory, there are few latents and parameters, and a step takes LONGEST at most.
"""

from ..convergence.gain import FEW, NUMBERS, numbers
from ..pair.batches import Shuffled
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..planning.race import Contest, how_many, work_of
from ..runtime.parameters import unconstrained
from .steps import Steps

MANY = 4000  # parameters; networks gain from the noise of batches
LONGEST = 3e4  # microseconds of a step, counted: a thousand take half a minute


def take_all_rows(steps: Steps, pair: Pair, plan: Plan, latents: int, now: bool) -> bool:
    """Whether steps take batches and could take all rows. now: they do from now on, with as many particles as pay.

    pair: on all rows. latents: how many numbers they are.
    """
    batches = steps.batches
    if not isinstance(batches, Shuffled) or batches.is_whole or steps.tables or steps.workers:
        return False
    parameters = sum(p.numel() for p in unconstrained().values())
    if not 0 < latents <= FEW or parameters > MANY or numbers(pair) > NUMBERS:
        return False
    particles = steps.asked or how_many(pair, plan, steps.vectorised)
    if work_of(Contest(pair, particles, steps.vectorised), plan) > LONGEST:
        return False
    if now:
        steps.batches, steps.all_rows, steps.kept, steps.particles = None, True, [], particles
    return True
