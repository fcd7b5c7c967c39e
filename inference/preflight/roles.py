"""Refuses programs whose sites cannot play their role: observations in a guide, a pair with nothing to learn from."""

from typing import Any

import torch
from pyro import poutine

from ..runtime.parameters import unconstrained
from ..runtime.sites import Site, is_factor, latent, observed, quoted


def refuse_roles(model: poutine.Trace, guide: poutine.Trace, given: str) -> None:
    """Raises ValueError for a model that observes nothing, and for a guide that observes. given: the data, in words."""
    seen, in_guide = observed(model), {n: s for n, s in observed(guide).items() if not is_factor(s)}
    if not seen and in_guide and latent(model):
        raise ValueError(
            f"the model observes nothing and the guide observes {quoted(in_guide)}: are the two swapped? The model "
            f"comes first, credo.fit(model, guide, ...)"
        )
    if not seen:
        raise ValueError(
            f"the model observes nothing with this data ({given}): no site has obs=..., so there is nothing to learn"
        )
    if not latent(model) and not latent(guide) and not unconstrained():
        raise ValueError(
            "the model has no latent site (each pyro.sample has obs=...) and no parameter, so there is nothing to "
            "learn; draw what is not known with pyro.sample, without obs="
        )
    if in_guide:
        name = next(iter(in_guide))
        raise ValueError(
            f"{quoted(in_guide)}: the guide observes with obs=..., and its density there cancels that of the model, so "
            f"that the prior would come back. Observe {name!r} in the model alone; the guide draws latents only"
        )
    if all(_counts_nothing(site) for site in seen.values()):
        raise ValueError(
            f"{quoted(seen)}: a mask hides every observed value, so there is nothing to learn; check the mask (True "
            f"keeps a value)"
        )


def _counts_nothing(site: Site) -> bool:
    """Whether a mask hides all values of an observed site."""
    mask = _all_masks(site)
    return any(m is False or (isinstance(m, torch.Tensor) and m.numel() > 0 and not m.any()) for m in mask)


def _all_masks(site: Site) -> list[Any]:
    """The masks on a site: that of poutine.mask and those of the distribution itself."""
    fn, found = site["fn"], [site["mask"]]
    while hasattr(fn, "base_dist"):
        found.append(getattr(fn, "_mask", None))
        fn = fn.base_dist
    return found
