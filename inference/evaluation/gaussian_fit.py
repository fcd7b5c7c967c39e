"""Fits whose guide is one normal in unconstrained space, found without steps of SVI.

    q(u) = N(mu, Sigma)     "full_rank": of least KL(q || p), see `gaussian/full_rank.py`
                            "laplace": mu the mode of log p(data, u), Sigma^-1 = -d^2 log p / du^2 there

The density runs in double precision where the model can; the parameters of the guide are kept in the precision of the
model.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import torch
from pyro.infer.autoguide import AutoMultivariateNormal

from ..gaussian.density import Density, prepared
from ..gaussian.full_rank import (
    Weighed,
    another_mode,
    cheap_hessians,
    draws_for,
    full_rank,
    starting_points,
    weights_of,
)
from ..gaussian.full_rank_normal import FullRankNormal
from ..gaussian.laplace import NoMode, laplace
from ..gaussian.starts import Path, pathfinder
from ..pair.autoguide import without_finite
from ..pair.pair import Program
from ..planning.plan import Plan
from ..runtime.defaults import default_dtype
from ..runtime.state import entered
from ..variational.prepare import begin
from ..variational.result import Fit, finished
from ..variational.settings import Settings

MOST = 2000  # latents of a dense covariance
METHODS = {"full_rank": "full rank", "laplace": "Laplace"}
LARGE = 0.1  # error of a mean in sds, or of an sd relative to its own, that the user is told of


class Found(NamedTuple):
    """The normal that was found."""

    normal: FullRankNormal
    stopped: str  # why the search ended
    weighed: Weighed  # what its importance weights say
    paths: list[Path]  # the ascents


class NotThisWay(Exception):
    """Raised for a model that has no density of fixed unconstrained latents: why, in words of `requirements.py`."""


def gaussian_fit(model: Program, word: str, settings: Settings, data: tuple[Any, ...], warnings: list[str]) -> Fit:
    """The fit for `guide="full_rank"` or `"laplace"`. warnings: for the user, at the end of the call.

    Raises ValueError for a mistake in the model or its data, and for "laplace" where the density has no mode;
    NotThisWay for a model that SVI can fit and this cannot.
    """
    begun = begin(model, AutoMultivariateNormal(without_finite(model)), settings, data)
    warnings += begun.warnings
    if begun.pair.followers:
        raise NotThisWay("latents with masked entries follow the model")
    try:
        density, state, _ = prepared(model, data, begun.state.device, settings.seed)
    except ValueError as error:
        raise NotThisWay(str(error)) from error
    if (D := len(density.first)) > MOST:
        raise NotThisWay(f"{D:,} latents, more than {MOST:,}")
    with entered(state), default_dtype(density.first.dtype):
        found = (_full_rank if word == "full_rank" else _laplace)(density, settings.seed)
    warnings += _doubts(found, density)
    with entered(begun.state):
        _place(found.normal, begun.pair.guide)
        fit = finished(model, begun.pair, [], Plan(()), found.stopped, settings.seed, begun.given)
    return dataclasses.replace(fit, method=METHODS[word], importance=found.weighed.importance)


def _full_rank(density: Density, seed: int) -> Found:
    starts, hessians = starting_points(density, seed), cheap_hessians(density)
    found = full_rank(density.at_each, starts, hessians, draws=draws_for(density), seed=seed)
    how = f"{found.method}, {found.gradients:,} gradients, means within {found.error:.2g} sds by the noise of the draws"
    stopped = f"{'converged' if found.converged else 'not converged'}: {how}"
    return Found(found.normal, stopped, found.weighed, found.paths)


def _laplace(density: Density, seed: int) -> Found:
    """Raises NoMode."""
    hessians = cheap_hessians(density) or density.hessians
    if not hessians(density.first[None]).isfinite().all():
        raise NoMode("the log density has no second derivative that autograd finds; take guide='full_rank'")
    starts = starting_points(density, seed)
    paths = pathfinder(density.at_each, starts, cheap_hessians(density), seed=seed)
    found = laplace(density.at_each, hessians, paths[0].normal.mean)
    weights = weights_of(density.at_each, found.normal, draws_for(density), seed + 1)
    return Found(found.normal, f"converged: at the mode after {found.steps} steps of Newton's", weights, paths)


def _doubts(result: Found, density: Density) -> list[str]:
    """What the user must know of a normal that is no good approximation."""
    stopped, weighed = result.stopped, result.weighed
    found, weights = [], weighed.importance
    if mode := another_mode(result.normal, weights.log_evidence, result.paths):
        share = math.exp(min(mode.elbo - weights.log_evidence, 0))
        found.append(
            f"the posterior has another mode, with about {share:.0%} of the mass of the one that the normal holds: no "
            f"normal holds both; order or restrict the latents that may change places or signs"
        )
    if stopped.startswith("not converged"):
        found.append(
            f"{stopped}: another guide or parametrisation (non-centred: z = mean + sd * e) usually helps; "
            f"credo.reference draws from the posterior itself"
        )
    if not weights.reliable:
        found.append(
            f"k-hat {weights.k_hat:.2f}, wanted at most {weights.limit:.2f}: the posterior has heavier tails or "
            f"another shape than a normal in unconstrained space, so sds and intervals can be wrong. Another "
            f"parametrisation (non-centred: z = mean + sd * e) may help; credo.reference draws from the posterior"
        )
    elif worst := _largest_error(weighed, density):
        found.append(f"{worst}, in unconstrained space, by importance weights (k-hat {weights.k_hat:.2f})")
    return found


def _largest_error(weighed: Weighed, density: Density) -> str:
    """The coordinate whose mean or sd is farthest off, in words; "" if none is by more than LARGE and three errors."""
    noise = 3 / math.sqrt(weighed.importance.ess)
    names = [name for name, shape in zip(density.names, density.shapes, strict=True) for _ in range(shape.numel())]
    ratio = weighed.sd_ratios[at := int(weighed.sd_ratios.log().abs().argmax())].item()
    if abs(math.log(ratio)) > LARGE + noise / math.sqrt(2):
        size = f"{abs(ratio - 1):.0%} too {'small' if ratio < 1 else 'large'}"
        return f"site {names[at]!r}: its sd under the normal is {size}"
    error = weighed.mean_errors[at := int(weighed.mean_errors.abs().argmax())].item()
    if abs(error) > LARGE + noise:
        return f"site {names[at]!r}: its mean under the normal is {abs(error):.2g} sds off"
    return ""


def _place(normal: FullRankNormal, guide: Any) -> None:
    """Makes this normal the guide's: its parameters `loc`, `scale` and `scale_tril` are set in place."""
    R = torch.linalg.qr(normal.factor.T).R  # Sigma = F F^T = R^T R
    L = R.T * R.diagonal().sign()
    loc, dtype = normal.mean, guide.loc.dtype
    with torch.no_grad():
        guide.loc.copy_(loc.to(dtype))
        guide.scale = L.diagonal().to(dtype)
        guide.scale_tril = (L / L.diagonal()[:, None]).to(dtype)
