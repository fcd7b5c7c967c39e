"""When plans compete in the course of a run, and how much of its work the races may take."""

from dataclasses import dataclass

from ..pair.pair import Pair
from ..planning.plan import Plan
from ..planning.race import SECOND, Contest, race
from ..stepping.steps import Steps

SHARE = 0.05  # of a run's work may go into races on the way
START = 1000  # steps from which on a race before the first step is worth its while
AHEAD = 250.0  # microseconds of the race before the first step that each step asked for pays for
AT_A_FALL = 64  # gradients for a race where the learning rate falls


@dataclass
class Races:
    """The races of a run. allowed: False keeps to the plan given. spent: microseconds of races on the way."""

    allowed: bool
    seed: int
    spent: float = 0.0

    def race(self, steps: Steps, pair: Pair, plan: Plan, asked: int | None = None) -> Plan:
        """The plan that wins at the present parameters with a second of work; the same object if none is better.

        pair: on one batch. asked: the steps of the run, if their number is given: few steps pay for less work.
        """
        return self._race(steps, pair, plan, SECOND if asked is None else min(SECOND, AHEAD * asked))

    def race_on_the_way(self, steps: Steps, pair: Pair, plan: Plan, falls: bool) -> Plan:
        """The plan that wins with a share of the work so far. falls: whether the learning rate falls now."""
        share = SHARE * steps.taken * (plan.microseconds or 0.0) - self.spent
        return self._race(steps, pair, plan, share, AT_A_FALL * falls)

    def _race(self, steps: Steps, pair: Pair, plan: Plan, microseconds: float, least: int = 0) -> Plan:
        """microseconds: the work that the race may cost. least: gradients that it may cost in any case."""
        if not self.allowed:
            return plan
        found = steps.batched(
            lambda particles, together: race(Contest(pair, particles, together), plan, microseconds, self.seed, least)
        )
        if steps.taken and found is not plan:
            self.spent += microseconds
        return found
