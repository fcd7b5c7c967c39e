"""Pictures of a fit. Every function takes `ax=` (a matplotlib Axes; None makes one) and returns it.

fits.py: losses, belief, intervals, predictive, lesson. classes.py: what a classifier is worth. latents.py: finite
latents, planes. pixels.py: images. style.py: the colours.
"""

from credo.plots.classes import reliability, strangeness
from credo.plots.fits import belief, intervals, lesson, losses, predictive
from credo.plots.latents import masses, plane
from credo.plots.pixels import images
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
    "reliability",
    "strangeness",
]
