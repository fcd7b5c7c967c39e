"""What a verdict says of a fit to p(z) p(data | z)^(1/T) at a temperature T that is not 1: it is not the posterior.

A model says so at its observed sites, `infer={"temperature": T}`; a scale alone may be the weight of a batch.
"""

import torch
from pyro import poutine

from ..pair.batches import rows_of
from ..posterior.verdict import NO, Verdict
from ..runtime.sites import observed, temperature
from ..runtime.state import reading
from ..runtime.traced import traced
from ..variational.result import Fit

REMEDY = "temperature=1 fits the posterior"


def temperature_of(fit: Fit) -> float:
    """The temperature at which a model takes its observations; 1 where it says nothing.

    It is of a site, not of a row: of a fit by batches, whose pair takes any number of rows, it runs on a batch.
    """
    data = fit.data
    if fit.batch_size is not None:
        arguments, _ = rows_of(data)
        data = tuple(v[: fit.batch_size] if i in arguments else v for i, v in enumerate(data))
    with reading(fit.state, 0), torch.no_grad():
        guide = traced(fit.guide, data)
        sites = observed(poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*data))
    return next((t for site in sites.values() if (t := temperature(site)) != 1), 1.0)


def said_of(fit: Fit, verdict: Verdict) -> Verdict:
    """The verdict, with trust "no" and the temperature as its first reason where that is not 1."""
    if (t := temperature_of(fit)) == 1:
        return verdict
    why = f"temperature {t:g}: each row counts {1 / t:.3g} times, which is not the posterior, nor its nats the evidence"
    return Verdict(NO, verdict.k_hat, (why, *verdict.reasons), REMEDY)
