"""Finds the latents whose masked entries nothing depends on, by changing these entries."""

import warnings
from contextlib import suppress
from typing import Any

import torch
from pyro import poutine

from ..distributions.unwrap import unmasked
from ..runtime.generators import noise
from ..runtime.sites import latent
from ..runtime.traced import traced
from .costs import DATA, PRIOR, run
from .masked import Unmasked, can_mask, masked_latents
from .pair import Pair, Program


def find_followers(pair: Pair, seed: int = 0) -> frozenset[str]:
    """The latents with masked entries that no density of the model depends on: see `masked.py`.

    A latent under a mask on which the data depends has a flat prior, and is none of them. It runs the pair only if the
    model masks a latent. Raises ValueError for a guide whose density cannot leave the masked entries out.
    """
    with noise(seed), torch.no_grad():
        guide = traced(pair.guide, pair.data)
        model = traced(poutine.replay(pair.model, trace=guide), pair.data)
        masks = masked_latents(model, guide)
        if not masks or all(name in masks and not masks[name].any() for name in latent(guide)):  # no prior is wanted
            return frozenset()
        first = run(pair)
        others = {name: site["value"] for name, site in latent(traced(pair.guide, pair.data)).items()}
        for name in masks:
            if torch.equal(others[name], first.z[name]):  # a point
                with suppress(NotImplementedError):  # a prior without draws
                    others[name] = unmasked(model.nodes[name]["fn"]).sample()
        moved = {name: torch.where(mask, first.z[name], others[name]) for name, mask in masks.items()}
        moved = {name: value for name, value in moved.items() if not torch.equal(value, first.z[name])}

        def matters(names: dict[str, torch.Tensor]) -> bool:
            costs = run(pair, first.z | names).costs
            both = [(cost, costs[key]) for key, cost in first.costs.items() if key[0] in (DATA, PRIOR)]
            return not all(torch.allclose(one, two, rtol=0.0, atol=0.0, equal_nan=True) for one, two in both)

        if matters(moved):
            moved = {name: value for name, value in moved.items() if not matters({name: value})}
    for name in moved:
        if not can_mask(guide.nodes[name], masks[name]):
            raise ValueError(
                f"site {name!r}: some of its entries are masked in the model and nothing depends on them, but the "
                f"guide has one density for all of them, whose entropy would grow without bound; give each entry a "
                f"density of its own, dist.Normal(loc, scale) in the plate, or take guide=None"
            )
    return frozenset(moved)


def without_masks(model: Program, data: tuple[Any, ...]) -> Program:
    """The model with the latents that nothing depends on scored by their priors, for posteriors without a guide.

    Their priors integrate to one, so that the posterior of the other latents and the evidence stay as they are.
    """
    prior: Program = Unmasked(None)(poutine.block(model, hide_fn=_is_no_draw))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is to be said of the model is said where it is examined
        try:
            names = find_followers(Pair(model, prior, data))
        except Exception:  # of the user's program, or a prior without draws
            return model
    return Unmasked(names)(model) if names else model


def _is_no_draw(msg: Any) -> bool:
    return msg["type"] != "sample" or msg["is_observed"] or not msg["fn"].has_rsample
