"""A transition of the No-U-Turn sampler, in coordinates where the posterior is about standard normal.

    H = -log p(data, u) + |r|^2 / 2,   r ~ N(0, I),   du/dt = F r,   dr/dt = F^T g,   g = d log p(data, u) / du

The mass matrix is (F F^T)^-1. A trajectory doubles until it turns back; the next u is drawn from its points by their
weights exp(-H), the later half preferred. A function here does not know the density: it yields a point u (D,) and is
sent (log p(data, u), g) back, so that several chains can ask for their gradients together. Source: Hoffman and Gelman
2014; Betancourt 2017, appendix A, for the weights and the criterion; Stan 2.21 for the criterion across subtrees.
"""

import math
from collections.abc import Generator
from typing import NamedTuple

import numpy as np

DEEPEST = 10  # doublings: 1,023 steps
DIVERGENT = 1000.0  # rise of H in nats that no exact trajectory has
Array = np.ndarray
Factor = np.ndarray  # F (D, D), or its diagonal (D,)
Scored = tuple[float, Array]  # (log p(data, u), nats; its gradient (D,))


class Place(NamedTuple):
    """A point of the posterior."""

    u: Array  # (D,)
    value: float  # log p(data, u), nats
    gradient: Array  # (D,)


class Phase(NamedTuple):
    """A point of a trajectory."""

    place: Place
    momentum: Array  # r (D,)
    force: Array  # F^T g (D,)


class Tree(NamedTuple):
    """A trajectory, or a part of it."""

    left: Phase  # the earliest point in time
    right: Phase
    proposal: Place
    log_weight: float  # of all its points, -H relative to the start
    momenta: Array  # their sum (D,)
    turned: bool
    diverged: bool
    accepted: float  # sum of min(1, exp(-(H - H_0)))
    steps: int


class Transition(NamedTuple):
    """The next point of a chain."""

    place: Place
    accepted: float  # mean acceptance probability
    diverged: bool
    steps: int
    energy: float  # H of the trajectory, nats


def transition(
    place: Place, F: Factor, step: float, random: np.random.Generator, deepest: int = DEEPEST
) -> Generator[Array, Scored, Transition]:
    """Yields the points u whose (log p, gradient) it needs, and returns the next point."""
    r = random.standard_normal(len(place.u))
    start = Phase(place, r, _transposed(F, place.gradient))
    energy = _energy(start)
    tree = Tree(start, start, place, 0.0, r, False, False, 0.0, 0)
    accepted, steps, diverged = 0.0, 0, False
    for depth in range(deepest):
        forwards = random.random() < 0.5
        end = tree.right if forwards else tree.left
        more = yield from _grown(end, F, step if forwards else -step, depth, energy, random)
        accepted, steps, diverged = accepted + more.accepted, steps + more.steps, more.diverged
        if more.turned or more.diverged:
            break
        proposal = (
            more.proposal if -random.standard_exponential() < more.log_weight - tree.log_weight else tree.proposal
        )
        tree = _joined(tree, more, forwards)._replace(proposal=proposal)
        if tree.turned:
            break
    return Transition(tree.proposal, accepted / steps, diverged, steps, energy)


def reasonable_step(
    place: Place, F: Factor, step: float, random: np.random.Generator
) -> Generator[Array, Scored, float]:
    """The step that is doubled or halved until the acceptance probability of one step crosses 0.8 (algorithm 4)."""
    start = Phase(place, random.standard_normal(len(place.u)), _transposed(F, place.gradient))
    energy, way = _energy(start), 0
    for _ in range(100):
        end = yield from _leapfrog(start, F, step)
        good = energy - _energy(end) > math.log(0.8)
        if (way == -1 and good) or (way == 1 and not good):
            break
        way = 1 if good else -1
        step = step * 2.0**way
    return step


def _grown(
    end: Phase, F: Factor, step: float, depth: int, energy: float, random: np.random.Generator
) -> Generator[Array, Scored, Tree]:
    """The 2^depth points after `end`, fewer if they turn back or diverge. step: negative backwards in time."""
    if depth == 0:
        phase = yield from _leapfrog(end, F, step)
        weight = energy - _energy(phase)
        weight = weight if math.isfinite(weight) else -math.inf
        accepted = math.exp(min(0.0, weight))
        return Tree(phase, phase, phase.place, weight, phase.momentum, False, weight < -DIVERGENT, accepted, 1)
    first = yield from _grown(end, F, step, depth - 1, energy, random)
    if first.turned or first.diverged:
        return first
    second = yield from _grown(first.right if step > 0 else first.left, F, step, depth - 1, energy, random)
    both = _joined(first, second, step > 0)
    if second.turned or second.diverged:
        return both._replace(turned=second.turned, diverged=second.diverged)
    chosen = second if -random.standard_exponential() < second.log_weight - both.log_weight else first
    return both._replace(proposal=chosen.proposal)


def _joined(one: Tree, two: Tree, forwards: bool) -> Tree:
    """The trajectory of both; the proposal is that of `one`. forwards: whether `two` is the later one."""
    early, late = (one, two) if forwards else (two, one)
    momenta = early.momenta + late.momenta
    turned = (
        _turns(early.left, late.right, momenta)
        or _turns(early.left, late.left, early.momenta + late.left.momentum)
        or _turns(early.right, late.right, late.momenta + early.right.momentum)
    )
    weight = float(np.logaddexp(one.log_weight, two.log_weight))
    accepted, steps = one.accepted + two.accepted, one.steps + two.steps
    return Tree(early.left, late.right, one.proposal, weight, momenta, turned, False, accepted, steps)


def _turns(left: Phase, right: Phase, momenta: Array) -> bool:
    """Whether one of the ends no longer moves away from the other."""
    return bool(left.momentum @ momenta <= 0 or right.momentum @ momenta <= 0)


def _leapfrog(phase: Phase, F: Factor, step: float) -> Generator[Array, Scored, Phase]:
    half = phase.momentum + step / 2 * phase.force
    u = phase.place.u + step * (F @ half if F.ndim == 2 else F * half)
    value, gradient = yield u
    force = _transposed(F, gradient)
    return Phase(Place(u, value, gradient), half + step / 2 * force, force)


def _transposed(F: Factor, gradient: Array) -> Array:
    return gradient @ F if F.ndim == 2 else gradient * F


def _energy(phase: Phase) -> float:
    energy = float(phase.momentum @ phase.momentum) / 2 - phase.place.value
    return energy if math.isfinite(energy) else math.inf
