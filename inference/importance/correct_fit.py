"""The look at a fit: draws of its guide with their weights, and weighted draws of the posterior to compare them with.

    z_s ~ q,  log w_s = log p(data, z_s) - log q(z_s)          what the guide says of itself
    u_s ~ r,  log w_s = log p(data, u_s) - log r(u_s)          what a wider mixture says (see `correction.py`)

The first needs a run of the pair, and cannot see mass where the guide has none. The second needs a density of fixed
continuous latents.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..gaussian.density import Density, prepared
from ..gaussian.full_rank import Weighed
from ..gaussian.full_rank_normal import FullRankNormal, Normal
from ..gaussian.psis import EVEN, Importance, importance
from ..pair.pair import Program
from ..posterior.approximation import Approximation
from ..posterior.marginals import model_trace
from ..posterior.verdict import YES, not_looked_at
from ..posterior.weighted_guide import WeightedGuide
from ..runtime.defaults import default_dtype
from ..runtime.state import entered
from ..runtime.vectorise import is_out_of_memory
from ..storage.absent import refuse_without_data
from .affordable import FEWEST, affordable, heavy
from .budget import Deadline, OutOfTime, deadline
from .correction import Correction, alike, correction, disagreement
from .guide_draws import GuideDraws, guide_draws_within, in_double
from .improper import SEARCHED

MOST = 2000  # latents
GOOD = 0.3  # effective share of the draws of a normal at which its own weights will do
THIN = 0.3  # k-hat up to which weights of a normal's draws tell the sds of heavy tails too, such as those of exp(u)
GRACE = 10.0  # seconds of CPU of a look that is a second of work by counting: a slow machine takes it too
LONG = 5.0  # seconds of CPU, about, where no correction has been made
RUNS = 6  # how often a density is taken, before it is one, for each time that the trial in double precision runs
TOO_LONG = "weighted draws of the posterior take too long"


class Look(NamedTuple):
    """What was seen of a fit."""

    guide: GuideDraws
    importance: Importance  # of the draws of the guide
    correction: Correction | None
    unseen: str = ""  # why there is no correction
    transforms: Mapping[str, Any] = MappingProxyType({})  # {site: T, unconstrained to constrained}


def look_at(fit: Approximation, *, seconds: float, seed: int = 0) -> Look | None:
    """A look at a fit that takes about so many seconds of CPU at most; None where draws of the guide take longer."""
    by = deadline(seconds, fit.state.device)
    fit = in_double(fit)
    trial = seconds - by.left
    guide = guide_draws_within(fit, by, seed)
    if guide is None:
        return None
    found = importance(guide.log_weights)
    try:
        by.check(RUNS * trial)
        density, state, _ = prepared(with_parameters(fit), fit.data, fit.state.device, seed)
    except OutOfTime:
        return Look(guide, found, None, TOO_LONG)
    except (ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        return Look(guide, found, None, str(error).partition("\n")[0])
    with entered(state), default_dtype(density.first.dtype):
        corrected = _corrected(density, guide, by, seed)
    if isinstance(corrected, str):
        return Look(guide, found, None, corrected, density.transforms)
    good = found.leaves(GOOD)
    if corrected.few and good and not disagreement(found, [corrected.importance]):  # of many latents
        own = {name: value for name, value in guide.values.items() if name in density.names}
        corrected = Correction(own, found, "")
    return Look(guide, found, corrected, "", density.transforms)


def _corrected(density: Density, guide: GuideDraws, by: Deadline, seed: int) -> Correction | str:
    """Weighted draws of the posterior, from the moments of draws of the guide; in words why there are none."""
    D = len(density.first)
    if D > MOST:
        return f"{D:,} latents"
    try:
        draws, search = affordable(density, by)
        if not search and D <= SEARCHED:
            return "a search for other modes takes too long"
        if draws < FEWEST:
            return TOO_LONG
        normals = [normal] if (normal := moments(density, guide)) is not None else []
        if not normals and D > SEARCHED:
            return f"no normal to start from, with {D:,} latents"
        return correction(density, normals, draws=draws, seed=seed, by=by)
    except OutOfTime:
        return TOO_LONG


def look_at_normal(
    density: Density,
    normal: Normal,
    weighed: Weighed,
    others: list[FullRankNormal],
    *,
    near: Sequence[FullRankNormal] = (),
    seconds: float,
    seed: int = 0,
) -> Look:
    """The look at a normal in unconstrained space, some draws of which have been weighed; the state of the density is
    entered.

    others: normals at other modes; near: along ascents, to modes that may not be so far. seconds: of CPU that it
    should take, and must where the density is much work by counting; else it may take GRACE, so that a slow machine
    sees what a fast one does. Where the weights of the normal can be trusted and there is no other mode, its draws are
    themselves the weighted ones if those of a wider mixture, which see more, are worth too little, or are too much work
    by counting. A look that the clock cuts short settles nothing.
    """
    found = weighed.importance
    log_weights = found.log_weights + found.log_evidence + math.log(len(found.log_weights))
    guide = GuideDraws(density.constrained(weighed.us), log_weights)
    own = None
    if not others and found.leaves(GOOD):
        own = Correction(guide.values, found, "")
    wider: Correction | str = f"{len(normal.mean):,} latents"
    if isinstance(normal, FullRankNormal):
        settled = own is not None and (found.k_hat <= THIN or found.ess >= EVEN * len(log_weights))
        much = heavy(density)
        if settled and much:
            return Look(guide, found, own, "", density.transforms)
        device = density.first.device
        by, late = deadline(GRACE if settled else seconds, device), deadline(seconds if much else GRACE, device)
        normals = [normal, *others]
        for each in near:
            if not any(alike(each, one) for one in normals):
                normals.append(each)
        wider = _of_normals(density, normals, by, seed, search=own is None, late=late)
    if own is not None and wider != TOO_LONG and (isinstance(wider, str) or (wider.doubt and not wider.wrong)):
        return Look(guide, found, own, "", density.transforms)
    if isinstance(wider, str):
        return Look(guide, found, None, wider, density.transforms)
    return Look(guide, found, wider, "", density.transforms)


def _of_normals(
    density: Density, normals: list[FullRankNormal], by: Deadline, seed: int, search: bool, late: Deadline | None = None
) -> Correction | str:
    """Weighted draws of the posterior, from normals at its modes; in words why there are none.

    by: when they should be there, which says how many; late: when they must be, `by` if None. search: for more modes,
    where that is affordable: the ascents of a fit that is wrong may have led to one of them.
    """
    try:
        draws, affords = affordable(density, by)
        if draws < FEWEST or (search and not affords and len(density.first) <= SEARCHED and not heavy(density)):
            return TOO_LONG
        return correction(density, normals, draws=draws, seed=seed, search=search and affords, by=late or by)
    except OutOfTime:
        return TOO_LONG
    except Exception as error:  # of the user's program, at draws that it has not met before: the fit is not lost
        if is_out_of_memory(error):
            raise
        return not_looked_at(error)


def reweighted(fit: Any) -> Any:
    """The fit with the weighted draws of its correction in the place of its guide; the fit itself where it is right
    and its weighted draws were too many to keep.

    Raises ValueError where there are none that can be trusted, with the reason.
    """
    found = fit.correction
    if found is None and fit.verdict is not None and fit.verdict.trust == YES:  # a right guide needs no weights
        return fit
    if found is None:
        refuse_without_data(fit.data, "rows")
        look = look_at(fit, seconds=LONG, seed=fit.seed)
        found = None if look is None else look.correction
        why = "draws of the guide take too long" if look is None else look.unseen if found is None else found.doubt
        return with_weighted_draws(fit, found, why, "itself")
    return with_weighted_draws(fit, found)


def with_weighted_draws(fit: Any, found: Correction | None, why: str = "", of: str = "") -> Any:
    """The fit with these weighted draws in the place of its guide, in the precision of its parameters.

    Raises ValueError where there are none, or a reason `why` they cannot be trusted. of: whose draws are the remedy.
    """
    if found is None or why:
        raise ValueError(
            f"corrected: no weighted draws of the posterior can be trusted here ({why}); take draws of the posterior "
            f"{of}, credo.reference(model, *data)"
        )
    like = next((p for p in fit.params.values() if p.is_floating_point()), torch.zeros(()))
    values = {name: v.to(like) if v.is_floating_point() else v for name, v in found.values.items()}
    guide = WeightedGuide(values, found.importance.log_weights.to(like.device))
    return dataclasses.replace(fit, guide=guide, correction=found, method=f"{fit.method}, corrected")


def with_parameters(fit: Approximation) -> Program:
    """The model of a fit, its own parameters at their trained values."""
    nodes: dict[str, Any] = dict(model_trace(fit).nodes)
    trained = {name: site["value"].detach() for name, site in nodes.items() if site["type"] == "param"}
    program: Program = poutine.substitute(fit.model, data=trained) if trained else fit.model
    return program


def moments(density: Density, guide: GuideDraws) -> FullRankNormal | None:
    """The normal with the mean and the covariance of the draws of a guide, unconstrained; None if it has none.

    Correlations are shrunk by the share of their squares that noise explains (Schäfer and Strimmer 2005).
    """
    us = unconstrained(density, guide.values)
    D = len(density.first)
    us = us[us.isfinite().all(1)]
    if len(us) < 4 * D or len(us) < len(guide.log_weights) / 2:
        return None
    mean, sd = us.mean(0), us.std(0)
    if not (sd > 0).all() or not sd.isfinite().all():
        return None
    correlation = torch.corrcoef(us.T).reshape(D, D)
    eye = torch.eye(D, dtype=us.dtype, device=us.device)
    squares = (correlation - eye).square()
    by_noise = (((1 - squares).square() - eye).sum() / (len(us) - 1) / squares.sum()).nan_to_num(nan=0.0).clamp(max=1)
    shrunk = (1 - by_noise) * (correlation + D / len(us) * eye) + (by_noise + 0.01) * eye
    factor, failed = torch.linalg.cholesky_ex(shrunk)
    return None if failed or not math.isfinite(float(factor.sum())) else FullRankNormal(mean, sd[:, None] * factor)


def unconstrained(density: Density, values: dict[str, torch.Tensor]) -> torch.Tensor:
    """u (n, D) of latents {site: (n, *shape of the site)}."""
    like = density.first
    parts = [
        density.transforms[name].inv(values[name].to(like)).reshape(len(values[name]), -1)[:, : shape.numel()]
        for name, shape in zip(density.names, density.shapes, strict=True)
    ]
    return torch.cat(parts, 1)
