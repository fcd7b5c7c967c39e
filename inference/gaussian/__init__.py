"""Gaussian posteriors in unconstrained space, without Adam, on the log joint density of a model and its gradient.

Files, in the order in which to read them:

    requirements.py  which models have one density in unconstrained space
    density.py       the log joint density of a model and its gradient, at one point or many

Other rooms call: `prepared`, `Density`.
"""
