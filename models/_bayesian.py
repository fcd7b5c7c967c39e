"""Any network with latent weights in any model: a normal prior for each parameter, and the network at a draw of them.

w_name ~ N(0, sd_name^2),   sd_name = 1 / sqrt(fan-in) by default;   output = net(inputs; w)
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.runtime import get_plates
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from ._nets import everywhere, fan_in, refuse_dependence, taking, weights_of
from ._priors import Prior, PriorSd, Sd, checked_prior, checked_sd, learnt_sd

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # they scale each unit by itself


def bayesian(
    net: nn.Module, prior_sd: PriorSd = None, *, prior: Prior | None = None, name: str = ""
) -> Callable[..., Any]:
    """A function of the inputs of a network that draws all its weights from their priors and returns net(inputs; w).

        w ~ N(0, prior_sd^2)        for each parameter of the net, weights and biases: a latent site with its name

    Call it once in a model, outside of plates: all rows share the weights. The network itself keeps its own weights;
    frozen parameters (requires_grad=False) are no latents, tied ones are one latent. The guide is
    `credo.nn.mean_field(net)`, or none: `credo.fit(model, None, ...)`.

    net: any torch.nn.Module. prior_sd: of all parameters, a number; a dictionary {parameter: sd}, whose parameters left
        out have the default; or a function of the parameter's name and value. None: 1 / sqrt(fan-in), so that the
        output has the same scale whatever the width (Neal 1996, section 2.1); 1 for biases, embeddings and the scales
        of a norm. An sd may be a tensor, and so a latent of the model. Two words, for all or in the place of a number:
        "learnt": the sd is a parameter `NAME.prior_sd` of the model, one number for each parameter of the net, which
        starts at the default and which the fit chooses with the guide, since the ELBO bounds the evidence: at the
        optimum of a normal guide it is the root of mean(loc^2 + scale^2) (empirical Bayes; MacKay 1992).
        "ard": the same with a number for each weight (automatic relevance determination; Kharitonov, Molchanov and
        Vetrov 2018, whose KL log(1 + loc^2 / scale^2) / 2 it has at the optimum). The bound then is one on the evidence
        at as many chosen numbers as there are weights, so do not compare models by it.
    prior: in the place of prior_sd, a function of the parameter's name and value that returns its distribution, as
        `credo.nn.scale_mixture` makes.
    name: before the sites' names, where a model has two networks: "encoder" names `encoder.0.weight`.
    Raises ValueError for what is no network with parameters to draw, a prior that is not positive or names no
    parameter, batch normalisation in training mode (which makes the density of a row depend on the other rows; use
    LayerNorm or GroupNorm), dropout in training mode (noise that is no latent), a call inside a plate, and inputs of a
    shape that the network does not take.

    >>> import pyro, pyro.distributions as dist, torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> f = credo.nn.bayesian(net, prior_sd=2.0)
    >>> def model(x, y=None):
    ...     mean = f(x).squeeze(-1)
    ...     with pyro.plate("N", len(x)):
    ...         pyro.sample("y", dist.Normal(mean, 0.1), obs=y)
    >>> x = torch.linspace(-1, 1, 20)[:, None].expand(20, 2)
    >>> fit = credo.fit(model, credo.nn.mean_field(net), x, x[:, 0] ** 2, steps=50, progress=False, compile=False)
    >>> fit.predict(10, x[:3])["y"].shape, list(fit.sample(1))
    (torch.Size([10, 3]), ['0.weight', '0.bias', '2.weight', '2.bias'])
    """
    _priors(net, prior_sd, prior)
    return functools.partial(_output, net, prior_sd, prior, name)


def draw_weights(
    net: nn.Module, prior_sd: PriorSd = None, *, prior: Prior | None = None, name: str = ""
) -> dict[str, torch.Tensor]:
    """The weights that `bayesian` draws, {parameter: value}, for networks that a model calls more than once.

    net, prior_sd, prior, name, errors: as for `bayesian`. `torch.func.functional_call(net, weights, inputs)` runs the
        net.

    >>> import torch
    >>> net = torch.nn.Linear(2, 1)
    >>> weights = credo.nn.draw_weights(net)
    >>> torch.func.functional_call(net, weights, torch.zeros(3, 2)).shape
    torch.Size([3, 1])
    """
    refuse_dependence(net)
    weights = {}
    for parameter, (w, wide) in _priors(net, prior_sd, prior).items():
        site = f"{name}.{parameter}" if name else parameter
        if isinstance(wide, dist.Distribution | torch.distributions.Distribution):
            fn: Any = wide
        else:
            sd = learnt_sd(site, w, inputs_of(net, parameter) ** -0.5, wide) if isinstance(wide, str) else wide
            fn = dist.Normal(torch.zeros_like(w), sd).to_event(w.dim())
        weights[parameter] = pyro.sample(site, fn)
        if weights[parameter].shape != w.shape:
            plates = ", ".join(repr(plate.name) for plate in get_plates())
            where = f"drawn in plate {plates}, once for each row" if plates else "its prior sd has a larger shape"
            raise ValueError(
                f"site {site!r}: got shape {tuple(weights[parameter].shape)} for a parameter of shape "
                f"{tuple(w.shape)}: {where}; call the Bayesian network before the plate, and use its output inside"
            )
    return weights


def by_fan_in(net: nn.Module, prior_sd: PriorSd) -> PriorSd:
    """A number, in units of 1 / sqrt(fan-in), as the sd of each parameter; anything else as it is."""
    if isinstance(prior_sd, int | float) and not isinstance(prior_sd, bool):
        return lambda name, _: prior_sd / inputs_of(net, name) ** 0.5
    return prior_sd


def _priors(
    net: nn.Module, prior_sd: PriorSd, prior: Prior | None
) -> dict[str, tuple[torch.Tensor, Sd | str | dist.Distribution]]:
    """{parameter: (its value, its prior or the sd of it)} of all parameters that are not frozen. Errors as above."""
    _refuse_wrapped(net)
    weights = weights_of(net)
    if prior is not None:
        if prior_sd is not None:
            raise ValueError("prior: got a prior and a prior_sd, wanted one of the two")
        if not callable(prior):
            raise ValueError(f"prior: got {prior!r}, wanted a function such as credo.nn.scale_mixture()")
        for name, w in weights.items():
            _refuse_weight(name, w)
        return {name: (w, checked_prior(name, w, prior(name, w))) for name, w in weights.items()}
    if isinstance(prior_sd, Mapping) and (unknown := sorted(set(prior_sd) - set(weights))):
        raise ValueError(f"prior_sd: got {unknown}, which are no parameters of the net; wanted some of {list(weights)}")
    found: dict[str, tuple[torch.Tensor, Any]] = {}
    for name, w in weights.items():
        _refuse_weight(name, w)
        if isinstance(prior_sd, Mapping):
            sd: Any = prior_sd.get(name)
        else:
            sd = prior_sd(name, w) if callable(prior_sd) else prior_sd
        sd = inputs_of(net, name) ** -0.5 if sd is None else sd
        found[name] = (w, checked_sd(name, w, sd))
    return found


def inputs_of(net: nn.Module, name: str) -> int:
    """The fan-in of a parameter: how many inputs add up in each unit of its layer, for priors of one's own.

    net: the network. name: of its parameter. 1 for biases, for embeddings (of which a row reads one vector) and for the
    scales of a norm. Raises AttributeError for a parameter that the network does not have.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Flatten(), nn.Linear(128, 2))
    >>> credo.nn.inputs_of(net, "0.weight"), credo.nn.inputs_of(net, "0.bias")
    (75, 1)
    >>> f = credo.nn.bayesian(net, lambda name, w: 10 / credo.nn.inputs_of(net, name) ** 0.5)
    """
    weight = net.get_parameter(name)
    layer = net.get_submodule(name.rpartition(".")[0])
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag, *NORMS)):
        return 1
    if isinstance(layer, _ConvTransposeNd) and weight.dim() > 1:  # its weight has the inputs first
        return weight.shape[0] // layer.groups * math.prod(weight.shape[2:])
    return fan_in(weight)


def _output(net: nn.Module, prior_sd: PriorSd, prior: Prior | None, name: str, /, *inputs: Any, **named: Any) -> Any:
    weights = draw_weights(net, prior_sd, prior=prior, name=name)
    if not inputs or not isinstance(inputs[0], torch.Tensor):
        return functional_call(net, everywhere(net, weights), inputs, named, tie_weights=False)
    with taking(inputs[0], "net", module=net):
        return functional_call(net, everywhere(net, weights), inputs, named, tie_weights=False)


def _refuse_weight(name: str, weight: torch.Tensor) -> None:
    if nn.parameter.is_lazy(weight):
        raise ValueError(
            f"net: parameter {name!r} has no shape before the first call; call net(x) once before this, or write the "
            f"number of inputs in place of the lazy layer"
        )
    if not weight.is_floating_point():
        raise ValueError(f"net: parameter {name!r} holds {weight.dtype}, wanted real floating-point weights")


def _refuse_wrapped(net: nn.Module) -> None:
    inner = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
    kind = type(net).__name__
    if isinstance(net, torch.jit.ScriptModule):
        raise ValueError(f"net: got {kind}, a compiled network, whose weights cannot be replaced; pass it before jit")
    if kind in inner and hasattr(net, inner[kind]):
        raise ValueError(f"net: got {kind}, wanted the network inside it: pass net.{inner[kind]}")
