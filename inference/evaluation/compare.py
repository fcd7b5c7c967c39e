"""Compares a fit with the exact posterior, scalar by scalar.

KL(q || p) = log p(data) - ELBO      nats: the evidence gap, zero only where the guide is the posterior
"""

import warnings
from collections.abc import Set
from contextlib import suppress
from typing import Any

import pandas as pd
import torch
from pyro import poutine
from torch.distributions import Distribution, biject_to, kl_divergence

from ..distributions.distances import as_normal, is_point, kl, total_variation, wasserstein, wasserstein_normals
from ..distributions.divergence import pushforward
from ..distributions.summaries import mean_and_sd, scalars
from ..distributions.unwrap import kind
from ..importance.guide_draws import in_double
from ..mcmc.result import Reference
from ..posterior.coords import labels_of
from ..posterior.marginals import marginals, means_and_sds, model_trace
from ..posterior.sample import beyond_the_guide, draws_of
from ..runtime.generators import noise
from ..runtime.sites import latent
from ..runtime.state import reading
from ..storage.absent import refuse_without_data
from ..variational.going_on import refuse_no_fit
from ..variational.result import Fit
from .comparison import Comparison
from .evidence import DRAWS, evidence_gap, of_weighted_draws
from .oracle import Oracle, find_oracle, name_of, title
from .words import in_words, summary

ALWAYS = ("mean", "exact mean", "sd", "exact sd", "error in sds", "sd ratio")  # columns of every table
Columns = dict[str, torch.Tensor | None]


def compare(fit: Fit, exact: Oracle | None = None, *, seed: int = 0, corrected: bool = False) -> Comparison:
    """KL(q || p) = log p(data) - ELBO >= 0 in nats, and a row for each scalar: the fit compared with the posterior.

    fit: what `credo.fit` returned.
    exact: the exact posterior, an object with `.marginals` {site: distribution} and `.log_evidence` (nats). None finds
        it: the function `posterior` in the file of the model, else `credo.exact`, with the trained parameters of the
        model fixed. A `credo.reference` adds the Monte Carlo errors of "error in sds" and "sd ratio" as columns.
    seed: of the draws, where a marginal of the guide or the ELBO has no closed form. corrected: compares the weighted
        draws of `fit.corrected` in the place of the guide; they have no ELBO, and their estimate of log p(data) is in
        gap_in_words.
    Returns a DataFrame; printed, it says in its first line what is off, e.g. "tau: sd 22 % too small".
    Columns: mean, exact mean, sd, exact sd, error in sds (of the mean, in exact sds), sd ratio; kl, in nats, between
        marginals (NaN without a density); W2, the Wasserstein distance in the units of the site, where the exact
        marginal is normal; total variation, for finite sites; verdict: in words what is off by more than 0.1 sds, 10 %
        of the sd, or 0.05 of total variation, and by more than 4 Monte Carlo errors of a reference. kl, W2 and total
        variation are left out where they have no number. Latents that were summed out have no row; deterministic sites
        of at most 20 scalars have one if the exact posterior has them, as that of a `credo.reference` does.
    `.attrs`: in_words, the first line; log_evidence, elbo, elbo_error, evidence_gap (nats) and gap_in_words; against,
        what the fit is compared with; reference, the name printed over its columns; joint, {site: (KL in nats, W2)} of
        vectors that are Gaussian in both. The gap is KL(q || p) of all latents jointly: infinite for point estimates,
        NaN for a reference, whose draws do not determine log p(data).

    Warns if the gap is negative by more than 4 Monte Carlo errors in two independent estimates: then the exact
    posterior, the model or the ELBO is wrong. If the means differ it is the posterior, if not its evidence or the ELBO.
    Raises ValueError if no exact posterior is known, with the reason, and if its sites are not those of the fit.
    Source: Jordan, Ghahramani, Jaakkola and Saul 1999, eq. 34.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> table = credo.compare(credo.fit(pair.model, pair.guide, flips, steps=500, seed=1, compile=False))
    >>> table.loc["p", "verdict"]
    'agrees'
    >>> bool(abs(table.loc["p", "error in sds"]) < 0.2), table.attrs["evidence_gap"] < 0.1
    (True, True)
    """
    refuse_no_fit("fit", fit)
    refuse_without_data(fit.data, "rows")
    against = name_of(exact)
    if exact is None:
        exact, against = find_oracle(fit, seed)
    left_out = fit.summed.sites if fit.summed is not None else frozenset()
    fit = fit.reweighted if corrected else fit
    labels = labels_of(fit)
    fit = in_double(fit)
    q, known = means_and_sds(fit, 5 * DRAWS, seed), marginals(fit)
    for name, fn in _automatic(fit).items():
        if name not in known:
            known[name] = fn
            with suppress(NotImplementedError):  # taken from draws
                q[name] = mean_and_sd(fn)
    q |= _of_deterministic(fit, exact, q.keys(), seed)
    if isinstance(exact, Reference):
        left_out = left_out | exact.deterministic.keys()
    compared = {name: p for name, p in exact.marginals.items() if name in q or name not in left_out}
    if set(compared) ^ set(q):
        raise ValueError(f"compare: the fit has sites {sorted(q)}, the exact posterior {sorted(exact.marginals)}")
    rows: dict[str, dict[str, float]] = {}
    joint = {}
    for name, p in compared.items():
        mean, sd = (t.cpu() for t in q[name])
        with noise(0):  # which places the grid of an integral
            columns = _columns(known.get(name), p, mean, sd)
        if isinstance(exact, Reference):
            columns |= _errors(exact.mixing[name], columns)
        for index, label in scalars(name, mean.shape, labels.get(name)):
            rows[label] = {column: t[index].item() + 0.0 for column, t in columns.items() if t is not None}  # no -0
        ours, theirs = as_normal(known.get(name)), as_normal(p)
        if mean.dim() and ours is not None and theirs is not None:
            joint[name] = (kl_divergence(ours, theirs).item(), wasserstein_normals(ours, theirs).item())
    numbers = pd.DataFrame.from_dict(rows, orient="index").rename_axis("site")
    verdicts = [in_words(row) for row in rows.values()]
    empty = [column for column in numbers if column not in ALWAYS and numbers[column].isna().all()]
    table = Comparison(numbers.drop(columns=empty).assign(verdict=verdicts))
    points = any(is_point(known.get(name), sd) for name, (_, sd) in q.items())
    if corrected and fit.correction is not None:
        gap, impossible = of_weighted_draws(fit.correction.importance, exact.log_evidence), False
    else:
        gap, impossible = evidence_gap(fit, exact.log_evidence, points, seed)
    if impossible:
        warnings.warn(f"compare: {gap.gap_in_words}", stacklevel=2)
    name = title(exact)
    whole = summary(table, "the exact posterior" if name == "exact" else f"the draws of {name}")
    table.attrs = gap._asdict() | {"against": against, "joint": joint, "reference": name, "in_words": whole}
    return table


def _of_deterministic(fit: Fit, exact: Oracle, known: Set[str], seed: int) -> dict[str, Any]:
    """{site: (mean, sd)} of the deterministic sites that the exact posterior has too, from draws of the fit."""
    summed = fit.summed.sites if fit.summed is not None else frozenset()
    wanted = exact.marginals.keys() - known - summed
    if isinstance(exact, Reference):  # a long deterministic site has no diagnostics
        wanted &= exact.mixing.keys()
    wanted &= beyond_the_guide(fit, seed).keys() if wanted else set()
    draws = draws_of(fit, 5 * DRAWS, wanted, seed=seed) if wanted else {}
    return {name: (draws[name].double().mean(0), draws[name].double().std(0)) for name in wanted}


def _columns(q: Distribution | None, p: Distribution, mean: torch.Tensor, sd: torch.Tensor) -> Columns:
    """{column: shape of the site, or None where it does not apply}. q: the guide's marginal, if known; p: the exact."""
    exact_mean, exact_sd = (t.cpu() for t in mean_and_sd(p))
    return {
        "mean": mean,
        "exact mean": exact_mean,
        "sd": sd,
        "exact sd": exact_sd,
        "error in sds": _ratio(mean - exact_mean, exact_sd),
        "sd ratio": torch.where((sd == 0) & (exact_sd == 0), 1.0, _ratio(sd, exact_sd)),
        "kl": kl(q, p, mean, sd),
        "W2": wasserstein(p, mean, sd),
        "total variation": total_variation(q, p),
    }


def _errors(mixing: Any, columns: Columns) -> Columns:
    """The Monte Carlo errors of a reference, in the units of the columns they belong to."""
    exact_sd, ratio = columns["exact sd"], columns["sd ratio"]
    assert exact_sd is not None and ratio is not None
    return {
        "mc error in sds": _ratio(mixing.mean_error, exact_sd),
        "mc error of ratio": ratio * _ratio(mixing.sd_error, exact_sd),
    }


def _automatic(fit: Fit) -> dict[str, Distribution]:
    """{site: distribution} of the autoguide AutoNormal, whose sites are maps of auxiliary normal sites."""
    sites, found = latent(model_trace(fit)), {}
    with reading(fit.state, 1), torch.no_grad():
        one, two = (latent(poutine.trace(fit.guide).get_trace(*fit.data), auxiliary=True) for _ in range(2))
    for name in sites.keys() & one.keys():
        below = f"{name}_unconstrained"
        if kind(one[name]["fn"]) != "Delta" or below not in one or below not in two:
            continue
        fn, value = one[below]["fn"], one[below]["value"]
        mapped = biject_to(sites[name]["fn"].support)(value)
        still = torch.equal(
            fn.log_prob(value), two[below]["fn"].log_prob(value)
        )  # its density depends on no other draw
        if still and mapped.shape == one[name]["value"].shape and torch.allclose(mapped, one[name]["value"]):
            found[name] = pushforward(fn, sites[name]["fn"])
    return found


def _ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a / b, where 0 / 0 is 0."""
    return torch.where((a == 0) & (b == 0), 0.0, a / b)
