"""The density that chains walk on: as written, and recorded once for all chains at a time."""

from collections.abc import Callable

import torch

from ..capture.record import NotCaptured, record
from ..gaussian.density import Density, agree
from ..runtime.generators import noise

CHECKS = 20  # draws at which a recorded density is compared with the model
Scores = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # us (C, D) -> (log p (C,), gradients (C, D))


def recorded(density: Density, chains: int) -> Scores | None:
    """`density.at_each` at so many points, recorded as a graph that runs without the model's Python; None if that
    cannot be done.

    Where the graph gives NaN, because a matrix of one of the points has no Cholesky factor, the model itself is run.
    """
    batched = density.vectorised and chains <= density.chunk
    us = density.first.expand(chains if batched else 1, -1).clone()
    try:
        graph = record(lambda: list(density.at_each(us) if batched else density.at(us[0])), [us])
    except NotCaptured:
        return None

    def replayed(us: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if batched:
            values, gradients = graph.run(us, *graph.constants)[:2]
        else:
            found = [graph.run(u[None], *graph.constants)[:2] for u in us]
            values, gradients = (torch.stack(list(each)) for each in zip(*found, strict=True))
        return density.at_each(us) if values.isnan().any() else (values, gradients)

    return replayed


def agrees(density: Density, scores: Scores, points: torch.Tensor, chains: int) -> bool:
    """Whether recorded scores of so many points at a time equal the model's at points (n, D), for several states of
    the random generators.
    """
    for i, some in enumerate(points.split(chains)):
        with noise(i):
            values, gradients = scores(torch.cat([some, some[:1].expand(chains - len(some), -1)]))
            for k, u in enumerate(some):
                value, gradient = density.at_each(u[None])  # of one point: by the model's own Python
                if not agree((values[k], gradients[k]), (value[0], gradient[0])):
                    return False
    return True
