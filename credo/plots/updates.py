"""How the belief in one scalar changes as data come in."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from credo.inference.distributions.unwrap import unwrapped
from credo.plots.smooth import density
from credo.plots.style import FIT, PRIOR, axes, headline, plus_minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TALL = 0.86  # of the distance of two rows: the height of a density
POINTS, REACH = 401, 6.0  # of a curve; sds to each side of its mean
SHOWN = 3.5  # sds of a belief that the axis shows


def updates(beliefs: Mapping[str, Any], ax: "Axes | None" = None, *, name: str = "") -> "Axes":
    """The belief in one scalar at several stages, such as after 0, 10 and 1,000 rows: a row for each, the first on top.

    Each density has its own height, since a narrow one is far higher than a wide one; its mean ± sd stands beside it.
    The first, as a rule the prior, is grey; a dotted line marks the last mean. The headline compares the first sd with
    the last.

    beliefs: {label: a distribution of one real number, or draws of it, shape (S,)}, in order; at least two.
    ax: Axes to draw on; None makes a figure, as high as the rows need. name: of the scalar.
    Raises ValueError for fewer than two, for a distribution of a vector or of whole numbers, and for one without sd.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> beliefs = {"0 flips": torch.distributions.Beta(2.0, 2.0), "3 flips": torch.distributions.Beta(4.0, 3.0)}
    >>> ax = credo.plots.updates(beliefs, ax=Figure().subplots(), name="p")
    >>> " ".join(ax.get_title().split())
    'The sd of p falls from 0.22 to 0.17'
    """
    if len(beliefs) < 2:
        raise ValueError(f"beliefs: got {len(beliefs)}, wanted at least two stages, {{label: distribution or draws}}")
    found = {label: _curve(label, belief) for label, belief in beliefs.items()}
    ax = axes(ax, (6, 1.2 + 0.75 * len(found)))
    low = min(max(at[0], mean - SHOWN * sd) for at, _, mean, sd in found.values())
    high = max(min(at[-1], mean + SHOWN * sd) for at, _, mean, sd in found.values())
    for i, (at, height, _, _) in enumerate(found.values()):
        color = FIT if i else PRIOR
        ax.fill_between(at, -i, -i + TALL * height / height.max(), color=color, alpha=0.35, lw=0)
        ax.plot(at, -i + TALL * height / height.max(), color=color, lw=1.5)
        ax.axhline(-i, color=PRIOR, lw=0.5, zorder=0)
    *_, (_, _, last, sd) = found.values()
    ax.axvline(last, color=PRIOR, lw=0.8, ls=":", zorder=0)
    words = [f"{label}\n{plus_minus(mean, of)}" for label, (_, _, mean, of) in found.items()]
    ax.set_yticks(TALL / 3 - np.arange(len(found)), words)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(low, high), ylim=(-len(found) + 0.9, 1), xlabel=name)
    (_, _, _, first), *_ = found.values()
    falls = f"{'falls' if sd < first else 'grows'} from {first:.2g} to {sd:.2g}"
    stays = f"stays at {sd:.2g}"
    headline(ax, f"The sd of {name or 'the scalar'} {stays if f'{first:.2g}' == f'{sd:.2g}' else falls}")
    return ax


def _curve(label: str, belief: Any) -> tuple[np.ndarray, np.ndarray, float, float]:
    """(places, density there, mean, sd) of a distribution of one real number, or of draws."""
    wanted = "wanted the distribution of one real number, with an sd, or draws of shape (S,)"
    if isinstance(belief, torch.Tensor):
        values = belief.detach().double().cpu().numpy()
        if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all() or not values.std() > 0:
            raise ValueError(f"beliefs: {label}: got draws of shape {tuple(belief.shape)}, {wanted}")
        at = np.linspace(values.min() - values.std(), values.max() + values.std(), POINTS)
        return at, density(values, at), float(values.mean()), float(values.std())
    fn = unwrapped(belief) if hasattr(belief, "log_prob") else belief
    try:
        mean, sd = float(fn.mean.double()), float(fn.variance.double().sqrt())
        support = fn.support
    except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError):
        raise ValueError(f"beliefs: {label}: got {type(fn).__name__}, {wanted}") from None
    if getattr(support, "is_discrete", False) or not (np.isfinite(mean) and np.isfinite(sd) and sd > 0):
        raise ValueError(f"beliefs: {label}: got {type(fn).__name__}, {wanted}")
    low = max(mean - REACH * sd, float(getattr(support, "lower_bound", -np.inf)))
    high = min(mean + REACH * sd, float(getattr(support, "upper_bound", np.inf)))
    inside = torch.linspace(low, high, POINTS + 2, dtype=torch.float64)[1:-1]  # a density may be infinite at a bound
    height = fn.log_prob(inside.to(fn.mean.dtype)).double().exp()
    return inside.numpy(), height.detach().numpy(), mean, sd
