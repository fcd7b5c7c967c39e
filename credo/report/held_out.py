"""A fit evaluated on held-out rows, and what the rows are: classified inputs, or images with latents of their own.

A model's file can define `held_out(*data)`, which returns the model's arguments for held-out rows, such as
(net, x_test, y_test), and `labels(*data)`, the classes of images that the model itself does not see, for pictures.
"""

import dataclasses
import math
from typing import Any

import pandas as pd
import torch
from pyro import poutine

from credo import metrics
from credo.inference.inputs.beside import beside
from credo.inference.posterior.marginals import model_trace
from credo.inference.runtime.sites import latent, observed, plates
from credo.inference.runtime.state import reading
from credo.inference.variational.result import Fit

DRAWS, CHUNK = 100, 2000  # draws of a prediction; rows predicted at once
LEAST = 16  # pixels of an image


def held_out(fit: Fit) -> tuple[Fit, str]:
    """(the fit with held-out rows as its data, "held-out"); (the fit itself, "training") if there are no such rows.

    Raises ValueError if the model's `held_out(*data)` returns another number of arguments than the model was given.
    """
    function, built_in = beside(fit.model, "held_out"), beside(fit.model, "data")
    if function is None or (built_in is not None and not _same(fit.data, built_in())):
        return fit, "training"  # no held-out rows, or the fit is to the user's own data
    new = tuple(function(*fit.data))
    if len(new) != len(fit.data):
        raise ValueError(
            f"held_out: returned {len(new)} values, wanted {len(fit.data)}: the model's arguments, as in data()"
        )
    pairs = list(zip(new, fit.data, strict=True))
    tensors = [(a, b) for a, b in pairs if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)]
    if any(a.shape[1:] != b.shape[1:] for a, b in tensors):
        return fit, "training"  # the fit is to the user's own data, whose rows have another width
    ready = {id(a): a.to(b.device, b.dtype) for a, b in tensors}
    return dataclasses.replace(fit, data=tuple(ready.get(id(a), a) for a in new)), "held-out"


def _same(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    """Whether the tensors of both are equal, whatever their device and precision."""
    pairs = [(a, b) for a, b in zip(one, two, strict=False) if isinstance(a, torch.Tensor)]
    return all(isinstance(b, torch.Tensor) and torch.equal(a.cpu(), b.cpu().to(a.dtype)) for a, b in pairs)


def select_rows(fit: Fit, n: int, rows: slice | torch.Tensor) -> Fit:
    """The fit with only these rows of its data: they are taken from every tensor of n rows."""
    data = (v[rows] if isinstance(v, torch.Tensor) and v.dim() and len(v) == n else v for v in fit.data)
    return dataclasses.replace(fit, data=tuple(data))


def classes(fit: Fit) -> tuple[torch.Tensor, torch.Tensor] | None:
    """A classifier's probabilities on the rows of the fit, shape (S, N, C), and the labels, shape (N,); otherwise None.

    A classifier is a model with a site `probs`, shape (N, C), that observes one label in each row.
    """
    labels = [site["value"] for site in observed(model_trace(fit)).values()]
    if len(labels) != 1 or labels[0].dim() != 1:
        return None
    (y,), probs = labels, fit.predict(1).get("probs")
    if probs is None or probs.dim() != 3 or not probs.is_floating_point() or len(y) != probs.shape[1]:
        return None
    if ((y < 0) | (y >= probs.shape[2]) | (y != y.long())).any():
        return None
    return probabilities(fit, len(y)), y.long().cpu()


def probabilities(fit: Fit, n: int) -> torch.Tensor:
    """The site `probs` on all n rows, shape (DRAWS, n, C), in bounded memory."""
    parts = [select_rows(fit, n, slice(i, i + CHUNK)).predict(DRAWS)["probs"].cpu() for i in range(0, n, CHUNK)]
    return torch.cat(parts, 1)


def scores(fit: Fit) -> pd.Series | None:
    """Accuracy, nll (nats per row), brier and ece of a classifier; the Series is named for its rows. Otherwise None."""
    there, rows = held_out(fit)
    found = classes(there)
    return None if found is None else metrics.classification(*found).rename(f"{len(found[1]):,} {rows} rows")


def image_argument(fit: Fit, n: int) -> int | None:
    """Index of the only argument that holds n images with pixels from 0 to 1; otherwise None."""
    found = [
        i
        for i, v in enumerate(fit.data)
        if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim() > 1 and len(v) == n
        if is_image(v.shape[1:]) and v.min() >= 0 and v.max() <= 1
    ]
    return found[0] if len(found) == 1 else None


def image_site(fit: Fit) -> tuple[str, torch.Tensor] | None:
    """The observed site and its value, shape (N, *image), if each row is an image with its own latents; else None."""
    trace = model_trace(fit)
    sites, latents = list(observed(trace).items()), latent(trace).values()
    if len(sites) != 1 or not latents:
        return None
    name, site = sites[0]
    local = len(site["fn"].batch_shape) == 1 and all(plates(z) == plates(site) for z in latents)
    return (name, site["value"]) if local and plates(site) and is_image(site["fn"].event_shape) else None


def labels(fit: Fit) -> torch.Tensor | None:
    """The classes of the rows of this fit, (N,), by `labels(*data)` of the model's file; None where it has none."""
    function = beside(fit.model, "labels")
    found = None if function is None else function(*fit.data)
    return found if found is None else found.cpu()


def prior_samples(fit: Fit, name: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Prior predictive samples of an observed site: its mean given latents drawn from the prior, and a draw."""
    with reading(fit.state, seed), torch.no_grad():
        site: Any = poutine.trace(poutine.uncondition(fit.model)).get_trace(*fit.data).nodes[name]
        return site["fn"].mean, site["value"]


def is_image(shape: torch.Size) -> bool:
    """Whether rows of this shape can be images: a square number of pixels, (H, W), or 1 or 3 channels of them."""
    if len(shape) == 1:
        return shape[0] >= LEAST and math.isqrt(shape[0]) ** 2 == shape[0]
    return shape[-2:].numel() >= LEAST and (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3)))
