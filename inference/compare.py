"""A fit beside the exact posterior, scalar by scalar.

KL(q || p) = log p(data) - ELBO      nats: the evidence gap, zero only where the guide is the posterior
"""

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pandas as pd
import torch
from torch.distributions import Distribution, MultivariateNormal, Normal, kl_divergence

from .costs import Pair
from .draws import draw
from .elbo import log_weight
from .fit import Fit
from .marginals import in_double, marginals, masses, mean_and_sd, moments, scalars
from .scope import reading
from .sites import kind, unwrapped

DRAWS = 4096


class Exact(Protocol):
    """What `posterior()` of a model returns: the marginals by site, and log p(data) in nats."""

    @property
    def marginals(self) -> Mapping[str, Any]: ...
    @property
    def log_evidence(self) -> float: ...


def compare(fit: Fit, exact: Exact | None = None, *, seed: int = 0) -> pd.DataFrame:
    """A row for each scalar: mean, exact mean, sd, exact sd, error in exact sds, sd ratio, KL(q || p) in nats.

    exact: the exact posterior; None takes the `posterior` function that stands in the file of the model. The column kl
        compares marginals: in closed form where guide and posterior have one, by normals of the guide's mean and sd
        where the exact marginal is normal, NaN elsewhere. Finite sites add a column: the total variation.
    `.attrs`: log_evidence, elbo, elbo_error, evidence_gap (nats). The gap is KL(q || p) of all latents jointly; it can
        fall below zero only by the Monte Carlo error of the ELBO. For point estimates kl and gap are infinite.
    Raises ValueError if no exact posterior is known.
    """
    if exact is None:
        posterior = _posterior_beside(fit.model)
        with reading(fit.state, seed):  # networks with the weights of the fit
            exact = posterior(*fit.data)
    fit = in_double(fit)
    q, known = moments(fit, 5 * DRAWS, seed), marginals(fit)
    missing = sorted(set(exact.marginals) ^ set(q))
    if missing:
        raise ValueError(f"compare: the fit has sites {sorted(q)}, the exact posterior {sorted(exact.marginals)}")
    rows = {}
    for name, p in exact.marginals.items():
        mean, sd = (t.cpu() for t in q[name])
        exact_mean, exact_sd = (t.cpu() for t in mean_and_sd(p))
        kl = _kl(known.get(name), p, mean, sd)
        variation = _total_variation(known.get(name), p)
        for index, label in scalars(name, mean.shape):
            m, s, em, es = (t[index].item() for t in (mean, sd, exact_mean, exact_sd))
            rows[label] = {
                "mean": m,
                "exact mean": em,
                "sd": s,
                "exact sd": es,
                "error in sds": _ratio(m - em, es),
                "sd ratio": _ratio(s, es) if s or es else 1.0,
                "kl": kl[index].item(),
            }
            if variation is not None:
                rows[label]["total variation"] = variation[index].item()
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "site"
    elbo, error = _elbo(fit, exact.log_evidence, seed)
    points = any(_is_point(known.get(name), sd) for name, (_, sd) in q.items())
    table.attrs = {
        "log_evidence": exact.log_evidence,
        "elbo": elbo,
        "elbo_error": error,
        "evidence_gap": float("inf") if points else exact.log_evidence - elbo,
    }
    return table


def _elbo(fit: Fit, log_evidence: float, seed: int) -> tuple[float, float]:
    """The ELBO and its Monte Carlo error, nats; draws are added until the error is small beside the evidence gap."""
    weights = torch.zeros(0, dtype=torch.float64)
    dtype = next((p.dtype for p in fit.params.values()), torch.float32)
    values = {name: v.to(dtype) if v.is_floating_point() else v for name, v in fit.plan.values.items()}
    plan = fit.plan._replace(
        means=fit.plan.means._replace(values=values)
    )  # what it knows in closed form needs no draws
    while len(weights) < DRAWS:
        with reading(fit.state, seed + 1000 * len(weights)):
            more = draw(
                lambda: log_weight(Pair(fit.model, fit.guide, fit.data, fit.summed), plan), max(64, len(weights))
            )
        weights = torch.cat([weights, more.cpu()])
        error = (weights.std() / len(weights) ** 0.5).item()
        if error <= max(1e-3, 0.02 * abs(log_evidence - weights.mean().item())):
            break
    return weights.mean().item(), error


def _posterior_beside(model: Callable[..., Any]) -> Callable[..., Exact]:
    """The function `posterior` in the model's own file, with the settings of a functools.partial passed on."""
    settings: dict[str, Any] = {}
    function = model
    while isinstance(function, functools.partial):
        if function.args:
            break
        settings = {**function.keywords, **settings}
        function = function.func
    module = sys.modules.get(getattr(function, "__module__", ""), None)
    posterior = getattr(module, "posterior", None)
    if not inspect.isfunction(posterior) or getattr(module, "model", None) is not function:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(
            f"no exact posterior is known for {name!r}: write a function posterior(*data) beside it in its file, or "
            f"pass exact=..., an object with .marginals (site to distribution) and .log_evidence (nats)"
        )
    return functools.partial(posterior, **settings)


def _is_point(q: Distribution | None, sd: torch.Tensor) -> bool:
    """Whether the guide believes in a point; a finite site may be sure by rounding, and is none."""
    return kind(q) == "Delta" or (q is None and bool((sd == 0).any()))


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.copysign(math.inf, a) if a else 0.0


def _total_variation(q: Distribution | None, p: Any) -> torch.Tensor | None:
    """1/2 sum_k |q(k) - p(k)| of each scalar, shape of the site; None where one of the two is not finite."""
    ours, exact = (None if fn is None else masses(fn) for fn in (q, p))
    return None if ours is None or exact is None else (ours.cpu() - exact.cpu()).abs().sum(0) / 2


def _kl(q: Distribution | None, p: Any, mean: torch.Tensor, sd: torch.Tensor) -> torch.Tensor:
    """KL(q || p) of each scalar's marginal, shape of the site."""
    if _is_point(q, sd):  # which has no density
        return torch.full(mean.shape, float("inf"))
    if q is not None and q.event_shape == p.event_shape == ():
        try:
            return kl_divergence(q, p).detach().cpu()
        except NotImplementedError:  # no closed form: normals, or nothing
            pass
    if isinstance(unwrapped(p), (Normal, MultivariateNormal)) and (sd > 0).all():
        return kl_divergence(Normal(mean, sd), Normal(p.mean.cpu().double(), p.variance.cpu().double().sqrt()))
    return torch.full(mean.shape, float("nan"))
