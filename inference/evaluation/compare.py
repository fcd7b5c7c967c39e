"""A fit beside the exact posterior, scalar by scalar.

KL(q || p) = log p(data) - ELBO      nats: the evidence gap, zero only where the guide is the posterior
"""

from contextlib import suppress

import pandas as pd
import torch
from pyro import poutine
from torch.distributions import Distribution, biject_to, kl_divergence

from ..distributions.distances import as_normal, is_point, kl, total_variation, wasserstein, wasserstein_normals
from ..distributions.divergence import pushforward
from ..distributions.summaries import mean_and_sd, scalars
from ..distributions.unwrap import kind
from ..mcmc.result import Reference
from ..posterior.marginals import marginals, means_and_sds, model_trace
from ..runtime.sites import latent
from ..runtime.state import reading
from ..variational.result import Fit
from .evidence import DRAWS, as_double, evidence_gap
from .oracle import Oracle, find_oracle, name_of


def compare(fit: Fit, exact: Oracle | None = None, *, seed: int = 0) -> pd.DataFrame:
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
    against = name_of(exact)
    if exact is None:
        exact, against = find_oracle(fit, seed)
    left_out = fit.summed.sites if fit.summed is not None else frozenset()
    fit = as_double(fit)
    q, known = means_and_sds(fit, 5 * DRAWS, seed), marginals(fit)
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
    table.attrs = evidence_gap(fit, exact.log_evidence, points, seed) | {"against": against, "joint": joint}
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
            found[name] = pushforward(fn, sites[name]["fn"])
    return found


def _ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a / b; nothing over nothing is nothing."""
    return torch.where((a == 0) & (b == 0), 0.0, a / b)
