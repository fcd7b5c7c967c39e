"""Adaptation during the warm-up: the step size of each chain, and the mass matrix that all chains share.

    log step_t+1 = m - t^(1/2) / .05 mean_s(delta - a_s)     a_s: acceptance probabilities; delta: the one wanted
    F <- F S^(1/2),   S = (n cov(F^-1 u) + k I) / (n + k)    n draws of all chains, each about its own mean

The mass matrix (F F^T)^-1 starts at that of the fitted normal and is mended in its coordinates: few draws do not spoil
a normal that is right. Source: Hoffman and Gelman 2014, section 3.2 (dual averaging); Stan's windows, which double.
"""

import math
from typing import NamedTuple

import numpy as np

from .nuts import Factor

FIRST, LAST, WINDOW = 0.15, 0.1, 0.05  # shares of the warm-up: before the first window, after the last, of the first
DENSE = 100  # latents up to which correlations are mended, beyond the sds alone
PRIOR = 5  # draws that the mass matrix so far is worth, or as many as there are latents
GAMMA, DELAY, FORGET = 0.05, 10, 0.75  # of dual averaging


class Window(NamedTuple):
    """A part of the warm-up."""

    transitions: int
    mends: bool  # whether its draws mend the mass matrix


class Step(NamedTuple):
    """The step size during its adaptation."""

    centre: float  # m
    log: float  # the log of the step of the next transition
    average: float  # of the logs, later ones count more: the step after the adaptation
    error: float  # mean of delta - a_s
    t: int


def windows(warmup: int) -> list[Window]:
    """The parts of a warm-up of so many transitions."""
    first, last, size = round(FIRST * warmup), round(LAST * warmup), max(1, round(WINDOW * warmup))
    found, left = [Window(first, False)], warmup - first - last
    while left:
        now = size if left >= 3 * size else left  # the next window of twice the size must fit in
        found.append(Window(now, True))
        left, size = left - now, 2 * size
    return [*found, Window(last, False)]


def begun(step: float) -> Step:
    """Dual averaging from a first step: it tries longer ones."""
    return Step(math.log(10 * step), math.log(step), 0.0, 0.0, 0)


def adapted(step: Step, accepted: float, target: float) -> Step:
    """The step after a transition with this mean acceptance probability."""
    t = step.t + 1
    error = step.error + (target - accepted - step.error) / (t + DELAY)
    log = step.centre - math.sqrt(t) / GAMMA * error
    return Step(step.centre, log, step.average + t**-FORGET * (log - step.average), error, t)


def mended(F: Factor, draws: np.ndarray) -> Factor:
    """The factor of the mass matrix after a window. draws: u, (chains, n, D)."""
    chains, n, D = draws.shape
    apart = (draws - draws.mean(1, keepdims=True)).reshape(-1, D)
    e = np.linalg.solve(F, apart.T).T if F.ndim == 2 else apart / F
    count, prior = chains * (n - 1), max(PRIOR, D)
    if F.ndim == 2 and D <= DENSE:
        S = (e.T @ e + prior * np.eye(D)) / (count + prior)
        return F @ np.linalg.cholesky(S) if np.isfinite(S).all() else F
    sds = np.sqrt((np.square(e).sum(0) + PRIOR) / (count + PRIOR))
    return F * sds if np.isfinite(sds).all() else F
