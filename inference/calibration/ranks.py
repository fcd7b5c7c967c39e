"""Ranks of the latents that data came from among posterior draws given that data.

    r = #{l: z_l < z*} + u,   u uniform on 0, ..., #{l: z_l = z*}      z* the truth, z_1, ..., z_L draws

If the draws are from the posterior, r is uniform on 0, ..., L (Talts et al. 2018), for every scalar of z and for every
function of z and the data. Two functions see what single latents do not (Modrák et al. 2023): the log likelihood, a
guide that returns the prior; the log prior, a guide with the wrong prior.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from ..distributions.summaries import scalars
from ..pair.pair import Program
from ..runtime.generators import noise
from ..runtime.held import HeldSites
from ..runtime.sites import latent, observed
from ..runtime.traced import traced

LIKELIHOOD, PRIOR = "log likelihood", "log prior"  # the names of these functions, beside those of latents
Values = dict[str, torch.Tensor]


def log_densities(model: Program, data: Sequence[object], z: Mapping[str, torch.Tensor]) -> Values:
    """log p(data | z) and log p(z) at values of all latents, scalars in nats."""
    trace = traced(HeldSites(z)(model), tuple(data))
    sites = {LIKELIHOOD: observed(trace), PRIOR: latent(trace)}
    wanted = {name for some in sites.values() for name in some}
    trace.compute_log_prob(site_filter=lambda name, site: name in wanted)
    return {
        name: torch.stack([site["log_prob"].sum(dtype=torch.float64) for site in some.values()]).sum()
        for name, some in sites.items()
    }


def counted_with_densities(draws: Values, truth: Values, densities: Values) -> Values:
    """`counted` of the latents, and of the log densities (L + 1,), of which the last one is that of the truth."""
    return counted(draws, truth) | counted(
        {name: value[:-1] for name, value in densities.items()}, {name: value[-1] for name, value in densities.items()}
    )


def counted(draws: Mapping[str, torch.Tensor], truth: Mapping[str, torch.Tensor]) -> Values:
    """How many draws are below the truth, and equal to it: {name: shape (2, *shape)}. draws: {name: (L, *shape)}."""
    return {
        name: torch.stack([(draws[name] < value).sum(0), (draws[name] == value).sum(0)])
        for name, value in truth.items()
    }


def ranks_of(counts: Mapping[str, torch.Tensor], most: int, seed: int) -> pd.DataFrame:
    """The ranks, a row for each data set and a column for each scalar. counts: {name: (S, 2, *shape)}.

    Scalars that equal all draws in all data sets are constants (zeros of a Cholesky factor), and are left out.
    """
    columns: dict[str, Any] = {}
    with noise(seed):
        for name, value in counts.items():
            less, ties = value[:, 0], value[:, 1]
            rank = less + (torch.rand(ties.shape) * (ties + 1)).long().clamp(max=ties)
            shape = rank.shape[1:]
            flat = zip(scalars(name, shape), rank.reshape(len(rank), -1).T, ties.reshape(len(rank), -1).T, strict=True)
            columns |= {label: values.numpy() for (_, label), values, equal in flat if not (equal == most).all()}
    return pd.DataFrame(columns)
