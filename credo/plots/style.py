"""The colours that all plots share, and a new Axes where the caller gave none."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PRIOR, FIT, EXACT, POINTS = "0.6", "#1f6fb2", "black", ("#d1495b", "#edae49", "#66a182")


def axes(ax: "Axes | None") -> "Axes":
    """The Axes that the caller gave, or the Axes of a new figure."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(6, 4), layout="constrained")[1]
