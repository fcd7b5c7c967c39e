"""Copies of a network with its trained parameters, also where a run made its weights latents.

    trained     one copy, at the posterior means E_q[w] or at one draw of q
    networks    n copies, each at a joint draw of q

The weights of a Bayesian network are sites of the model, which are put in the place of the network's own; those stay
where they started. A drawn network has the weights that the model runs it with at a draw of the latents, so the masks
that a model puts on weights are in them.
"""

import copy
import math
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.runtime import am_i_wrapped
from torch import nn

from ..inputs.arguments import number_of_draws, shown
from ..runtime.sites import latent, quoted
from ..runtime.state import reading, refuse_unknown
from .approximation import Approximation
from .marginals import means_and_sds
from .own_store import with_own_store
from .row_masks import fold, input_factors
from .sample import Values, guide_draws

DRAWS = 1000  # for the mean of a latent without a closed form


class Base(NamedTuple):
    """A copy of a network as the run left it, before latents take the place of its weights."""

    net: nn.Module
    store: dict[str, Any]  # of the parameters that the run trained
    untrained: list[str]  # names of the network's parameters that are not among those
    random: list[tuple[str, str, str]]  # (path of a submodule, its attribute, the site) of Pyro's random weights


def trained(fit: Approximation, net: nn.Module, draw: int | None = None) -> nn.Module:
    """A copy of a network or autoguide with its trained parameters, in evaluation mode.

    Weights that are latents of the model get their posterior mean, or with `draw=seed` a joint draw from the posterior:
    one network of many, which is more certain than their average, `fit.predict`. A model or a guide that is a module
    stays a program, which Pyro's Predictive runs; called by itself, a model has these weights too. Changes to the copy
    leave the fit as it is; a Pyro module keeps its parameters in a store of its own.
    Raises ValueError for a network that the run has not trained, and for means of weights that the model replaces by
    latents that are not named after them.
    """
    base = _base(fit, net)
    if net is not fit.guide and (base.untrained or base.random or net is fit.model):
        weights = _means(fit) if draw is None else _each(guide_draws(fit, 1, seed=draw))[0]
        _put(fit, net, base.net, base, weights, drawn=draw is not None)
    return with_own_store(base.net, base.store)


def networks(fit: Approximation, net: nn.Module, n: int = 10, seed: int = 0) -> list[nn.Module]:
    """n copies of a network, each with weights of its own drawn from the posterior, in evaluation mode.

    They have the draws of `fit.sample(n, seed=seed)`. The mean of their answers is the prediction of the fit, what they
    disagree about is its epistemic uncertainty; `trained` gives one network, at the means of the weights.
    Raises ValueError for n below 1, for a network that the run has not trained, and for one without latent weights.
    """
    if isinstance(n, str):
        raise ValueError(f"n: got {n!r}, wanted the number of networks; the mean one is fit.trained(net)")
    n, base, found = number_of_draws("networks", n), _base(fit, net), []
    for weights in _each(guide_draws(fit, n, seed=seed)):
        one = copy.deepcopy(base.net)
        if net is fit.guide or not _put(fit, net, one, base, weights, drawn=True):
            raise ValueError(
                f"net: no weight of this {type(net).__name__} is a latent, so all networks would be the same; "
                f"fit.trained(net) is its trained copy"
            )
        found.append(with_own_store(one, base.store))
    return found


def _base(fit: Approximation, net: nn.Module) -> Base:
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
    random = [
        (path, attribute, f"{part._pyro_name}.{attribute}".lstrip("."))
        for path, part in result.named_modules()
        if isinstance(part, PyroModule)
        for attribute in part._pyro_samples
    ]
    return Base(result, store, untrained, random)


def _put(fit: Approximation, net: nn.Module, one: nn.Module, base: Base, weights: Values, drawn: bool) -> bool:
    """Puts these values of the latents into `one`, a copy of the network; False if none is a weight of it."""
    if net is fit.model:
        weights = _outside_of_plates(fit, weights)
        _at_weights(one, weights)
        return bool(weights)
    random = [(path, attribute, site) for path, attribute, site in base.random if site in weights]
    for path, attribute, site in random:
        part = one.get_submodule(path)
        delattr(part, attribute)
        part.register_buffer(attribute, weights[site])
    sites = {name: _sites_of(one.get_parameter(name), name, weights) for name in base.untrained}
    several = any(len(found) > 1 for found in sites.values())  # networks of one model whose parameters have one name
    # Masks are latents behind the name of a weight, with which the model multiplies it: at a learnt rate by 1 / (1 -
    # rate) of the prior, so that the mean of what the network is run with is not the mean of the weight.
    masked = any(site.startswith(f"{name}.") for name in base.untrained for site in weights)
    read = (_weights_read(fit, net, weights) if drawn or several or masked else None) or {}
    values = {name: read[name] if name in read else weights[found[0]] for name, found in sites.items() if found}
    if drawn:
        values |= read
    else:
        left = [name for name, found in sites.items() if not found and net.get_parameter(name).requires_grad]
        _refuse_replaced(fit, net, left, weights)
    for name, value in values.items():
        one.get_parameter(name).data = value.to(one.get_parameter(name))
    if masked and not drawn:  # masks of each row are no part of a weight
        fold(one, input_factors(fit, net, weights))
    return bool(values or random)


def _means(fit: Approximation) -> Values:
    """The posterior mean of each latent of the guide."""
    one = guide_draws(fit, 1)
    return {name: mean.to(one[name].dtype) for name, (mean, _) in means_and_sds(fit, DRAWS, 0).items()}


def _each(draws: Values) -> list[Values]:
    """The draws one by one."""
    n = len(next(iter(draws.values()))) if draws else 1
    return [{name: values[i] for name, values in draws.items()} for i in range(n)]


def _outside_of_plates(fit: Approximation, weights: Values) -> Values:
    """The weights that belong to all rows: those of one row, in a plate, are none of a network."""
    with reading(fit.state, 0), torch.no_grad():
        sites = latent(poutine.trace(fit.guide).get_trace(*fit.data))
    whole = [name for name, site in sites.items() if not any(f.vectorized for f in site["cond_indep_stack"])]
    return {name: value for name, value in weights.items() if name in whole}


class _Called(Exception):
    """Ends a run of the model where it calls the network; `.weights` are those that are not the network's own."""

    def __init__(self, weights: Values) -> None:
        super().__init__()
        self.weights = weights


def _weights_read(fit: Approximation, net: nn.Module, weights: Values) -> Values | None:
    """What the model puts in the place of the network's parameters at these latents; None if it never calls it."""
    with reading(fit.state, 0), torch.no_grad():
        own = dict(net.named_parameters())

        def called(module: nn.Module, given: Any) -> None:
            raise _Called({name: p.clone() for name, p in net.named_parameters() if p is not own.get(name)})

        net.register_forward_pre_hook(called)
        try:
            poutine.trace(poutine.condition(fit.model, weights)).get_trace(*fit.data)
        except _Called as call:
            return call.weights
        return None


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


def _sites_of(parameter: nn.Parameter, name: str, weights: Values) -> list[str]:
    """The latents that have the name of a parameter, alone or behind that of its network, and its shape."""
    return [
        site
        for site, value in weights.items()
        if value.shape == parameter.shape
        and (site == name or (site.endswith(name) and not site[: -len(name)][-1].isalnum()))
    ]


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
