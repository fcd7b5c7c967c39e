"""The trained copy of a network, also where a run made its weights latents: then it has their posterior means.

The weights of a Bayesian network are sites of the model, which are put in the place of the network's own; those stay
where they started. The copy gets E_q[w], or one draw of q, in their place.
"""

import copy
import math
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.runtime import am_i_wrapped
from torch import nn

from ..inputs.arguments import shown
from ..runtime.sites import latent, quoted
from ..runtime.state import reading, refuse_unknown
from .approximation import Approximation
from .marginals import means_and_sds
from .own_store import with_own_store
from .sample import Values, guide_draws

DRAWS = 1000  # for the mean of a latent without a closed form


def trained(fit: Approximation, net: nn.Module, draw: int | None = None) -> nn.Module:
    """A copy of a network or autoguide with its trained parameters, in evaluation mode.

    Weights that are latents of the model get their posterior mean, or with `draw=seed` a joint draw from the posterior:
    one network of many, which is more certain than their average, `fit.predict`. A model or a guide that is a module
    stays a program, which Pyro's Predictive runs; called by itself, a model has these weights too. Changes to the copy
    leave the fit as it is; a Pyro module keeps its parameters in a store of its own.
    Raises ValueError for a network that the run has not trained, and for weights that the model replaces by latents
    that are not named after them.
    """
    if not isinstance(net, nn.Module):
        raise ValueError(
            f"net: got {shown(net)}, wanted a network (a torch.nn.Module) that the run has trained, or an autoguide; "
            f"the trained parameters of a function are fit.params, and its draws fit.sample()"
        )
    refuse_unknown(fit.state, (net,))
    with reading(fit.state, 0):
        store: dict[str, Any] = dict(pyro.get_param_store().get_state())
        in_store = {id(p) for p in store["params"].values()}
        untrained = [name for name, p in net.named_parameters() if id(p) not in in_store]
        result = copy.deepcopy(net)
    if net is fit.model:
        return _at_weights(with_own_store(result, store), _weights_outside_of_plates(fit, draw))
    if net is fit.guide:
        return with_own_store(result, store)
    random = [
        (part, attribute, f"{part._pyro_name}.{attribute}".lstrip("."))
        for part in result.modules()
        if isinstance(part, PyroModule)
        for attribute in part._pyro_samples
    ]
    if untrained or random:
        weights = _weights(fit, draw)
        for part, attribute, site in random:
            if site in weights:
                delattr(part, attribute)
                part.register_buffer(attribute, weights[site])
        untrained = [name for name in untrained if not _placed(result.get_parameter(name), name, weights)]
        _refuse_replaced(fit, net, [name for name in untrained if net.get_parameter(name).requires_grad], weights)
    return with_own_store(result, store)


def _weights(fit: Approximation, draw: int | None) -> Values:
    """The posterior mean of each latent of the guide, or a joint draw with this seed."""
    one = {name: values[0] for name, values in guide_draws(fit, 1, seed=draw or 0).items()}
    if draw is not None:
        return one
    return {name: mean.to(one[name].dtype) for name, (mean, _) in means_and_sds(fit, DRAWS, 0).items()}


def _weights_outside_of_plates(fit: Approximation, draw: int | None) -> Values:
    """The weights that belong to all rows: those of one row, in a plate, are none of a network."""
    with reading(fit.state, 0), torch.no_grad():
        sites = latent(poutine.trace(fit.guide).get_trace(*fit.data))
    whole = [name for name, site in sites.items() if not any(f.vectorized for f in site["cond_indep_stack"])]
    return {name: value for name, value in _weights(fit, draw).items() if name in whole} if whole else {}


class _AtWeights:
    """Hooks of a model's call: its latents have these values inside, unless a handler of Pyro's runs the model."""

    def __init__(self, weights: Values) -> None:
        self.weights = weights
        self.entered: list[ConditionMessenger] = []

    def before(self, module: nn.Module, given: Any) -> None:
        if not am_i_wrapped():
            self.entered.append(ConditionMessenger(dict(self.weights)))
            self.entered[-1].__enter__()

    def after(self, module: nn.Module, given: Any, result: Any) -> None:
        if self.entered:
            self.entered.pop().__exit__(None, None, None)


def _at_weights(model: nn.Module, weights: Values) -> nn.Module:
    """The model itself, which draws none of these latents when it is called by itself: it would from their priors."""
    if weights:
        hooks = _AtWeights(weights)
        model.register_forward_pre_hook(hooks.before)
        model.register_forward_hook(hooks.after, always_call=True)
    return model


def _placed(parameter: nn.Parameter, name: str, weights: Values) -> bool:
    """Whether a latent has the name and the shape of the parameter, which then gets its value."""
    for site, value in weights.items():
        named = site == name or (site.endswith(name) and not site[: -len(name)][-1].isalnum())
        if named and value.shape == parameter.shape:
            parameter.data = value.to(parameter)
            return True
    return False


def _refuse_replaced(fit: Approximation, net: nn.Module, untrained: list[str], weights: Values) -> None:
    """Raises ValueError for a parameter that model and guide do not read, where latents may stand in its place."""
    total = sum(net.get_parameter(name).numel() for name in untrained)
    for name in untrained:
        size = net.get_parameter(name).numel()
        stand_ins = [  # a latent for this parameter, or one vector for all
            site
            for site, value in weights.items()
            if value.numel() == size or (value.dim() == 1 and len(value) >= total)
        ]
        if stand_ins and not _read(fit, net, name):
            raise ValueError(
                f"net: the model does not read parameter {name!r} of this {type(net).__name__}, so latents of other "
                f"names ({quoted(stand_ins)}) stand in its place, and a trained copy would have its starting weights; "
                f"name the sites after the parameters, or put draws of fit.sample() into the network with "
                f"torch.func.functional_call; fit.predict averages over them"
            )


def _read(fit: Approximation, net: nn.Module, name: str) -> bool:
    """Whether the density of model or guide depends on a parameter: it becomes NaN where the parameter is."""
    with reading(fit.state, 0), torch.no_grad():
        net.get_parameter(name).fill_(math.nan)
        try:
            guide = poutine.trace(fit.guide).get_trace(*fit.data)
            model = poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*fit.data)
            total: Any = model.log_prob_sum() + guide.log_prob_sum()
        except Exception:  # the program does not run with NaN, so it reads it
            return True
        return math.isnan(float(total)) or any(site["value"].isnan().any() for site in latent(model).values())
