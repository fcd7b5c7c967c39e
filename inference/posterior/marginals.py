"""What a guide believes of each latent, scalar by scalar: exactly where it can be read off, from draws elsewhere."""

import pandas as pd
import torch
from pyro import poutine
from torch.distributions import Distribution

from ..distributions.summaries import as_table, mean_and_sd
from ..runtime.sites import unmoved
from ..runtime.state import reading
from .approximation import Approximation


def marginals(fit: Approximation) -> dict[str, Distribution]:
    """The guide's distributions at sites that depend on no other draw: these are its marginals.

    Found by looking: the guide is run twice with different noise, and a site whose density has not changed is one.
    """
    with reading(fit.state, 1), torch.no_grad():
        one, two = (poutine.trace(fit.guide).get_trace(*fit.data) for _ in range(2))
    return {name: site["fn"] for name, site in unmoved(one, two).items()}


def priors(fit: Approximation) -> dict[str, Distribution]:
    """The model's distributions at latents that depend on no other latent: their marginal priors. Found by looking."""
    sites = unmoved(model_trace(fit, seed=1), model_trace(fit, seed=2))
    return {name: site["fn"] for name, site in sites.items()}


def model_trace(fit: Approximation, seed: int = 0) -> poutine.Trace:
    """The model run once on the data of the fit, at one draw of the guide."""
    with reading(fit.state, seed), torch.no_grad():
        guide = poutine.trace(fit.guide).get_trace(*fit.data)
        return poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*fit.data)


def means_and_sds(fit: Approximation, n: int, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
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


def summary(fit: Approximation, n: int, seed: int) -> pd.DataFrame:
    """Rows: scalars. Columns: mean, sd, and the 5 %, 50 % and 95 % quantiles of n draws."""
    return as_table(means_and_sds(fit, n, seed), fit.sample(n, seed=seed))
