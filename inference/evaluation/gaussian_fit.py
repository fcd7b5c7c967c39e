"""Fits whose guide is one normal in unconstrained space, found without steps of SVI.

    q(u) = N(mu, Sigma)     "full_rank": of least KL(q || p), see `gaussian/approximate.py`
                            "low_rank": Sigma of a diagonal and few directions, see `gaussian/low_rank.py`
                            "laplace": mu the mode of log p(data, u), Sigma^-1 = -d^2 log p / du^2 there

The density runs in double precision where the model can; the parameters of the guide are kept in the precision of the
model.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pyro.infer.autoguide import AutoLaplaceApproximation, AutoMultivariateNormal
from pyro.infer.autoguide.initialization import init_to_median

from ..gaussian.approximate import approximate
from ..gaussian.arrow_normal import ArrowNormal
from ..gaussian.density import Density, prepared
from ..gaussian.full_rank import (
    IN_A_LOOP,
    Weighed,
    another_mode,
    cheap_hessians,
    draws_for,
    starting_points,
    weights_of,
)
from ..gaussian.full_rank_normal import FullRankNormal
from ..gaussian.laplace import NoMode, laplace
from ..gaussian.low_rank import low_rank
from ..gaussian.low_rank_normal import LowRankNormal
from ..gaussian.normal_guide import AutoNormalOf
from ..gaussian.starts import Path, pathfinder
from ..importance.budget import clock
from ..importance.chart import Chart
from ..importance.correct_fit import look_at_normal
from ..importance.improper import SEARCHED, improper
from ..pair.autoguide import Start, without_finite
from ..planning.plan import NO_STEPS
from ..posterior.verdict import NO, Verdict
from ..runtime.defaults import default_dtype
from ..runtime.state import State, entered
from ..runtime.vectorise import is_out_of_memory
from ..stepping.begin import Begun, begin
from ..stepping.settings import Settings
from ..variational.result import Fit, finished
from .check import SHARE, concluded
from .doubts import doubts

MOST = 2000  # latents of a Hessian
METHODS = {"full_rank": "full rank", "low_rank": "low rank", "laplace": "Laplace"}
AUTOGUIDES: dict[type, str] = {
    AutoMultivariateNormal: "full_rank",
    AutoLaplaceApproximation: "laplace",
}  # of Pyro's, with their words
PROPER = "give each latent a proper prior, or leave out those of which the data says nothing"
LIKELY = 20.0  # nats of the ELBO that the normals of a wider mixture may lie below the best: they fit curves badly
FEW = "at rest, but its draws are worth few of the posterior"  # why a search ended
SHORT, LONG = 1.0, 3.0  # seconds of CPU of the look at a normal that is not right: as long as its search, within these
NO_NORMAL, FAR = 1.0, 0.3  # k-hat, and error of a mean in sds, beyond which a normal that has not converged is none


class Found(NamedTuple):
    """The normal that was found."""

    normal: Any  # a FullRankNormal, LowRankNormal or ArrowNormal
    error: float  # the standard error of a mean in sds that the noise of the draws leaves
    stopped: str  # why the search ended
    weighed: Weighed  # what its importance weights say
    paths: list[Path]  # the ascents


class NotThisWay(Exception):
    """Raised for a model that has no density of fixed unconstrained latents: why, in words of `requirements.py`."""


def fixed_density(settings: Settings, data: tuple[Any, ...], begun: Begun) -> tuple[Density, State]:
    """The density of the model on its data, and its state. Raises NotThisWay where it has none."""
    try:
        return prepared(settings.model, data, begun.state.device, settings.seed)[:2]
    except (ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise NotThisWay(str(error).partition("\n")[0]) from error


@contextmanager
def searching() -> Iterator[None]:
    """Raises NotThisWay where a search for a normal meets a matrix that is no covariance."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise NotThisWay("the search for a normal met a covariance that is not positive definite") from error


def seconds_of_look(spent: float) -> float:
    """Seconds of CPU of the look at a normal that is not right, after a search of so many."""
    return max(SHARE * spent, min(max(spent, SHORT), LONG))


def gaussian_fit(
    begun: Begun,
    word: str,
    settings: Settings,
    data: tuple[Any, ...],
    warnings: list[str],
    *,
    own: Any = None,
    sure: bool = False,
) -> Fit:
    """The fit for a word of `METHODS`. warnings: for the user, at the end of the call.

    begun: the model on its data, checked with any guide. own: an autoguide of the user's that gets the normal.
    sure: NotThisWay is raised also where the search would take long, or found nothing like the posterior that weights
    correct.
    Raises ValueError for "laplace" where the density has no mode; NotThisWay for a model that SVI can fit and this
    cannot.
    """
    model, started = settings.model, clock(begun.state.device)
    if begun.fixed_part is not None:
        raise NotThisWay(begun.fixed_part)
    if begun.pair.followers:
        raise NotThisWay("latents with masked entries follow the model")
    density, state = fixed_density(settings, data, begun)
    D = len(density.first)
    if D > MOST and (word == "laplace" or own is not None):
        raise NotThisWay(f"{D:,} latents, more than {MOST:,}")
    if sure and not density.vectorised and D > IN_A_LOOP:
        raise NotThisWay(f"{D:,} latents of a density that cannot be taken at many points at once")
    with entered(state), default_dtype(density.first.dtype):
        with searching():
            found = {"full_rank": _full_rank, "low_rank": _low_rank, "laplace": _laplace}[word](density, settings.seed)
        k_hat = found.weighed.importance.k_hat
        if flat := _flat(density, found):
            found = found._replace(stopped=f"not converged: {flat}")
        look = None
        if not flat and (isinstance(found.normal, FullRankNormal) or D > MOST):
            mode = another_mode(found.normal, found.weighed.importance.log_evidence, found.paths)
            others = [] if mode is None else [mode.normal if D > MOST else dense(mode.normal)]
            likely = [path for path in found.paths if path.elbo > found.paths[0].elbo - LIKELY]
            look = look_at_normal(
                density,
                found.normal,
                found.weighed,
                others,
                near=[dense(path.normal) for path in likely] if D <= SEARCHED else [],
                seconds=seconds_of_look(clock(begun.state.device) - started),
                seed=settings.seed,
            )
    rough = not found.stopped.startswith("converged") and not (k_hat < NO_NORMAL and found.error < FAR)
    corrects = look is not None and look.correction is not None and look.correction.trusted
    if sure and not flat and rough and not corrects:
        raise NotThisWay(f"no normal was found that has the shape of the posterior (k-hat {k_hat:.2f})")
    placed = _guide_of(found.normal, begun, settings, data, own, density.names)
    with entered(placed.state):
        if isinstance(found.normal, FullRankNormal):
            _place(found.normal, placed.pair.guide)
        fit = finished(model, placed.pair, [], NO_STEPS, found.stopped, settings.seed, begun.given)
    warnings += begun.warnings
    warnings += [f"{flat}; {PROPER}"] if flat else doubts(*found, density)
    method = METHODS["low_rank" if isinstance(found.normal, LowRankNormal) else word]
    fit = dataclasses.replace(fit, method=method, importance=found.weighed.importance)
    if flat:
        return dataclasses.replace(fit, verdict=Verdict(NO, k_hat, (flat,), PROPER))
    return fit if look is None else concluded(fit, look)


def _flat(density: Density, found: Found) -> str:
    """Along which latents the density does not fall, in words, where the search has not converged for that."""
    normal = found.normal
    if found.stopped.startswith("converged") or not isinstance(normal, FullRankNormal):
        return ""
    finite = normal.mean.isfinite().all() and normal.factor.isfinite().all()
    return improper(Chart(density), normal.mean, normal.factor.T, normal.mean[:0]) if finite else ""


def dense(normal: FullRankNormal | ArrowNormal) -> FullRankNormal:
    """The same normal with a dense factor."""
    return normal.dense() if isinstance(normal, ArrowNormal) else normal


def _guide_of(
    normal: Any, begun: Begun, settings: Settings, data: tuple[Any, ...], own: Any, names: tuple[str, ...]
) -> Begun:
    """The model with a guide that can be this normal; its parameters exist. names: of the latents, in order."""
    model = without_finite(settings.model)
    if not isinstance(normal, FullRankNormal):
        with default_dtype(begun.dtype):
            guide: Any = AutoNormalOf(model, normal, init_loc_fn=Start(init_to_median))
    elif own is not None and not isinstance(own, AutoLaplaceApproximation):
        guide = own
    else:
        guide = AutoMultivariateNormal(model, init_loc_fn=Start(init_to_median))
    placed = begin(settings.model, guide, settings, data)
    with entered(placed.state):
        order = [name for name, _ in guide.prototype_trace.iter_stochastic_nodes()]
    if order != list(names):
        raise NotThisWay("the autoguide draws other latents, or in another order")
    return placed


def _full_rank(density: Density, seed: int) -> Found:
    found = approximate(density, seed)
    how = f"{found.method}, {found.gradients:,} gradients, means within {found.error:.2g} sds by the noise of the draws"
    ended = "converged" if found.converged else FEW if found.rests else "not converged"
    return Found(found.normal, found.error, f"{ended}: {how}", found.weighed, found.paths)


def _low_rank(density: Density, seed: int) -> Found:
    found = low_rank(density.at_each, starting_points(density, seed), seed=seed)
    how = f"{found.rank} directions beside a diagonal, which leave {found.left:.2g} of the precision, relative to it"
    stopped = f"{'converged' if found.converged else 'not converged'}: {how}"
    return Found(found.normal, found.error, stopped, found.weighed, [])


def _laplace(density: Density, seed: int) -> Found:
    """Raises NoMode."""
    hessians = cheap_hessians(density) or density.hessians
    if not hessians(density.first[None]).isfinite().all():
        raise NoMode("the log density has no second derivative that autograd finds; take guide='full_rank'")
    starts = starting_points(density, seed)
    paths = pathfinder(density.at_each, starts, cheap_hessians(density), seed=seed)
    found = laplace(density.at_each, hessians, paths[0].normal.mean)
    weights = weights_of(density.at_each, found.normal, draws_for(density), seed + 1)
    return Found(found.normal, 0.0, f"converged: at the mode after {found.steps} steps of Newton's", weights, paths)


def _place(normal: FullRankNormal, guide: Any) -> None:
    """Makes this normal the guide's: its parameters `loc`, `scale` and `scale_tril` are set in place."""
    R = torch.linalg.qr(normal.factor.T).R  # Sigma = F F^T = R^T R
    L = R.T * R.diagonal().sign()
    loc, dtype = normal.mean, guide.loc.dtype
    with torch.no_grad():
        guide.loc.copy_(loc.to(dtype))
        guide.scale = L.diagonal().to(dtype)
        guide.scale_tril = (L / L.diagonal()[:, None]).to(dtype)
