"""Pathwise gradients checked again at the parameters where a run ended."""

import torch

from ..estimators.pathwise import not_pathwise
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..runtime.generators import noise
from ..runtime.sites import latent
from ..runtime.traced import traced


def jumps(pair: Pair, plan: Plan, vectorised: bool) -> list[str]:
    """A warning for each pathwise site along whose draws the log density jumps at the present parameters."""
    with noise(0):
        with torch.no_grad():
            guide = traced(pair.guide, pair.data)
        fixed = [name for name in latent(guide, auxiliary=True) if name not in plan.pathwise]
        kl = plan.facts.kl if plan.facts.improper else {}
        found = not_pathwise(pair, guide, fixed, kl, vectorised)
    return [
        f"site {name!r}: {why} where the run ended, which it did not at the start: the gradients were biased. Fit "
        f"again with plan={{{name!r}: 'score'}}"
        for name, why in found.items()
    ]
