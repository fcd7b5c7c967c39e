"""Analytic KL: the divergence of a latent from its prior in closed form, in the place of log q - log p.

E_q[log q(z) - log p(z | parents)] = E_q[KL(q || p)]        right if no parent was drawn from z, or from what z moves

This term is legal beside several estimators: less noise at the start of a run (Kingma and Welling 2014, eq. 10).
"""

from typing import Any, NamedTuple

import torch
from torch.distributions import biject_to

from ..distributions.divergence import divergence
from ..distributions.unwrap import is_masked, kind, unwrapped
from ..pair.costs import PRIOR
from ..runtime.sites import plates, same_scale
from .dependencies import Dependencies
from .wrong_kl import Place, is_improper, wrong_kl


class Known(NamedTuple):
    """kl: {site of the guide: the site of the model whose prior it is compared with} where the KL is known and right.

    why_not: {site: why there is no such KL}. improper: whether one of these priors cannot be drawn from, so that its
    KL is all that can be said of it.
    """

    kl: dict[str, str]
    why_not: dict[str, str]
    improper: bool


def known_kl(at: list[Place], reads: Dependencies, nesting: int | None = None) -> Known:
    """The sites whose KL from the prior is known in closed form and right.

    at: the pair at its parameters and at others, see `two_places`. nesting: see `Summed`.
    """
    sites, priors = at[0]
    kl: dict[str, str] = {}
    why_not: dict[str, str] = {}
    for name in sites:
        target = name if name in priors else _behind(name, at, reads)
        if target is None:
            why_not[name] = "no site of the model has it for its value"
        elif cause := _why_not(name, target, at[0], reads, nesting):
            why_not[name] = cause
        else:
            kl[name] = target
    wrong = wrong_kl(kl, at)
    kl = {name: target for name, target in kl.items() if name not in wrong}
    return Known(kl, why_not | wrong, any(is_improper(priors[target]["fn"]) for target in kl.values()))


def _why_not(name: str, target: str, at: Place, reads: Dependencies, nesting: int | None) -> str | None:
    """Why KL(q || p) must not take the place of log q - log p at this site; None if it may."""
    if nesting is not None and len(at.model[target]["fn"].batch_shape) > nesting:
        return "its prior depends on a site that is summed out"
    if cause := _unknown(name, target, at):
        return cause
    crossed = reads.parents.get((PRIOR, target), frozenset()) & (reads.descendants(name) | {name})
    return f"its prior depends on {', '.join(sorted(crossed))}, drawn from it in the guide" if crossed else None


def _unknown(name: str, target: str, at: Place) -> str | None:
    """Why no closed form is known for these two distributions, with a value for each row; None if there is one."""
    q, p = at.guide[name], at.model[target]
    if kind(q["fn"]) == "Delta":
        return "a point has no density"
    if not (same_scale(q["scale"], p["scale"]) and _same_mask(q["mask"], p["mask"]) and plates(q) == plates(p)):
        return "scale, mask or plates differ between guide and model"
    if name != target and is_masked(q["fn"], p["fn"]):
        return "a mask within its distribution or that of its latent"
    try:
        value = divergence(at.law(name, target), p["fn"])
    except Exception:  # whatever a registered function raises, at distributions it was not written for
        return f"no KL in closed form is known between {kind(q['fn'])} and {kind(p['fn'])}"
    if not isinstance(value, torch.Tensor) or value.shape != q["fn"].batch_shape:  # a number under mask(False)
        return "its KL does not have a value for each row"
    return None if torch.isfinite(value).all() else "its KL is not finite"


def _behind(name: str, at: list[Place], reads: Dependencies) -> str | None:
    """The latent of the model that is this auxiliary draw, mapped into the support of its prior and nothing else.

    An AutoNormal draws its Normal as an auxiliary site; the latent itself is a point (Delta). A guide that scales and
    shifts its draw by parameters looks the same where they are 1 and 0, so that it is asked at every place.
    """
    for target in at[0].guide:
        if (
            target in at[0].model
            and reads.ancestors(target) == {name}
            and all(_is_map(name, target, place) for place in at)
        ):
            return target
    return None


def _is_map(name: str, target: str, at: Place) -> bool:
    """Whether the latent is T(draw) with the density of T, by torch's `biject_to` the support of its prior."""
    if name not in at.guide or target not in at.guide or target not in at.model:
        return False
    point, u = at.guide[target], at.guide[name]["value"]
    z = point["value"]
    if kind(point["fn"]) != "Delta" or z.shape != u.shape:
        return False
    transform = biject_to(unwrapped(at.model[target]["fn"]).support)
    if not torch.equal(z, transform(u)):
        return False
    moved: Any = transform.inv.log_abs_det_jacobian(z, u) if z is not u else torch.zeros_like(u)
    with torch.no_grad():  # the guide may hold views of parameters that have moved since
        density = point["fn"].log_prob(z)
    return torch.allclose(density, moved.reshape(*density.shape, -1).sum(-1), atol=1e-5)


def _same_mask(one: torch.Tensor | bool | None, two: torch.Tensor | bool | None) -> bool:
    if one is None or two is None:
        return one is two
    return torch.equal(torch.as_tensor(one), torch.as_tensor(two))
