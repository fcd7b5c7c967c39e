"""What becomes of the draws of a prediction, piece by piece: all of them, their mean, or what a function makes of them.

A piece holds some draws of the rows of one batch. Sites without rows are the same in every batch: the first has them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from ..runtime.vectorise import Differing

Values = dict[str, torch.Tensor]
Reduce = Callable[[torch.Tensor], Any]


class Place(NamedTuple):
    """Where the draws of a batch belong."""

    rows: slice
    n: int  # rows in all batches
    dims: Mapping[str, int]  # {site: the dimension of its value that holds the rows}; empty for a single batch


class Whole:
    """All draws, {site: (n, *shape of the site)}, each tensor made once."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.result: Values = {}

    def add(self, piece: Values, begin: int, place: Place) -> None:
        """The draws from number `begin` on, of the rows of a batch."""
        if place.rows.start == 0 and begin == 0:
            self.result = {name: _room(self.n, name, value, place) for name, value in piece.items()}
        _refuse_other_sites(piece, self.result)
        for target, value in _targets(self.result, piece, place, 1):
            target[begin : begin + len(value)] = value

    def end_batch(self, place: Place) -> None:
        """Nothing: the draws are in their place."""


class Mean:
    """The mean of the draws, {site: shape of the site}, summed in double precision."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.sums: Values = {}
        self.dtypes: dict[str, torch.dtype] = {}

    def add(self, piece: Values, begin: int, place: Place) -> None:
        """The draws from number `begin` on, of the rows of a batch."""
        if place.rows.start == 0 and begin == 0:
            default = torch.get_default_dtype()
            self.dtypes = {k: v.dtype if v.is_floating_point() or v.is_complex() else default for k, v in piece.items()}
            self.sums = {name: _room(1, name, _summed(value), place)[0].zero_() for name, value in piece.items()}
        _refuse_other_sites(piece, self.sums)
        for target, value in _targets(self.sums, piece, place, 0):
            target += _summed(value)[0]

    def end_batch(self, place: Place) -> None:
        """Nothing: the sums are in their place."""

    @property
    def result(self) -> Values:
        """{site: the mean, in the precision of its draws}."""
        return {name: (total / self.n).to(self.dtypes[name]) for name, total in self.sums.items()}


class Reduced:
    """What a function makes of the draws of each batch, its rows one after another.

    The function gets the draws of a site at the rows of a batch, (n, rows, ...), and returns a tensor that begins with
    the rows. For a site without rows it returns a tensor of any shape.
    """

    def __init__(self, n: int, reduce: Reduce) -> None:
        self.n, self.reduce = n, reduce
        self.batch = Whole(n)
        self.parts: dict[str, list[torch.Tensor]] = {}

    def add(self, piece: Values, begin: int, place: Place) -> None:
        """The draws from number `begin` on, of the rows of a batch."""
        self.batch.add(piece, begin, _alone(place))

    def end_batch(self, place: Place) -> None:
        """Reduces the draws of the batch."""
        for name, draws in self.batch.result.items():
            if name in place.dims:
                draws = draws.movedim(1 + place.dims[name], 1)
                self.parts.setdefault(name, []).append(self._reduced(name, draws, draws.shape[1]))
            elif place.rows.start == 0:
                self.parts[name] = [self._reduced(name, draws, None)]
        self.batch = Whole(self.n)

    @property
    def result(self) -> Values:
        """{site: what the function returned}."""
        return {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in self.parts.items()}

    def _reduced(self, name: str, draws: torch.Tensor, rows: int | None) -> torch.Tensor:
        shape = f"site {name!r}: reduce got draws of shape {tuple(draws.shape)}"
        try:
            found = self.reduce(draws)
        except Exception as error:  # of the user's function
            raise ValueError(f"{shape} and raised {type(error).__name__}: {error}".split("\n")[0]) from error
        if isinstance(found, np.ndarray | np.generic | float | int):
            found = torch.as_tensor(found)
        if not isinstance(found, torch.Tensor):
            raise ValueError(f"{shape} and returned a {type(found).__name__}; wanted a tensor")
        if rows is not None and (found.dim() == 0 or len(found) != rows):
            raise ValueError(
                f"{shape} and returned shape {tuple(found.shape)}; wanted {rows} rows first: reduce the draws, "
                f"dimension 0, as in reduce=lambda draws: draws.std(0)"
            )
        return found


def _alone(place: Place) -> Place:
    """The place of a batch in a result of its own."""
    length = place.rows.stop - place.rows.start
    return Place(slice(0, length), length, {})


def _room(n: int, name: str, value: torch.Tensor, place: Place) -> torch.Tensor:
    """An empty tensor for n draws at the rows of all batches. value: (draws, *shape of the site in a batch)."""
    shape = list(value.shape[1:])
    if name in place.dims:
        shape[place.dims[name]] = place.n
    return value.new_empty((n, *shape))


def _targets(result: Values, piece: Values, place: Place, leading: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(The part of its result that belongs to the rows of the batch, its draws). leading: dimensions of draws."""
    found = []
    for name, value in piece.items():
        if name in place.dims:
            length = place.rows.stop - place.rows.start
            target = result[name].narrow(leading + place.dims[name], place.rows.start, length)
            found.append((target, value))
        elif place.rows.start == 0:
            found.append((result[name], value))
    return found


def _summed(value: torch.Tensor) -> torch.Tensor:
    return value.sum(0, keepdim=True, dtype=torch.complex128 if value.is_complex() else torch.float64)


def _refuse_other_sites(piece: Values, known: Values) -> None:
    if piece.keys() != known.keys():
        raise Differing("the program has other sites in one run than in another: they exist for some draws only")
