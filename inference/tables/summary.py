"""The summary of a fit: a row for each scalar of its latents, and of what they determine.

Finite latents that were summed out have the columns `mode`, the likeliest value, and `P(mode)`. A site of many rows has
a row for each of its values instead: the share of the rows that have it.
"""

import pandas as pd
import torch

from ..distributions.finite import indicator, support, values_of
from ..distributions.summaries import LONGEST, Labels, as_table, scalars
from ..inputs.arguments import number_of_draws
from ..posterior.approximation import Approximation
from ..posterior.coords import labels_of
from ..posterior.marginals import means_and_sds
from ..posterior.sample import Values, beyond_the_guide, guide_draws, joint_draws
from ..posterior.weighted_guide import WeightedGuide
from ..runtime.sites import Site
from ..runtime.state import reading
from ..storage.absent import refuse_without_data

MOST = 2**25  # numbers of the largest site of the model in all draws; there may be 100 draws in any case


def summary(fit: Approximation, n: int, seed: int) -> pd.DataFrame:
    """A row for each scalar; columns: mean, sd, and the 5 %, 50 % and 95 % quantiles of n draws.

    Scalars are called by what the user gave: b[bmi] by the columns of a table, a[AITKIN] by the categories of a column,
    theta[Choate] by the index of the rows, where they belong to these (see `posterior/coords.py`); else by numbers.
    The latents of the guide come first, then deterministic sites and finite latents that were summed out, given the
    data, with the columns `mode` and `P(mode)`. Of these, a finite latent with more than 20 scalars has a row for each
    of its values, the share of its rows; a longer deterministic site has none.
    Weighted draws have their means and sds from all of them, and one column more: `error`, the standard error of each
    mean by the effective number of draws.
    """
    n = number_of_draws("summary", n)
    refuse_without_data(fit.data, "summary")
    labels = labels_of(fit)
    table = as_table(means_and_sds(fit, n, seed), guide_draws(fit, n, seed=seed), labels)
    if isinstance(fit.guide, WeightedGuide) and not fit.followers:
        table["error"] = _errors(fit.guide, labels)
    found = beyond_the_guide(fit, seed)
    shares = {name for name, site in found.items() if _is_finite(site) and _long(site)}
    shown = {name: site for name, site in found.items() if name in shares or not _long(site)}
    if not shown:
        return table
    largest = max(site["value"].numel() for site in found.values())
    few = min(n, max(100, MOST // largest))

    def of(values: Values) -> Values:
        rows: Values = {}
        for name, site in shown.items():
            rows |= _shares(name, site, values[name]) if name in shares else {name: values[name]}
        return rows

    with reading(fit.state, seed):
        draws = joint_draws(fit, few, shown.keys(), of)
    moments = {name: (v.double().mean(0), v.double().std(0, correction=int(few > 1))) for name, v in draws.items()}
    beyond = as_table(moments, draws, labels)
    modes: dict[str, dict[str, float]] = {}
    for name, site in shown.items():
        if _is_finite(site) and name not in shares:
            modes |= _modes(name, draws[name], labels)
    if modes:
        beyond = beyond.join(pd.DataFrame.from_dict(modes, orient="index"))
    return pd.concat([table, beyond]).rename_axis("site")


def _errors(guide: WeightedGuide, labels: Labels) -> pd.Series:
    """The standard errors of the means, a row for each scalar."""
    found = guide.moments()
    return pd.Series(
        {
            label: error[index].item()
            for name, (*_, error) in found.items()
            for index, label in scalars(name, error.shape, labels.get(name))
        }
    )


def _is_finite(site: Site) -> bool:
    return not site["is_observed"] and values_of(site["fn"]) > 0


def _long(site: Site) -> bool:
    return bool(site["value"].numel() > LONGEST)


def _shares(name: str, site: Site, value: torch.Tensor) -> Values:
    """{"share of k = 0": the share of the rows with this value}, one for each value of the site."""
    values = support(site["fn"])
    shares = indicator(value, values).double().flatten(1).mean(1)
    words = [str(v.argmax().item()) if v.dim() else f"{v.item():g}" for v in values]  # of a one-hot value its place
    return {f"share of {name} = {word}": share for word, share in zip(words, shares, strict=True)}


def _modes(name: str, draws: torch.Tensor, labels: Labels) -> dict[str, dict[str, float]]:
    """{label of a scalar: its likeliest value, and the probability of that value}."""
    mode = draws.mode(0).values
    probability = (draws == mode).double().mean(0)
    return {
        label: {"mode": mode[index].item(), "P(mode)": probability[index].item()}
        for index, label in scalars(name, mode.shape, labels.get(name))
    }
