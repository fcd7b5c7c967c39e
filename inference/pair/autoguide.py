"""Automatic guides: the mean-field autoguide and two point estimates, MAP and maximum likelihood.

None    q(z) = product of normals in unconstrained space (Pyro's AutoNormal)
"map"   the point that maximises log p(data | z) + log p(z), in the latents' own space (Pyro's AutoDelta)
"mle"   the point that maximises log p(data | z): the same, with the priors' densities left out
"""

from functools import partial
from typing import Any

from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.poutine.messenger import Messenger

from ..distributions.finite import values_of
from .pair import Program


def without_finite(model: Program) -> Program:
    """The model without its finite latents, for an autoguide: these are summed out instead."""
    hidden: Program = poutine.block(model, hide_fn=_is_finite)  # a function of this file: a fit must pickle
    return hidden


def _is_finite(msg: Any) -> bool:
    here = msg["type"] == "sample" and not msg["is_observed"] and not msg["infer"].get("is_auxiliary")
    return here and values_of(msg["fn"]) > 0


def with_guide(model: Program, guide: Program | str | None) -> tuple[Program, Program]:
    """(the model to train, the guide to train). Raises ValueError for a name that is no automatic guide."""
    if guide is None:
        return model, AutoNormal(without_finite(model))
    if guide == "map":
        return model, AutoDelta(without_finite(model))
    if guide == "mle":
        return _without_priors(model), AutoDelta(without_finite(model))
    if isinstance(guide, str):
        raise ValueError(f"guide: got {guide!r}, wanted a function, 'map', 'mle', or None for a mean-field guide")
    if not callable(guide):
        raise ValueError(f"guide: got {type(guide).__name__}, wanted a function of the same arguments as the model")
    return model, guide


def _without_priors(model: Program) -> Program:
    return partial(_likelihood, model)


def _likelihood(model: Program, *args: Any, **kwargs: Any) -> Any:
    with _WithoutPriors():
        return model(*args, **kwargs)


class _WithoutPriors(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["mask"] = False
