"""A fit beside the exact posterior, scalar by scalar.

KL(q || p) = log p(data) - ELBO      nats: the evidence gap, zero only where the guide is the posterior
"""

import functools
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import pandas as pd
import torch
from pyro import poutine
from torch.distributions import Distribution, biject_to, kl_divergence

from .costs import Pair
from .distances import as_normal, is_point, kl, total_variation, wasserstein, wasserstein_normals
from .distributions import pushed
from .drawn import Reference
from .draws import draw
from .elbo import log_weight
from .fit import Fit
from .marginals import in_double, marginals, mean_and_sd, model_trace, moments, scalars
from .scope import reading
from .sites import kind, latent

DRAWS = 4096
SURE = 4  # Monte Carlo errors


class Exact(Protocol):
    """What `posterior()` of a model, `credo.exact` and `credo.reference` return. log_evidence: log p(data), nats."""

    @property
    def marginals(self) -> Mapping[str, Any]: ...
    @property
    def log_evidence(self) -> float: ...


def compare(fit: Fit, exact: Exact | None = None, *, seed: int = 0) -> pd.DataFrame:
    """A row for each scalar: mean, exact mean, sd, exact sd, error in exact sds, sd ratio, KL(q || p) in nats.

    exact: the exact posterior. None finds it: the `posterior` function that stands in the file of the model, else what
        `credo.exact` derives, with trained parameters of the model held at their values. Of a `credo.reference` the
        table holds the Monte Carlo errors of "error in sds" and "sd ratio" too, since these are no better known.
    Columns: kl compares marginals (see `distances.kl`), NaN where no density is known; W2 is the Wasserstein distance
        in the units of the site, where the exact marginal is normal; total variation is there for finite sites. Latents
        that the guide leaves to be summed out have no row.
    `.attrs`: log_evidence, elbo, elbo_error, evidence_gap (nats) and `gap_in_words`; against, what was compared with;
        joint: {site: (KL in nats, W2)} of vectors that are Gaussian in both. The gap is KL(q || p) of all latents
        jointly. For point estimates kl and gap are infinite, for a reference the gap is NaN: draws do not tell p(data).

    Warns if the gap is below zero by more than 4 Monte Carlo errors, twice over with independent draws: no KL is
    negative, so the exact posterior, the model or the ELBO is wrong. A warning and no error, since the table is what
    shows which: means that differ speak against the posterior, equal ones against its evidence or the ELBO.
    Raises ValueError if no exact posterior is known, with the reason.
    """
    against = _named(exact)
    if exact is None:
        exact, against = _found(fit, seed)
    left_out = fit.summed.sites if fit.summed is not None else frozenset()
    fit = in_double(fit)
    q, known = moments(fit, 5 * DRAWS, seed), marginals(fit)
    for name, fn in _automatic(fit).items():
        if name not in known:
            known[name] = fn
            with suppress(NotImplementedError):  # the draws will do
                q[name] = mean_and_sd(fn)
    beside = {name: p for name, p in exact.marginals.items() if name in q or name not in left_out}
    if set(beside) ^ set(q):
        raise ValueError(f"compare: the fit has sites {sorted(q)}, the exact posterior {sorted(exact.marginals)}")
    rows: dict[str, dict[str, float]] = {}
    joint = {}
    for name, p in beside.items():
        mean, sd = (t.cpu() for t in q[name])
        exact_mean, exact_sd = (t.cpu() for t in mean_and_sd(p))
        ratio = torch.where((sd == 0) & (exact_sd == 0), 1.0, _ratio(sd, exact_sd))
        columns = {
            "mean": mean,
            "exact mean": exact_mean,
            "sd": sd,
            "exact sd": exact_sd,
            "error in sds": _ratio(mean - exact_mean, exact_sd),
            "sd ratio": ratio,
            "kl": kl(known.get(name), p, mean, sd),
            "W2": wasserstein(p, mean, sd),
            "total variation": total_variation(known.get(name), p),
        }
        if isinstance(exact, Reference):
            m = exact.mixing[name]
            columns["mc error in sds"] = _ratio(m.mean_error, exact_sd)
            columns["mc error of ratio"] = ratio * _ratio(m.sd_error, exact_sd)
        for index, label in scalars(name, mean.shape):
            rows[label] = {column: t[index].item() for column, t in columns.items() if t is not None}
        ours, theirs = as_normal(known.get(name)), as_normal(p)
        if mean.dim() and ours is not None and theirs is not None:
            joint[name] = (kl_divergence(ours, theirs).item(), wasserstein_normals(ours, theirs).item())
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "site"
    points = any(is_point(known.get(name), sd) for name, (_, sd) in q.items())
    table.attrs = _gap(fit, exact.log_evidence, points, seed) | {"against": against, "joint": joint}
    return table


def _automatic(fit: Fit) -> dict[str, Distribution]:
    """{site: distribution} of an AutoNormal, whose sites are points: auxiliary normals, seen through a map."""
    sites, found = latent(model_trace(fit)), {}
    with reading(fit.state, 1), torch.no_grad():
        one, two = (latent(poutine.trace(fit.guide).get_trace(*fit.data), auxiliary=True) for _ in range(2))
    for name in sites.keys() & one.keys():
        below = f"{name}_unconstrained"
        if kind(one[name]["fn"]) != "Delta" or below not in one or below not in two:
            continue
        fn, value = one[below]["fn"], one[below]["value"]
        mapped = biject_to(sites[name]["fn"].support)(value)
        still = torch.equal(fn.log_prob(value), two[below]["fn"].log_prob(value))  # it depends on no draw
        if still and mapped.shape == one[name]["value"].shape and torch.allclose(mapped, one[name]["value"]):
            found[name] = pushed(fn, sites[name]["fn"])
    return found


def _gap(fit: Fit, log_evidence: float, points: bool, seed: int) -> dict[str, Any]:
    """log p(data), the ELBO and what is between them; warns where that is less than nothing."""
    elbo, error = _elbo(fit, log_evidence, seed)
    gap = math.inf if points else log_evidence - elbo
    words = f"KL(q || p) = log p(data) - ELBO = {gap:.4g} ± {error:.2g} nats"
    if points:
        words = "infinite: a point has no density"
    elif math.isnan(log_evidence):
        words = "unknown: draws from the posterior do not tell log p(data)"
    elif gap < -_slack(fit, log_evidence) - SURE * error:
        again, error_again = _elbo(fit, log_evidence, seed + 1, least=DRAWS)
        if log_evidence - again < -_slack(fit, log_evidence) - SURE * error_again:
            words = (
                f"log p(data) - ELBO = {gap:.4g} ± {error:.2g} nats, but no KL(q || p) is negative: the exact "
                f"posterior, the model and the ELBO do not belong together (another model, or other data?)"
            )
            warnings.warn(f"compare: {words}", stacklevel=4)
    found = {"log_evidence": log_evidence, "elbo": elbo, "elbo_error": error, "evidence_gap": gap}
    return {**found, "gap_in_words": words}


def _slack(fit: Fit, log_evidence: float) -> float:
    """What rounding may take from a sum of this size, nats."""
    floats = [
        v.dtype for v in (*fit.params.values(), *fit.data) if isinstance(v, torch.Tensor) and v.is_floating_point()
    ]
    single = any(dtype != torch.float64 for dtype in floats)
    return (1e-5 if single else 1e-9) * max(1.0, abs(log_evidence))


def _elbo(fit: Fit, log_evidence: float, seed: int, least: int = 64) -> tuple[float, float]:
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
                lambda: log_weight(Pair(fit.model, fit.guide, fit.data, fit.summed), plan), max(least, len(weights))
            )
        weights = torch.cat([weights, more.cpu()])
        error = (weights.std() / len(weights) ** 0.5).item()
        if error <= max(1e-3, 0.02 * abs(log_evidence - weights.mean().item())):
            break
    return weights.mean().item(), error


def _found(fit: Fit, seed: int) -> tuple[Exact, str]:
    """(the exact posterior, where it comes from). Raises ValueError where there is none, with the reason."""
    if (posterior := _posterior_beside(fit.model)) is not None:
        with reading(fit.state, seed):  # networks with the weights of the fit
            return posterior(*fit.data), "the function posterior beside the model"
    from .exact import NoClosedForm, exact  # it is much, and seldom needed

    nodes: dict[str, Any] = dict(model_trace(fit).nodes)
    trained = {name: site["value"].detach() for name, site in nodes.items() if site["type"] == "param"}
    model = poutine.substitute(fit.model, data=trained) if trained else fit.model
    try:
        with reading(fit.state, seed):
            return exact(model, *fit.data), "credo.exact"
    except NoClosedForm as error:
        name = getattr(fit.model, "__name__", type(fit.model).__name__)
        raise ValueError(
            f"no exact posterior is known for {name!r}: {error}. Draw from it instead, compare(fit, "
            f"credo.reference(model, *data)); or write a function posterior(*data) beside the model in its file; or "
            f"pass exact=..., an object with .marginals (site to distribution) and .log_evidence (nats)"
        ) from error


def _posterior_beside(model: Callable[..., Any]) -> Callable[..., Exact] | None:
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
        return None
    return functools.partial(posterior, **settings)


def _named(exact: Exact | None) -> str:
    return repr(exact) if isinstance(exact, Reference) else "what was given"


def _ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a / b; nothing over nothing is nothing."""
    return torch.where((a == 0) & (b == 0), 0.0, a / b)
