"""Plots of latents that are not real scalars: finite latents, and points in a plane."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from credo.plots.pixels import pixels
from credo.plots.style import EXACT, FIT, PRIOR, SMALL, axes, headline, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


FEW = 2000  # points, each of which looks for its nearest neighbour


def masses(
    q: torch.Tensor,
    exact: torch.Tensor | None = None,
    prior: torch.Tensor | None = None,
    labels: Sequence[Any] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Bar chart of a finite latent: the probability of each of K values under prior, fit and exact posterior.

    q, exact, prior: shape (K,), probabilities. labels: K names of the values; None numbers them from 0.
    ax: Axes to draw on; None makes a figure. Raises ValueError where the shapes differ.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> ax = credo.plots.masses(torch.tensor([0.2, 0.8]), prior=torch.tensor([0.5, 0.5]), ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['prior', 'fit']
    """
    shown = {
        label: (torch.as_tensor(p).detach().double().cpu(), color)
        for label, p, color in (("prior", prior, PRIOR), ("fit", q, FIT), ("exact", exact, EXACT))
        if p is not None
    }
    for label, (p, _) in shown.items():
        if p.dim() != 1 or len(p) != len(q):
            raise ValueError(f"{label}: got shape {tuple(p.shape)}, wanted ({len(q)},), a probability for each value")
    if labels is not None and len(labels) != len(q):
        raise ValueError(f"labels: got {len(labels)}, wanted {len(q)}: one for each value")
    ax = axes(ax)
    places, width = np.arange(len(q)), 0.8 / len(shown)
    for i, (label, (p, color)) in enumerate(shown.items()):
        shift = (i - (len(shown) - 1) / 2) * width
        alpha = 0.5 if label == "prior" else 0.9
        ax.bar(places + shift, p.numpy(), 0.92 * width, color=color, alpha=alpha, label=label)
    ax.set_xticks(places, [str(v) for v in (places if labels is None else labels)])
    ax.set(ylabel="probability", ylim=(0, None))
    most = int(shown["fit"][0].argmax())
    names = range(len(q)) if labels is None else labels
    words = f"The most probable value is {names[most]}: {shown['fit'][0][most]:.2f}"
    if "exact" in shown:
        p = shown["exact"][0]
        words += f" by the fit, {p[most]:.2f} exactly"
        if p[most] < p.max() - 0.005:  # as the numbers are rounded
            best = int(p.argmax())
            words = f"The most probable value is {names[most]} by the fit, {names[best]} by the exact posterior"
    headline(ax, words)
    legend(ax)
    return ax


def plane(
    z: torch.Tensor, labels: torch.Tensor | None = None, ax: "Axes | None" = None, *, images: torch.Tensor | None = None
) -> "Axes":
    """Scatter plot of two-dimensional latents, coloured by label, or with an image at each point.

    The text of a label stands at the median of its points. The headline says how many points lie next to a point of
    their own label, and how many would by chance.

    z: shape (N, 2), for example latent means. labels: shape (N,), at most 10 different labels. images: N images, in a
        shape that `credo.plots.images` takes, each drawn at its point. ax: Axes to draw on; None makes a figure.
    Raises ValueError for another shape, and for more than 10 labels.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> ax = credo.plots.plane(torch.rand(20, 2), torch.arange(20) % 2, ax=Figure().subplots())
    >>> [line.get_label() for line in ax.lines]
    ['0', '1']
    """
    if z.dim() != 2 or z.shape[1] != 2 or not len(z):
        raise ValueError(f"z: got shape {tuple(z.shape)}, wanted (N, 2): project it first, or pick two columns")
    for name, others in (("labels", labels), ("images", images)):
        if others is not None and len(others) != len(z):
            raise ValueError(f"{name}: got {len(others)}, wanted {len(z)}: one for each row of z")
    z = z.detach().double().cpu()
    ax = axes(ax)
    if images is not None:
        _thumbnails(ax, z, pixels(images))
    elif labels is None:
        ax.plot(z[:, 0], z[:, 1], ".", color=FIT, ms=4, alpha=0.6)
    else:
        labels = labels.cpu()
        values = labels.unique()
        if len(values) > 10:
            raise ValueError(f"labels: got {len(values)} different labels, wanted at most 10, one for each colour")
        for i, value in enumerate(values):
            points = z[labels == value]
            ax.plot(points[:, 0], points[:, 1], ".", color=f"C{i}", ms=4, alpha=0.6, label=str(value.item()))
            x, y = points.median(0).values.tolist()
            box = {"boxstyle": "circle,pad=0.25", "fc": "white", "ec": f"C{i}", "alpha": 0.9}
            ax.text(x, y, str(value.item()), ha="center", va="center", fontsize=SMALL, bbox=box)
        if len(values) > 1:
            headline(ax, _neighbours(z, labels))
    ax.set_aspect("equal", adjustable="datalim" if images is None else "box")
    ax.set(xlabel="first coordinate", ylabel="second coordinate")
    return ax


def _neighbours(z: torch.Tensor, labels: torch.Tensor) -> str:
    """How many of (at most FEW) points have the label of their nearest neighbour, and how many would by chance."""
    z, labels = z[:FEW], labels[:FEW]
    distances = torch.cdist(z, z).fill_diagonal_(torch.inf)
    same = (labels[distances.argmin(1)] == labels).double().mean().item()
    shares = labels.unique(return_counts=True)[1] / len(labels)
    chance = shares.square().sum().item()
    return f"{100 * same:.0f} % lie next to one of their own label; by chance {100 * chance:.0f} %"


def _thumbnails(ax: "Axes", z: torch.Tensor, pictures: torch.Tensor) -> None:
    half = 0.022 * (z.max(0).values - z.min(0).values).max().item() or 0.5
    high = max(1.0, pictures.max().item())
    for (x, y), picture in zip(z.tolist(), pictures, strict=True):
        where = (x - half, x + half, y - half, y + half)
        # White is transparent, so that an image does not hide its neighbours.
        ink = (picture if picture.dim() == 2 else 1 - picture.mean(-1)).clamp(0, high) / high
        ax.imshow(
            picture.numpy(), cmap="gray_r", vmin=0, vmax=high, alpha=ink.numpy(), extent=where, interpolation="nearest"
        )
    ax.set(xlim=_limits(z[:, 0], 2 * half), ylim=_limits(z[:, 1], 2 * half))


def _limits(values: torch.Tensor, pad: float) -> tuple[float, float]:
    return values.min().item() - pad, values.max().item() + pad
