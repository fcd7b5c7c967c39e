"""After a run: pathwise sites whose log density jumps where the parameters ended."""

import warnings

import torch
from pyro import poutine

from ..estimators.pathwise import not_pathwise
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..runtime.generators import noise
from ..runtime.sites import latent


def warn_of_jumps(pair: Pair, plan: Plan, vectorised: bool) -> None:
    """Warns of pathwise sites along whose draws the density jumps where the parameters are now."""
    with noise(0):
        _warn(pair, plan, vectorised)


def _warn(pair: Pair, plan: Plan, vectorised: bool) -> None:
    with torch.no_grad():
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
    fixed = [name for name in latent(guide, auxiliary=True) if name not in plan.pathwise]
    kl = plan.facts.kl if plan.facts.improper else {}
    for name, why in not_pathwise(pair, guide, fixed, kl, vectorised).items():
        warnings.warn(
            f"site {name!r}: {why} where the run ended, which it did not at the start: the gradients were biased. Fit "
            f"again with plan={{{name!r}: 'score'}}",
            stacklevel=5,
        )
