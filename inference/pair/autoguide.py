"""Automatic guides: normals in unconstrained space, and two point estimates, MAP and maximum likelihood.

None         q(z) = product of normals in unconstrained space (Pyro's AutoNormal)
"full_rank"  one normal of all latents in unconstrained space, with their correlations (Pyro's AutoMultivariateNormal)
"laplace"    the normal at the mode in unconstrained space, with the curvature there (AutoLaplaceApproximation)
"map"        the point that maximises log p(data | z) + log p(z), in the latents' own space (Pyro's AutoDelta)
"mle"        the point that maximises log p(data | z): the same, with the priors' densities left out
"""

from functools import partial
from typing import Any

from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoLaplaceApproximation, AutoMultivariateNormal, AutoNormal
from pyro.poutine.messenger import Messenger
from torch.distributions import Distribution

from ..distributions.finite import values_of
from .pair import Program

NORMALS = {"full_rank": AutoMultivariateNormal, "laplace": AutoLaplaceApproximation}


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
    if guide is None:
        return model, AutoNormal(without_finite(model))
    if isinstance(guide, str) and guide == "map":
        return model, AutoDelta(without_finite(model))
    if isinstance(guide, str) and guide == "mle":
        return _without_priors(model), AutoDelta(without_finite(model))
    if isinstance(guide, str) and guide in NORMALS:
        return model, NORMALS[guide](without_finite(model))
    if isinstance(guide, str):
        words = ", ".join(repr(word) for word in (*NORMALS, "map", "mle"))
        raise ValueError(f"guide: got {guide!r}, wanted a function, one of {words}, or None for a mean-field guide")
    _refuse_no_function(guide)
    return model, guide


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
