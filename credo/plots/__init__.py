"""Plots of a fit. Every function takes `ax=` (a matplotlib Axes; None makes a figure) and returns the Axes.

fits.py: losses, belief, intervals, predictive, lesson. classes.py: calibration and out-of-distribution detection of a
classifier. latents.py: finite latents, points in a plane. ranks.py: simulation-based calibration. pixels.py: images.
style.py: the colours.
"""

from credo.plots.classes import reliability, strangeness
from credo.plots.fits import belief, intervals, lesson, losses, predictive
from credo.plots.latents import masses, plane
from credo.plots.pixels import images
from credo.plots.ranks import ranks
from credo.plots.style import EXACT, FIT, POINTS, PRIOR

__all__ = [
    "EXACT",
    "FIT",
    "POINTS",
    "PRIOR",
    "belief",
    "images",
    "intervals",
    "lesson",
    "losses",
    "masses",
    "plane",
    "predictive",
    "ranks",
    "reliability",
    "strangeness",
]
