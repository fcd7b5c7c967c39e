"""A grid of images in one Axes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from credo.plots.style import SMALL, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 0.08  # between two images, in widths of one
LINE = 0.28  # height of a line of text, in widths of an image
LETTERS = 6  # of a title that fits above one of ten images


def images(
    x: torch.Tensor,
    titles: Sequence[str] | None = None,
    columns: int = 10,
    shape: tuple[int, int] | None = None,
    ax: "Axes | None" = None,
    *,
    rows: Sequence[str] | None = None,
    below: Sequence[str] | None = None,
) -> "Axes":
    """A grid of images, row by row: 0 is white and 1 is black.

    x: shape (N, D) with D a square number unless shape=(height, width) is given, (N, H, W), or (N, 3, H, W) in colour.
        If values lie outside of 0 to 1, white is the smallest value and black the largest.
    titles, below: N texts, one above or below each image. columns: images in a row of the grid. shape: (height, width)
        in pixels.
    ax: Axes to draw on; None makes a figure. rows: texts, one to the left of each row of the grid.
    Raises ValueError for another shape, for no image, and for too few or too many texts.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> ax = credo.plots.images(torch.rand(5, 16), columns=3, ax=Figure().subplots())
    >>> len(ax.images), ax.images[0].get_array().shape
    (5, (4, 4))
    """
    pictures = pixels(x, shape)
    n, height, width = pictures.shape[:3]
    if columns < 1:
        raise ValueError(f"columns: got {columns}, wanted at least one")
    lines = math.ceil(n / columns)
    for name, labels, wanted in (("titles", titles, n), ("rows", rows, lines), ("below", below, n)):
        if labels is not None and len(labels) != wanted:
            raise ValueError(f"{name}: got {len(labels)} for {wanted}: {n} images in {columns} columns")
    ax = axes(ax)
    low, high = min(0.0, pictures.min().item()), max(1.0, pictures.max().item())
    if low < 0 or high > 1:
        low, high = pictures.min().item(), pictures.max().item()
    tall = height / width
    longest = max(len(line) for text in (*(titles or ()), *(below or ()), "") for line in text.split("\n"))
    size = SMALL if longest <= LETTERS else "x-small"
    above, under = (_height(texts) for texts in (titles, below))
    pitch = tall + GAP + above + under
    for i, picture in enumerate(pictures):
        left, top = (i % columns) * (1 + GAP), -(i // columns) * pitch
        if picture.dim() == 3:
            picture = (picture - low) / (high - low)
        where = (left, left + 1, top - tall, top)
        ax.imshow(picture.numpy(), cmap="gray_r", vmin=low, vmax=high, extent=where, interpolation="nearest")
        ax.plot([left, left + 1, left + 1, left, left], [top, top, top - tall, top - tall, top], color="0.88", lw=0.6)
        if titles is not None:
            ax.text(left + 0.5, top + 0.04, titles[i], ha="center", va="bottom", fontsize=size)
        if below is not None:
            ax.text(left + 0.5, top - tall - 0.04, below[i], ha="center", va="top", fontsize=size)
    for line, label in enumerate(rows or ()):
        ax.text(-0.15, -line * pitch - tall / 2, label, ha="right", va="center", fontsize=SMALL)
    wide = min(n, columns)
    ax.set(xlim=(-GAP, wide * (1 + GAP)), ylim=(-(lines - 1) * pitch - tall - GAP - under, GAP + above))
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def _height(texts: Sequence[str] | None) -> float:
    """Room for texts above or below images, in widths of one."""
    return 0.0 if texts is None else LINE * max(text.count("\n") + 1 for text in texts)


def pixels(x: torch.Tensor, shape: tuple[int, int] | None = None) -> torch.Tensor:
    """The images as shape (N, H, W), or (N, H, W, 3) in colour, on the CPU; arguments and errors as for `images`."""
    got = f"got shape {tuple(x.shape)}"
    if x.dim() not in (2, 3, 4) or not x.numel():
        raise ValueError(f"x: {got}, wanted images (N, D), (N, H, W) or (N, 3, H, W), at least one")
    x = x.detach().float().cpu()
    if x.dim() == 4:
        if x.shape[1] not in (1, 3):
            raise ValueError(f"x: {got}, wanted 1 or 3 channels in dimension 1")
        return x[:, 0] if x.shape[1] == 1 else x.permute(0, 2, 3, 1)
    if x.dim() == 3:
        return x
    side = math.isqrt(x.shape[1])
    height, width = shape or (side, side)
    if height * width != x.shape[1]:
        raise ValueError(f"x: {got}, which is not a square number of pixels; pass shape=(height, width)")
    return x.reshape(-1, height, width)
