"""Variational autoencoder: each image has a latent vector, and a decoder turns the vector into the image.

    z_n ~ N(0, I_K),   x_n ~ Bernoulli(decoder(z_n))   or   N(decoder(z_n), diag(sigma^2)),   n = 1..N

Source: Kingma and Welling 2014 (arXiv:1312.6114), section 3 and appendix C. The decoder is trained to make the data
probable; the encoder, which belongs to the guide, gives each image its q(z). With a linear decoder and normal
pixels this is probabilistic PCA (Tipping and Bishop 1999), whose likelihood is known exactly.

Data: handwritten digits of 8 by 8 pixels, which ship with scikit-learn; a pixel counts as ink from half the scale on.
"""

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import constraints

from ._digits import digits, inputs
from ._nets import perceptron, taking

LATENTS = 8
START, SMALLEST = 0.2, 0.01  # sd of normal pixels before the first step; lower bound where each pixel has its own sd


def model(
    decoder: nn.Module,
    encoder: nn.Module,
    x: torch.Tensor,
    *,
    latents: int = LATENTS,
    pixels: str = "bernoulli",
) -> torch.Tensor:
    """decoder: takes (N, latents), gives logits or means of the shape of x. encoder: the guide's. x: shape (N, ...).

    pixels: "bernoulli" for 0 and 1; for real numbers "normal" with one learnt sd, as in probabilistic PCA, or
        "diagonal" with an sd for each pixel, as in factor analysis. Returns the output of the decoder.
    Raises ValueError for a decoder whose output does not have the shape of x, and for another kind of pixels.
    """
    if pixels not in ("bernoulli", "normal", "diagonal"):
        raise ValueError(f"pixels: got {pixels!r}, wanted 'bernoulli', 'normal' or 'diagonal'")
    pyro.module("decoder", decoder)
    rows = len(x)
    with pyro.plate("N", rows):
        z = pyro.sample("z", dist.Normal(x.new_zeros(latents), 1.0).to_event(1))
        with taking(z, "decoder", "z", "give model and guide the same latents= with functools.partial"):
            image = decoder(z)
        if image.shape != x.shape:
            raise ValueError(
                f"decoder: gives shape {tuple(image.shape)} for {rows} rows, but x has {tuple(x.shape)}; pass images "
                f"of the size the decoder was made for, or a decoder made for these"
            )
        if pixels == "bernoulli":
            pixel = dist.Bernoulli(logits=image)
        elif pixels == "diagonal":  # bounded below: the likelihood of a constant pixel is unbounded otherwise
            sds = pyro.param("sigma", x.new_full(x.shape[1:], START), constraint=constraints.greater_than(SMALLEST))
            pixel = dist.Normal(image, sds)
        else:
            pixel = dist.Normal(image, pyro.param("sigma", x.new_tensor(START), constraint=constraints.positive))
        pyro.sample("x", pixel.to_event(x.dim() - 1), obs=x)
    return image


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """(decoder, encoder, x): the training digits as 0 and 1, x (1437, 64), or all columns of a table."""
    x = ink(digits().x) if table is None else inputs(table)
    return perceptron(LATENTS, x.shape[1]), perceptron(x.shape[1], 2 * LATENTS), x


def held_out(decoder: nn.Module, encoder: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """(decoder, encoder, x) for the 360 held-out digits."""
    return decoder, encoder, ink(digits().x_test)


def labels(decoder: nn.Module, encoder: nn.Module, x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor | None:
    """The digit that each row of x shows, (N,), for pictures: no fit sees it. None unless x are the built-in digits."""
    found = digits()
    for images, digit in ((found.x, found.y), (found.x_test, found.y_test)):
        if x.shape == images.shape and torch.equal(x.cpu(), ink(images).to(x.dtype)):
            return digit
    return None


def ink(x: torch.Tensor) -> torch.Tensor:
    """1 where a pixel is at least half black, else 0."""
    return (x >= 0.5).to(x.dtype)
