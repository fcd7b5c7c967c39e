"""Rows of a minibatch that look at each other: what a row costs must not depend on which others came with it.

A model may centre its inputs, or its network may hold batch norm: then the mean over batches is not the whole.
"""

import torch

from .costs import Pair, run
from .looks import alike, elsewhere, without_dropout
from .scope import noise


def refuse_coupled_rows(one: Pair, two: Pair, plates: frozenset[str], size: int) -> None:
    """Raises ValueError naming a site. one, two: batches of `size` rows that differ in their last row alone.

    plates: those over the rows. Looked at with one set of latents, where the parameters are and a little off.
    """
    for off in (0.0, 0.1):
        with torch.no_grad(), elsewhere(off), without_dropout(tuple(one)):
            with noise(0):
                held = run(one).z
            with noise(0):
                found = run(one, held)
            with noise(0):
                others = run(two, held).costs
        for (side, name), cost in found.costs.items():
            dims = [d for d, length in enumerate(cost.shape) if length == size]
            if not found.plates[side, name] & plates or not dims:
                continue
            if not any(alike(cost.narrow(d, 0, size - 1), others[side, name].narrow(d, 0, size - 1)) for d in dims):
                raise ValueError(
                    f"batch_size: site {name!r}: the density of a row depends on the other rows of its batch, so a "
                    f"batch is no estimate of the whole; prepare the data beforehand (x - x.mean()), take LayerNorm "
                    f"for batch norm, or leave out batch_size"
                )
