"""The colours that every picture shares, and an Axes where none was given."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PRIOR, FIT, EXACT, POINTS = "0.6", "#1f6fb2", "black", ("#d1495b", "#edae49", "#66a182")


def axes(ax: "Axes | None") -> "Axes":
    """The Axes that was given, or the only one of a new figure."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(6, 4), layout="constrained")[1]
