"""Several chains of the No-U-Turn sampler at a time: their gradients are taken together.

A chain is a generator: it yields the point whose density it needs and is sent the density. No chain waits for the
trajectory of another one to end, only for the gradients.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .adaptation import Window, adapted, begun, mended, windows
from .nuts import DEEPEST, Array, Factor, Place, Scored, reasonable_step, transition
from .potential import Scores
from .starts import Starts

SHALLOW = 5  # doublings of a trajectory during a warm-up that starts at a fitted normal, at most: 31 steps
Walk = Generator[Array, Scored, None]
Move = tuple[float, bool, int, float]  # acceptance probability, whether it diverged, its steps, its energy in nats


@dataclass
class Chain:
    """A chain on its way."""

    place: Place
    random: np.random.Generator
    step: float = 1.0
    kept: list[Array] = field(default_factory=list)  # the points since the last window
    moves: list[Move] = field(default_factory=list)  # how it came to these points
    divergences: int = 0  # since the last window


def begin(starts: Starts, scores: Scores, seed: int) -> list[Chain]:
    """Chains at their starting points."""
    scored = _scorer(scores, starts.us)
    points = starts.us.double().cpu().numpy()
    return [
        Chain(Place(u, *at), np.random.default_rng((seed, c)))
        for c, (u, at) in enumerate(zip(points, scored(points), strict=True))
    ]


def warm_up(
    chains: list[Chain], starts: Starts, scores: Scores, warmup: int, accept: float, tell: Callable[[], None]
) -> Factor:
    """Adapts the step sizes of the chains, and returns the factor of their mass matrix. tell: after each transition.

    The chains keep the draws of the last window.
    """
    F: Factor = starts.factor.double().cpu().numpy()
    fresh = True
    for window in windows(warmup):
        for chain in chains:
            chain.kept, chain.moves, chain.divergences = [], [], 0
        together([_warming(chain, F, window, accept, fresh, tell) for chain in chains], scores, starts.us)
        shared = float(np.exp(np.mean([np.log(chain.step) for chain in chains])))
        for chain in chains:
            chain.step = shared
        if fresh := window.mends:
            F = mended(F, np.stack([np.stack(chain.kept) for chain in chains]))
    return F


def sampling(chain: Chain, F: Factor, n: int, tell: Callable[[], None]) -> Walk:
    """The next n transitions of a chain with a step size that stays."""
    for _ in range(n):
        yield from _moved(chain, F, chain.step, DEEPEST)
        tell()


def together(walks: Sequence[Walk], scores: Scores, like: torch.Tensor) -> None:
    """Runs the walks to their ends, their densities taken together. like: a tensor on the device of the density."""
    scored = _scorer(scores, like)
    asked = {i: next(walk) for i, walk in enumerate(walks)}
    points = np.stack([asked[i] for i in range(len(walks))])
    with np.errstate(all="ignore"):  # a trajectory that diverges overflows
        while asked:
            for i, at in enumerate(scored(points)):
                if i in asked:
                    try:
                        points[i] = asked[i] = walks[i].send(at)
                    except StopIteration:
                        del asked[i]


def _warming(chain: Chain, F: Factor, window: Window, accept: float, fresh: bool, tell: Callable[[], None]) -> Walk:
    """The transitions of a window. fresh: whether the mass matrix is new to the step size."""
    if fresh:
        chain.step = yield from reasonable_step(chain.place, F, chain.step, chain.random)
    step, deepest = begun(chain.step), SHALLOW if F.ndim == 2 else DEEPEST
    for _ in range(window.transitions):
        accepted = yield from _moved(chain, F, np.exp(step.log), deepest)
        step = adapted(step, accepted, accept)
        tell()
    chain.step = float(np.exp(step.average))


def _moved(chain: Chain, F: Factor, step: float, deepest: int) -> Generator[Array, Scored, float]:
    """One transition of a chain; returns its acceptance probability."""
    found = yield from transition(chain.place, F, step, chain.random, deepest)
    chain.place, chain.divergences = found.place, chain.divergences + found.diverged
    chain.moves.append((found.accepted, found.diverged, found.steps, found.energy))
    chain.kept.append(found.place.u)
    return found.accepted


def _scorer(scores: Scores, like: torch.Tensor) -> Callable[[Array], list[Scored]]:
    def scored(points: Array) -> list[Scored]:
        values, gradients = scores(torch.tensor(points, dtype=like.dtype, device=like.device))
        return list(zip(values.tolist(), gradients.double().cpu().numpy(), strict=True))

    return scored
