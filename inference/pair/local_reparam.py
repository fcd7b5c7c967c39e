"""Local reparameterisation and flipout: noise for each row where the weight of a layer is a Normal latent.

    local     out = mu * x + sqrt(sigma^2 * x^2) eps          eps ~ N(0, 1) for each output of each row
    flipout   out = mu * x + ((W - mu) * (x s)) r             s, r = ±1, fair coins for each channel of each row

`*` is F.linear or a convolution with that weight, W ~ N(mu, sigma^2) elementwise; its bias goes likewise, as the weight
of an input that is 1. Pathwise all rows share one W and so its noise; here a row's output has the distribution that W
gives it, and the noise of rows is independent. Where a cost reads one row alone (`estimators/local.py` checks it), its
mean and the mean of its gradient do not change. The places of a convolution share W as rows do, and so do further
leading dimensions of F.linear's input: "local" draws noise for each place, "flipout" for each row.

Sources: Kingma, Salimans and Welling 2015 (arXiv:1506.02557, eq. 6); Wen et al. 2018 (arXiv:1803.04386, eq. 4).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..distributions.unwrap import unwrapped
from ..runtime.sites import Site

LAYERS = (functional.linear, torch.conv1d, torch.conv2d, torch.conv3d)  # what nn.Linear and nn.Conv1d, 2d, 3d call
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
PER_ROW = ("local", "flipout")


@contextmanager
def per_row_noise(draws: Mapping[str, Site], how: Mapping[str, str]) -> Iterator[None]:
    """Gives layers whose weight or bias is one of these draws noise for each row, while the model runs inside.

    draws: Normal sites of a trace of the guide, by name; the model must use these very tensors (`poutine.replay` sees
    to it). how: "local" or "flipout" for each of them. Raises ValueError for any other word.
    """
    for name, word in how.items():
        if word not in PER_ROW:
            raise ValueError(f"local: {name!r}: got {word!r}, wanted one of {', '.join(map(repr, PER_ROW))}")
    with _Replacing({name: draws[name] for name in how}, how):
        yield


def bound(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of one of LAYERS by their names."""
    return {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}


class _Replacing(TorchFunctionMode):
    def __init__(self, draws: Mapping[str, Site], how: Mapping[str, str]) -> None:
        super().__init__()
        self.draws = {
            id(site["value"]): _Draw(site["value"], *mean_and_sd_of(site), how[name]) for name, site in draws.items()
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in LAYERS:
            call = bound(args, kwargs or {})
            weight, bias = (self.draws.get(id(call.get(key))) for key in ("weight", "bias"))
            if weight is not None or bias is not None:
                return _noisy(func, call, weight, bias)
        return func(*args, **(kwargs or {}))


class _Draw(NamedTuple):
    value: torch.Tensor
    mu: torch.Tensor
    sigma: torch.Tensor
    how: str


def _noisy(
    layer: Callable[..., torch.Tensor], call: dict[str, Any], weight: _Draw | None, bias: _Draw | None
) -> torch.Tensor:
    """The layer's output with the noise of its weight and bias. None: that argument has no noise of its own."""
    means = {key: draw.mu for key, draw in (("weight", weight), ("bias", bias)) if draw is not None}
    out = mean = layer(**call | means)
    x, space = call["input"], spatial(layer, call["weight"])
    if weight is not None and weight.how == "local":
        var = layer(**call | {"input": x.square(), "weight": weight.sigma.square(), "bias": None})
        out = out + _root(var) * torch.randn_like(mean)
    elif weight is not None:
        s, r = _signs(x, space), _signs(mean, space)
        out = out + layer(**call | {"input": x * s, "weight": weight.value - weight.mu, "bias": None}) * r
    if bias is not None:
        noise = bias.sigma if bias.how == "local" else bias.value - bias.mu
        eps = torch.randn_like(mean) if bias.how == "local" else _signs(mean, space)
        out = out + noise.reshape(-1, *[1] * space) * eps
    return out


def _root(var: torch.Tensor) -> torch.Tensor:
    """sqrt(var), with derivative 0 at 0: a row of zeros has no noise, and an infinite derivative would make NaN."""
    some = var > 0
    return torch.where(some, torch.where(some, var, 1.0).sqrt(), 0.0)


def _signs(like: torch.Tensor, space: int) -> torch.Tensor:
    """±1 for each row (the first dimension, if it is not the channels) and each channel, to multiply `like` with."""
    kept = (0, like.dim() - 1 - space)
    shape = [length if d in kept else 1 for d, length in enumerate(like.shape)]
    return torch.randint(0, 2, shape, device=like.device).to(like.dtype) * 2 - 1


def spatial(layer: Any, weight: torch.Tensor) -> int:
    """How many dimensions of a layer's output come after its channels."""
    return 0 if layer is functional.linear else weight.dim() - 2


def mean_and_sd_of(site: Site) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, sd) of a Normal site, each of the shape of its value."""
    fn, shape = unwrapped(site["fn"]), site["value"].shape
    return fn.loc.expand(shape), fn.scale.expand(shape)
