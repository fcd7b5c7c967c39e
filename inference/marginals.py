"""What a guide believes of each latent, scalar by scalar: exactly where it can be read off, from draws elsewhere."""

import dataclasses
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pyro import poutine
from torch.distributions import Distribution

from .costs import Pair
from .elbo import log_weight
from .scope import reading, snapshot
from .sites import unmoved

if TYPE_CHECKING:
    from .fit import Fit

QUANTILES = (0.05, 0.5, 0.95)


def in_double(fit: "Fit") -> "Fit":
    """The fit in double precision where its model can work in it: log densities of large data cancel many digits."""
    data = tuple(v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in fit.data)
    double = dataclasses.replace(fit, data=data, state=snapshot(fit.state, torch.float64))
    try:
        with reading(double.state, 0), torch.no_grad():
            log_weight(Pair(fit.model, fit.guide, data, fit.summed))
    except RuntimeError:  # constants of the model in single precision
        return fit
    return double


def marginals(fit: "Fit") -> dict[str, Distribution]:
    """The guide's distributions at sites that depend on no other draw: these are its marginals.

    Found by looking: the guide is run twice with different noise, and a site whose density has not changed is one.
    """
    with reading(fit.state, 1), torch.no_grad():
        one, two = (poutine.trace(fit.guide).get_trace(*fit.data) for _ in range(2))
    return {name: site["fn"] for name, site in unmoved(one, two).items()}


def priors(fit: "Fit") -> dict[str, Distribution]:
    """The model's distributions at latents that depend on no other latent: their marginal priors. Found by looking."""
    sites = unmoved(model_trace(fit, seed=1), model_trace(fit, seed=2))
    return {name: site["fn"] for name, site in sites.items()}


def model_trace(fit: "Fit", seed: int = 0) -> poutine.Trace:
    """The model run once on the data of the fit, at one draw of the guide."""
    with reading(fit.state, seed), torch.no_grad():
        guide = poutine.trace(fit.guide).get_trace(*fit.data)
        return poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*fit.data)


def moments(fit: "Fit", n: int, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{site: (mean, sd)} of the guide: its own where it knows them, of n draws elsewhere."""
    result = {}
    for name, fn in marginals(fit).items():
        try:
            result[name] = mean_and_sd(fn)
        except (NotImplementedError, AttributeError):  # no closed form: the draws will do
            pass
    draws = fit.sample(1, seed=seed)
    if draws.keys() - result.keys():
        draws = fit.sample(n, seed=seed)
    for name in draws.keys() - result.keys():
        values = draws[name].double()
        result[name] = (values.mean(0), values.std(0) if n > 1 else torch.zeros_like(values[0]))
    return {name: result[name] for name in draws}


def mean_and_sd(fn: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each scalar, in double precision; of a finite distribution by summing over its values."""
    probabilities = masses(fn)
    if probabilities is None:
        return fn.mean.double(), fn.variance.double().sqrt()
    values = fn.enumerate_support(expand=False).double()  # (K, 1, ..., 1)
    mean = (probabilities * values).sum(0)
    return mean, (probabilities * (values - mean) ** 2).sum(0).sqrt()


def masses(fn: Any) -> torch.Tensor | None:
    """The probability of each value, shape (K, *batch shape); None for a distribution that is not finite."""
    if not getattr(fn, "has_enumerate_support", False) or fn.event_shape:
        return None
    return fn.log_prob(fn.enumerate_support(expand=False)).double().exp()


def summary(fit: "Fit", n: int, seed: int) -> pd.DataFrame:
    """Rows: scalars. Columns: mean, sd, and the 5 %, 50 % and 95 % quantiles of n draws."""
    return as_table(moments(fit, n, seed), fit.sample(n, seed=seed))


def as_table(found: dict[str, tuple[torch.Tensor, torch.Tensor]], draws: dict[str, torch.Tensor]) -> pd.DataFrame:
    """A row for each scalar, of {site: (mean, sd)} and draws {site: (n, *shape)}."""
    rows = {}
    for name, (mean, sd) in found.items():
        quantiles = _quantiles(draws[name].double())
        for index, label in scalars(name, mean.shape):
            shown = {f"{q:.0%}": quantiles[i][index].item() for i, q in enumerate(QUANTILES)}
            rows[label] = {"mean": mean[index].item(), "sd": sd[index].item(), **shown}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "site"
    return table


def scalars(name: str, shape: torch.Size) -> list[tuple[tuple[int, ...], str]]:
    """(index, label) of each scalar of a site: p, theta[0], theta[1], ..., w[2,3]."""
    if not shape:
        return [((), name)]
    return [(index, f"{name}[{','.join(map(str, index))}]") for index in product(*(range(n) for n in shape))]


def _quantiles(draws: torch.Tensor) -> torch.Tensor:
    """Quantiles over the first dimension (by sorting: torch.quantile is limited to 16 million elements)."""
    ordered = draws.sort(dim=0).values
    return torch.stack([ordered[round(q * (len(draws) - 1))] for q in QUANTILES])
