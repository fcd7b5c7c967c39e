"""Marginals of an approximate posterior: exact where the guide's distribution is one, from draws elsewhere."""

import torch
from pyro import poutine
from torch.distributions import Distribution

from ..distributions.summaries import mean_and_sd
from ..runtime.sites import independent_of_draws
from ..runtime.state import reading
from ..runtime.traced import traced
from .approximation import Approximation
from .sample import guide_draws
from .weighted_guide import WeightedGuide


def marginals(fit: Approximation) -> dict[str, Distribution]:
    """{site: the guide's distribution}, at the sites whose distribution depends on no other draw: its exact marginals.

    They are the sites whose density is the same in two runs of the guide with different noise, and without entries
    that follow the model. A guide that knows its marginals, as that of a closed form does, has them as `.marginals`.
    """
    if isinstance(known := getattr(fit.guide, "marginals", None), dict):
        return dict(known)
    with reading(fit.state, 1), torch.no_grad():
        one, two = (traced(fit.guide, fit.data) for _ in range(2))
    found = independent_of_draws(one, two)
    return {name: site["fn"] for name, site in found.items() if name not in fit.followers}


def priors(fit: Approximation) -> dict[str, Distribution]:
    """{site: the model's distribution}, at the latents that depend on no other latent: their marginal priors."""
    sites = independent_of_draws(model_trace(fit, seed=1), model_trace(fit, seed=2))
    return {name: site["fn"] for name, site in sites.items()}


def model_trace(fit: Approximation, seed: int = 0) -> poutine.Trace:
    """The trace of the model on the data of the fit, at one draw of the guide."""
    with reading(fit.state, seed), torch.no_grad():
        guide = traced(fit.guide, fit.data)
        return poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*fit.data)


def means_and_sds(fit: Approximation, n: int, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{site: (mean, sd)} of the guide: in closed form where it has one, from n draws elsewhere; of weighted draws from
    all of them.
    """
    if isinstance(fit.guide, WeightedGuide) and not fit.followers:
        return {name: (mean, sd) for name, (mean, sd, _) in fit.guide.moments().items()}
    result = {}
    for name, fn in marginals(fit).items():
        try:
            result[name] = mean_and_sd(fn)
        except (NotImplementedError, AttributeError):  # no closed form: taken from draws
            pass
    draws = guide_draws(fit, 1, seed=seed)
    if draws.keys() - result.keys():
        draws = guide_draws(fit, n, seed=seed)
    for name in draws.keys() - result.keys():
        values = draws[name].double()
        result[name] = (values.mean(0), values.std(0) if n > 1 else torch.zeros_like(values[0]))
    return {name: result[name] for name in draws}
