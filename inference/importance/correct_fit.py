"""The look at a fit: draws of its guide with their weights, and weighted draws of the posterior to compare them with.

    z_s ~ q,  log w_s = log p(data, z_s) - log q(z_s)          what the guide says of itself
    u_s ~ r,  log w_s = log p(data, u_s) - log r(u_s)          what a wider mixture says (see `correction.py`)

The first needs a run of the pair, and cannot see mass where the guide has none. The second needs a density of fixed
continuous latents.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..gaussian.density import Density, prepared
from ..gaussian.full_rank_normal import FullRankNormal, generator, standard
from ..gaussian.psis import Importance, importance
from ..pair.pair import Program
from ..posterior.approximation import Approximation
from ..posterior.marginals import model_trace
from ..posterior.weighted_guide import WeightedGuide
from ..runtime.defaults import default_dtype
from ..runtime.state import entered
from ..runtime.vectorise import is_out_of_memory
from .chart import Chart
from .correction import SEARCHED, Correction, correction, disagreement
from .guide_draws import GuideDraws, guide_draws_weighed, in_double

MOST = 2000  # latents
NUMBERS = 2**22  # of all draws of the mixture
DRAWS = 4000  # of the guide and of the mixture, where they are cheap
FEWEST = 400
OWN = 2000  # draws of a normal that knows its own density
GOOD = 0.3  # effective share of the draws of a normal at which its own weights will do
EACH = 6e-3  # seconds of a value at as many points as fit into memory at once (`Density.chunk`)
LONG = 5.0  # seconds of CPU, about, where no correction has been made
CALLS = 60  # of the density, one after another, that a search for modes takes


class Look(NamedTuple):
    """What was seen of a fit."""

    guide: GuideDraws
    importance: Importance  # of the draws of the guide
    correction: Correction | None
    unseen: str = ""  # why there is no correction
    transforms: Mapping[str, Any] = MappingProxyType({})  # {site: T, unconstrained to constrained}


def look_at(fit: Approximation, *, seconds: float, seed: int = 0) -> Look | None:
    """A look at a fit that takes about so many seconds of CPU at most; None where draws of the guide take longer."""
    fit = in_double(fit)
    n = _guide_draws(fit, seconds, seed)
    if n < FEWEST // 2:
        return None
    guide = guide_draws_weighed(fit, n, seed)
    found = importance(guide.log_weights)
    try:
        density, state, _ = prepared(with_parameters(fit), fit.data, fit.state.device, seed)
    except (ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        return Look(guide, found, None, str(error).partition("\n")[0])
    if (D := len(density.first)) > MOST:
        return Look(guide, found, None, f"{D:,} latents", density.transforms)
    with entered(state), default_dtype(density.first.dtype):
        draws, search = affordable(density, seconds)
        if draws < FEWEST:
            return Look(guide, found, None, "a density takes too long", density.transforms)
        if not search:
            return Look(guide, found, None, "a search for other modes takes too long", density.transforms)
        normals = [normal] if (normal := moments(density, guide)) is not None else []
        if not normals and D > SEARCHED:
            return Look(guide, found, None, f"no normal to start from, with {D:,} latents", density.transforms)
        corrected = correction(density, normals, draws=draws, seed=seed, search=search)
    good = found.reliable and found.ess > GOOD * n
    if corrected.few and good and not disagreement(found, [corrected.importance]):  # of many latents
        own = {name: value for name, value in guide.values.items() if name in density.names}
        corrected = Correction(own, found, "")
    return Look(guide, found, corrected, "", density.transforms)


def _guide_draws(fit: Approximation, seconds: float, seed: int) -> int:
    """How many draws of the guide a quarter of so many seconds of CPU pays for; draws made together cost less each."""
    taken = []
    for n in (1, 1, 20):  # the first is dearer
        begun = time.process_time()
        guide_draws_weighed(fit, n, seed + 1)
        taken.append(time.process_time() - begun)
        if taken[-1] > seconds / 2:
            return 0
    each = max(taken[2] - taken[1], taken[2] / 20) / 20
    return int(min(DRAWS, seconds / 4 / max(each, 1e-6)))


def look_at_normal(
    density: Density, normal: FullRankNormal, others: list[FullRankNormal], *, seconds: float, seed: int = 0
) -> Look:
    """The look at a normal in unconstrained space, which knows its own density. The state of the density is entered.

    others: normals at other modes. Without any, the draws of the normal are themselves the weighted draws of the
    posterior, as long as their weights can be trusted.
    """
    draws, _ = affordable(density, seconds)
    noise = generator(seed + 21, normal.mean)
    e = standard(max(min(draws, OWN), FEWEST), normal, noise)
    us = normal.at(e)
    log_weights = Chart(density).values(us) - normal.log_prob_at(e)
    guide = GuideDraws(density.constrained(us), log_weights)
    found = importance(log_weights)
    if not others and found.reliable and found.ess > GOOD * len(us):
        return Look(guide, found, Correction(guide.values, found, ""), "", density.transforms)
    if draws < FEWEST:
        return Look(guide, found, None, "draws of the density take too long", density.transforms)
    corrected = correction(density, [normal, *others], draws=draws, seed=seed, search=False)
    return Look(guide, found, corrected, "", density.transforms)


def reweighted(fit: Any) -> Any:
    """The fit with the weighted draws of its correction in the place of its guide.

    Raises ValueError where there are none that can be trusted, with the reason.
    """
    found = fit.correction
    if found is None:
        look = look_at(fit, seconds=LONG, seed=fit.seed)
        found = None if look is None else look.correction
        why = "draws of the guide take too long" if look is None else look.unseen if found is None else found.doubt
        if found is None or why:
            raise ValueError(
                f"corrected: no weighted draws of the posterior can be trusted here ({why}); take draws of the "
                f"posterior itself, credo.reference(model, *data)"
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


def affordable(density: Density, seconds: float) -> tuple[int, bool]:
    """(draws of a mixture in a round, whether a search for modes is affordable) in so many seconds of CPU."""
    u = density.first[None].expand(2, -1)
    density.at_each(u)  # the first call is dearer
    begun = time.process_time()
    density.at_each(u)
    call = (time.process_time() - begun) * (1 if density.vectorised else 4)
    if density.vectorised:
        draws = int(seconds / 4 * density.chunk / EACH)
    else:
        draws = int(seconds / 4 / max(call / 8, 1e-6))
    return min(DRAWS, draws, max(FEWEST, NUMBERS // len(density.first))), call * CALLS < seconds


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
