"""Analytic KL: the divergence of a latent from its prior in closed form, in the place of log q - log p.

E_q[log q(z) - log p(z | parents)] = E_q[KL(q || p)]        right if no parent was drawn from z, or from what z moves

This term is legal beside several estimators: less noise at the start of a run (Kingma and Welling 2014, eq. 10).
"""

from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch.distributions import biject_to

from ..distributions.divergence import divergence
from ..distributions.unwrap import kind, unwrapped
from ..pair.costs import PRIOR
from ..runtime.sites import Site, latent, plates, same_scale
from .dependencies import Dependencies


class Known(NamedTuple):
    """kl: {site of the guide: the site of the model whose prior it is compared with} where the KL is known and right.

    why_not: {site: why there is no such KL}. improper: whether one of these priors cannot be drawn from, so that its
    KL is all that can be said of it.
    """

    kl: dict[str, str]
    why_not: dict[str, str]
    improper: bool


def known_kl(q: poutine.Trace, p: poutine.Trace, reads: Dependencies, nesting: int | None = None) -> Known:
    """The sites whose KL from the prior is known in closed form and right.

    q: a trace of the guide; p: a trace of the model replayed from it. nesting: see `Summed`.
    """
    sites, priors = latent(q, auxiliary=True), latent(p)
    kl: dict[str, str] = {}
    why_not: dict[str, str] = {}
    for name, site in sites.items():
        target = name if name in priors else _behind(name, site, sites, priors, reads)
        if target is None:
            why_not[name] = "no site of the model has it for its value"
        elif cause := _why_not(name, site, target, priors[target], reads, nesting):
            why_not[name] = cause
        else:
            kl[name] = target
    return Known(kl, why_not, any(_is_improper(priors[target]["fn"]) for target in kl.values()))


def _why_not(name: str, q: Site, target: str, p: Site, reads: Dependencies, nesting: int | None) -> str | None:
    """Why KL(q || p) must not take the place of log q - log p at this site; None if it may."""
    if nesting is not None and len(p["fn"].batch_shape) > nesting:
        return "its prior depends on a site that is summed out"
    if cause := _unknown(q, p):
        return cause
    crossed = reads.parents.get((PRIOR, target), frozenset()) & (reads.descendants(name) | {name})
    return f"its prior depends on {', '.join(sorted(crossed))}, drawn from it in the guide" if crossed else None


def _unknown(q: Site, p: Site) -> str | None:
    """Why no closed form is known for these two distributions, with a value for each row; None if there is one."""
    if kind(q["fn"]) == "Delta":
        return "a point has no density"
    if not (same_scale(q["scale"], p["scale"]) and _same_mask(q["mask"], p["mask"]) and plates(q) == plates(p)):
        return "scale, mask or plates differ between guide and model"
    try:
        value = divergence(q["fn"], p["fn"])
    except (NotImplementedError, AttributeError):
        return f"no KL in closed form is known between {kind(q['fn'])} and {kind(p['fn'])}"
    if value.shape != q["fn"].batch_shape:
        return "its KL does not have a value for each row"
    return None if torch.isfinite(value).all() else "its KL is not finite"


def _behind(name: str, site: Site, sites: dict[str, Site], priors: dict[str, Site], reads: Dependencies) -> str | None:
    """The latent of the model that is this auxiliary draw, mapped into the support of its prior and nothing else.

    An AutoNormal draws its Normal as an auxiliary site; the latent itself is a point (Delta).
    """
    for target, point in sites.items():
        if target not in priors or kind(point["fn"]) != "Delta":
            continue
        if reads.ancestors(target) != {name} or point["value"].shape != site["value"].shape:
            continue
        transform = biject_to(unwrapped(priors[target]["fn"]).support)
        z, u = point["value"], site["value"]
        if not torch.equal(z, transform(u)):
            continue
        moved: Any = transform.inv.log_abs_det_jacobian(z, u) if z is not u else torch.zeros_like(u)
        density = point["fn"].log_prob(z)
        if torch.allclose(density, moved.reshape(*density.shape, -1).sum(-1), atol=1e-5):
            return target
    return None


def _same_mask(one: torch.Tensor | bool | None, two: torch.Tensor | bool | None) -> bool:
    if one is None or two is None:
        return one is two
    return torch.equal(torch.as_tensor(one), torch.as_tensor(two))


def _is_improper(fn: Any) -> bool:
    try:
        fn.sample()
    except NotImplementedError:
        return True
    return False
