"""Latents that a mask leaves without a density: nothing in the model depends on them, so they follow it.

`pyro.sample("x", fn, obs=x, obs_mask=m)` has a latent `x_unobserved` with an entry for every row, masked where x was
observed; a padded series has latents behind its end. The ELBO keeps the entropy E_q[-log q] of such an entry and
nothing else, which grows without bound. Here its log q gets the mask of the model too, so that the entry contributes
nothing, and its draws come from the model (`MaskedSites`).

A guide with one density for all latents cannot leave an entry out. There a normal density in the entry's own
unconstrained coordinate is added to the model instead: it integrates to one and depends on nothing, so the ELBO keeps
its optimum in the other latents.
"""

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.distributions import biject_to

from ..distributions.unwrap import kind, unmasked, unwrapped
from ..runtime.sites import Site, latent

INNER = "_unconstrained"  # what an AutoNormal calls its auxiliary site of a latent


def mask_of(site: Any) -> torch.Tensor | None:
    """Where the density of a site counts, in the shape of its values; None if it counts everywhere."""
    fn = site["fn"]
    if not hasattr(fn, "event_shape"):
        return None
    masks = [(site["mask"], len(fn.event_shape))]  # (mask, event dimensions that it lacks)
    while hasattr(fn, "base_dist") and kind(fn) != type(fn).__name__:
        masks.append((getattr(fn, "_mask", None), len(fn.event_shape)))
        fn = fn.base_dist
    found = None
    for mask, lacking in masks:
        if mask is not None and mask is not True:
            mask = torch.as_tensor(mask, device=site["value"].device)
            mask = mask.reshape(mask.shape + (1,) * lacking).expand(site["value"].shape)
            found = mask if found is None else found & mask
    return found


def masked_latents(model: poutine.Trace, guide: poutine.Trace) -> dict[str, torch.Tensor]:
    """{site: its mask}, the latents of the guide that have masked entries in the model and not in the guide."""
    found = {}
    for name, site in latent(model).items():
        mask = mask_of(site) if name in guide.nodes else None
        if mask is None or bool(mask.all()):
            continue
        own = mask_of(guide.nodes[name])
        if own is None or own.shape != mask.shape or bool((own & ~mask).any()):
            found[name] = mask
    return found


def mask_guide(guide: poutine.Trace, model: poutine.Trace, names: frozenset[str]) -> None:
    """Leaves the masked entries of these latents out of log q, before it is computed. The traces are of one run."""
    joint = any(name.startswith("_") and name.endswith("_latent") for name in latent(guide, auxiliary=True))
    for name in sorted(names & guide.nodes.keys() & model.nodes.keys()):
        mask = mask_of(model.nodes[name])
        if mask is None:
            continue
        site, inner = guide.nodes[name], guide.nodes.get(name + INNER)
        if joint and inner is None and kind(site["fn"]) == "Delta":
            _follow_a_normal(site, model.nodes[name], mask)
            continue
        _mask_entries(site, mask)
        if inner is not None:
            _mask_entries(inner, mask)


def can_mask(site: Site, mask: torch.Tensor) -> bool:
    """Whether masked entries can be left out of the density of a site: events are whole, or sums over entries."""
    fn = site["fn"]
    if _is_sum(fn, mask) or kind(fn) == "Delta":
        return True
    rows = mask.reshape((*fn.batch_shape, -1))
    return bool((rows.all(-1) == rows.any(-1)).all())


def _is_sum(fn: Any, mask: torch.Tensor) -> bool:
    return type(fn).__name__ == "Independent" and fn.shape() == mask.shape and fn.base_dist.event_shape == ()


def _mask_entries(site: Site, mask: torch.Tensor) -> None:
    """Adds the mask to a site, entry by entry where its density is a sum over entries."""
    fn = site["fn"]
    if _is_sum(fn, mask):
        site["fn"] = fn.base_dist.mask(mask).to_event(fn.reinterpreted_batch_ndims)
        return
    lacking = mask.dim() - len(fn.batch_shape)
    rows = mask.reshape((*fn.batch_shape, -1)).all(-1) if lacking > 0 else mask
    site["mask"] = rows if site["mask"] is None else rows & torch.as_tensor(site["mask"], device=rows.device)


def _follow_a_normal(point: Site, prior: Site, mask: torch.Tensor) -> None:
    """Takes a unit normal density of the masked entries, in unconstrained coordinates, from the log q of a point.

    log q(z) = log q(u) + log |du / dz|, with the first term in the joint density: the second one is what a point holds.
    """
    fn = unwrapped(point["fn"])
    transform = biject_to(unwrapped(prior["fn"]).support)
    u = transform.inv(fn.v)
    event = len(fn.event_shape)
    if u.shape == mask.shape:
        normal = torch.where(mask, 0.0, dist.Normal(0.0, 1.0).log_prob(u))
        normal = normal.sum(list(range(-event, 0))) if event else normal
    else:
        normal = dist.Normal(0.0, 1.0).log_prob(u).sum(-1) * ~mask.flatten(-event).any(-1)
    rows = mask.flatten(-event).any(-1) if event else mask
    point["fn"] = dist.Delta(fn.v, torch.where(rows, fn.log_density, 0.0) - normal, event_dim=event)


class MaskedSites(Messenger):
    """Gives latents their values where their density counts; the model draws the masked entries.

    It must stand around the handler that traces the model, so that the trace holds the values of both.
    """

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            value, mask = self.values[msg["name"]], mask_of(msg)
            msg["value"] = value if mask is None else torch.where(mask, value, msg["value"])


class Unmasked(Messenger):
    """Scores these latents without their mask, or all of them: entries on which nothing depends have their prior."""

    def __init__(self, names: frozenset[str] | None) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and (self.names is None or msg["name"] in self.names):
            msg["mask"], msg["fn"] = None, unmasked(msg["fn"])
