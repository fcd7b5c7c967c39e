"""Plots of a fit. Every function takes `ax=` (a matplotlib Axes; None makes a figure) and returns the Axes.

Most set the title of the Axes to a headline, which says what the picture shows and is computed from what is drawn;
`ax.set_title` replaces it.

`pairs`, `chains` and `treatments` have several axes: they take `figure=` and return the Figure (in a notebook, end the
line with `;`, or it is shown twice).

training.py: losses. scalars.py: a forest of intervals. fits.py: belief, intervals, lesson. joint.py: pairs, chains.
regression.py: predictive. checks.py: posterior predictive check, PIT, coverage. classes.py: calibration and
out-of-distribution detection of a classifier. latents.py: finite latents, points in a plane. ranks.py:
simulation-based calibration. pixels.py: images. observations.py: the data of a fit. smooth.py: kernel
densities. style.py: colours, sizes, headlines, names. updates.py: belief as data come in.
treatments.py: a table of treatments of one network.
"""

from credo.plots.checks import coverage, pit, ppc
from credo.plots.classes import reliability, strangeness
from credo.plots.fits import belief, intervals, lesson
from credo.plots.joint import chains, pairs
from credo.plots.latents import masses, plane
from credo.plots.pixels import images
from credo.plots.ranks import ranks
from credo.plots.regression import predictive
from credo.plots.scalars import forest
from credo.plots.style import EXACT, FIT, POINTS, PRIOR
from credo.plots.training import losses
from credo.plots.treatments import treatments
from credo.plots.updates import updates

__all__ = [
    "EXACT",
    "FIT",
    "POINTS",
    "PRIOR",
    "belief",
    "chains",
    "coverage",
    "forest",
    "images",
    "intervals",
    "lesson",
    "losses",
    "masses",
    "pairs",
    "pit",
    "plane",
    "ppc",
    "predictive",
    "ranks",
    "reliability",
    "strangeness",
    "treatments",
    "updates",
]
