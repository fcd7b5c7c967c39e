"""Automatic guides: normals in unconstrained space, and two point estimates, MAP and maximum likelihood.

None, "mean_field"  q(z) = product of normals in unconstrained space (`mean_field.py`)
"full_rank"  one normal of all latents in unconstrained space, with their correlations (Pyro's AutoMultivariateNormal)
"low_rank"   the same with a covariance of a diagonal and a few directions (AutoLowRankMultivariateNormal)
"laplace"    the normal at the mode in unconstrained space, with the curvature there (AutoLaplaceApproximation)
"map"        the point that maximises log p(data | z) + log p(z), in the latents' own space (Pyro's AutoDelta)
"amortised"  mean field of what rows share, and a network of a row's data for the latents of rows (`amortised.py`)
"mle"        the point that maximises log p(data | z): the same, with the priors' densities left out
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.infer.autoguide import (
    AutoDelta,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
)
from pyro.infer.autoguide.initialization import init_to_feasible, init_to_median, init_to_sample
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.messenger import Messenger
from torch.distributions import Distribution

from ..distributions.centre import centre
from ..distributions.finite import values_of
from .amortised import Amortised
from .mean_field import MeanField
from .pair import Program

NORMALS = {
    "full_rank": AutoMultivariateNormal,
    "low_rank": AutoLowRankMultivariateNormal,
    "laplace": AutoLaplaceApproximation,
}
WORDS = ("mean_field", *NORMALS, "amortised", "map", "mle")  # of `guide=`


@dataclass
class Start:
    """The starting values of an autoguide: Pyro's own, and where the model fails there, medians of its priors or draws.

    number: of the try.
    """

    first: Callable[..., torch.Tensor]
    number: int = 0

    def __call__(self, site: Any) -> torch.Tensor:
        strategies: tuple[Callable[..., torch.Tensor], ...] = (self.first, init_to_median, init_to_sample)
        try:
            return strategies[min(self.number, 2)](site)
        except NotImplementedError:  # a prior without draws, as ImproperUniform
            return centre(site["fn"])


def start_elsewhere(guide: Program, number: int) -> None:
    """Lets credo's own autoguides start from other values in try 1, 2, ...; does nothing to a user's guide."""
    start = getattr(guide, "init_loc_fn", None)
    if isinstance(start, Start):
        start.number = number


def without_finite(model: Program) -> Program:
    """The model without its finite latents, for an autoguide: these are summed out instead."""
    hidden: Program = poutine.block(model, hide_fn=_is_finite)  # a function of this file: a fit must pickle
    return hidden


def _is_finite(msg: Any) -> bool:
    here = msg["type"] == "sample" and not msg["is_observed"] and not msg["infer"].get("is_auxiliary")
    return here and values_of(msg["fn"]) > 0


def with_guide(model: Program, guide: Program | str | None) -> tuple[Program, Program]:
    """(the model to train, the guide to train). Raises ValueError for a name that is no automatic guide."""
    if isinstance(model, type) or not callable(model):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise ValueError(f"model: got {got}, wanted a function of the data that calls pyro.sample, or an instance")
    if guide is None or (isinstance(guide, str) and guide == "mean_field"):
        return model, MeanField(without_finite(model), init_loc_fn=Start(init_to_feasible))
    if isinstance(guide, str) and guide == "amortised":
        return model, Amortised(without_finite(model), init_loc_fn=Start(init_to_feasible))
    if isinstance(guide, str) and guide == "map":
        return model, AutoDelta(without_finite(model), init_loc_fn=Start(init_to_median))
    if isinstance(guide, str) and guide == "mle":
        return _without_priors(model), AutoDelta(without_finite(model), init_loc_fn=Start(init_to_median))
    if isinstance(guide, str) and guide in NORMALS:
        return model, NORMALS[guide](without_finite(model), init_loc_fn=Start(init_to_median))
    if isinstance(guide, str):
        words = ", ".join(map(repr, WORDS))
        raise ValueError(f"guide: got {guide!r}, wanted a function, one of {words}, or None for an automatic one")
    _refuse_no_function(guide)
    return model, latents_alone(guide)


def latents_alone(guide: Program) -> Program:
    """A guide that runs the model inside (AutoNormalMessenger), without the model's observations; others as they are.

    Pyro's own ELBO leaves these sites out, where a trace of the guide has them.
    """
    if not isinstance(guide, GuideMessenger):
        return guide
    return partial(_without_observations, guide)  # of functions of this file: a fit must pickle


def _without_observations(guide: Program, *args: Any, **kwargs: Any) -> Any:
    return poutine.block(guide, hide_fn=_is_observed)(*args, **kwargs)


def _is_observed(msg: Any) -> bool:
    return bool(msg["type"] == "sample" and msg["is_observed"])


def _refuse_no_function(guide: Any) -> None:
    """Raises ValueError for a guide that is no function of the data: a class, a distribution, data."""
    if isinstance(guide, type):
        raise ValueError(
            f"guide: got the class {guide.__name__}, wanted an instance or a function: write {guide.__name__}(model)"
        )
    if isinstance(guide, Distribution):
        raise ValueError(
            f"guide: got a distribution, {type(guide).__name__}, wanted a function that draws each latent by name, "
            f"pyro.sample('z', {type(guide).__name__}(...))"
        )
    if not callable(guide):
        raise ValueError(
            f"guide: got {type(guide).__name__}, wanted a function of the same arguments as the model, or None for an "
            f"automatic one: credo.fit(model, None, data)"
        )


def _without_priors(model: Program) -> Program:
    return partial(_likelihood, model)


def _likelihood(model: Program, *args: Any, **kwargs: Any) -> Any:
    with _WithoutPriors():
        return model(*args, **kwargs)


class _WithoutPriors(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["mask"] = False
