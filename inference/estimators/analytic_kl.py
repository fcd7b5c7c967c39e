"""Where the divergence of a latent from its prior is known in closed form and may stand in for log q - log p.

E_q[log q(z) - log p(z | parents)] = E_q[KL(q || p)]        right if no parent was drawn from z, or from what z moves
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
    """kl: {site of the guide: that of the model whose prior it is held against}. why: {site: why there is none}.

    improper: whether one of these priors cannot be drawn from, so that its KL is all that can be said of it.
    """

    kl: dict[str, str]
    why: dict[str, str]
    improper: bool


def known_kl(q: poutine.Trace, p: poutine.Trace, reads: Dependencies, nesting: int | None = None) -> Known:
    """Looks at a trace of the guide and one of the model replayed from it. nesting: see `marginal.Summed`."""
    sites, priors = latent(q, auxiliary=True), latent(p)
    kl: dict[str, str] = {}
    why: dict[str, str] = {}
    for name, site in sites.items():
        target = _behind(name, site, sites, priors, reads) if name not in priors else name
        cause = "no site of the model has it for its value" if target is None else _illegal(site, priors[target])
        if target is not None and nesting is not None and len(priors[target]["fn"].batch_shape) > nesting:
            cause = "its prior depends on a site that is summed out"
        if target is not None and cause is None:
            crossed = reads.parents.get((PRIOR, target), frozenset()) & (reads.descendants(name) | {name})
            cause = (
                f"its prior depends on {', '.join(sorted(crossed))}, drawn from it in the guide" if crossed else None
            )
        if target is None or cause is not None:
            why[name] = cause or ""
        else:
            kl[name] = target
    return Known(kl, why, any(_is_improper(priors[target]["fn"]) for target in kl.values()))


def _illegal(q: Site, p: Site) -> str | None:
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
    """The latent of the model that is this auxiliary draw, moved into its prior's support and nothing else.

    An AutoNormal hides its Normal so: the latent itself is a point.
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
