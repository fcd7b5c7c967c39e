"""Variational autoencoder: the encoder gives every image its own normal (Kingma and Welling 2014, eq. 9).

q(z_n | x_n) = N(m(x_n), s(x_n)^2),   (m, s) = encoder(x_n)
"""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

SMALLEST = 1e-4  # sd


def guide(
    decoder: nn.Module,
    encoder: nn.Module,
    x: torch.Tensor,
    *,
    latents: int = 8,
    pixels: str = "bernoulli",
) -> torch.Tensor:
    """encoder: takes x, shape (N, ...), gives (N, 2 latents). decoder, pixels: the model's. Returns z, (N, latents).

    Raises ValueError for an encoder that takes or gives another shape.
    """
    for name, net in (("decoder", decoder), ("encoder", encoder)):
        if not isinstance(net, nn.Module):
            raise ValueError(f"{name}: got {type(net).__name__}, wanted a torch.nn.Module")
    if not isinstance(x, torch.Tensor):
        raise ValueError(f"x: got {x}, wanted the rows to encode; to make up new ones, predict(n, ..., prior=True)")
    pyro.module("encoder", encoder)
    try:
        code = encoder(x)
    except RuntimeError as error:
        message = str(error).splitlines()[0]
        if x.is_floating_point() and "shape" not in message and "size" not in message:
            raise
        raise ValueError(
            f"x: got {x.dtype} of shape {tuple(x.shape)}, which the encoder does not take ({message}); wanted floating "
            f"point rows of the size it was made for"
        ) from error
    if code.shape != (len(x), 2 * latents):
        raise ValueError(
            f"encoder: gives shape {tuple(code.shape)} for {len(x)} rows, wanted ({len(x)}, {2 * latents}): a mean "
            f"and a scale for each of {latents} latents"
        )
    mean, scale = code.chunk(2, dim=-1)
    with pyro.plate("N", len(x)):
        return pyro.sample("z", dist.Normal(mean, nn.functional.softplus(scale) + SMALLEST).to_event(1))
