"""Minibatches: some rows of the data at a time, scaled to the whole.

    -ELBO = E_q[log q(z) - log p(z) - (N / B) sum_{n in batch} log p(x_n | z)]   for B rows at random

The user's model has a plate over the rows it is given, of whatever number (`pyro.plate("N", len(x))`). Which plates
those are is found by running the pair on batches of two sizes: the plates whose size follows. Their sites, latent or
observed, in the model and in the guide, count N / B times (Hoffman et al. 2013, eq. 28). Whatever stands outside them
must not depend on which rows came: that is looked at too, since it would be silently wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from .costs import DATA, GUIDE, Pair, run
from .coupling import refuse_coupled_rows
from .looks import elsewhere
from .marginal import refuse_shared
from .preflight import check
from .scope import noise, unconstrained
from .sites import drawn


class Rows(NamedTuple):
    """What of the data goes by rows. arguments: which; n: rows in all; size: of a batch; plates: over the rows."""

    arguments: tuple[int, ...]
    n: int
    size: int
    plates: frozenset[str]


def batch(pair: Pair, rows: Rows, index: torch.Tensor) -> Pair:
    """The pair on the rows of this index, shape (B,), their sites scaled by N / B."""
    n = len(pair.data[rows.arguments[0]])
    if n != rows.n:
        raise ValueError(f"batch_size: got {n} rows where the run began with {rows.n}; give all rows every time")
    data = tuple(v[index.to(v.device)] if position in rows.arguments else v for position, v in enumerate(pair.data))
    factor = rows.n / len(index)
    model, guide = (_scaled(program, rows.plates, factor) for program in (pair.model, pair.guide))
    return pair._replace(model=model, guide=guide, data=data)


@dataclass
class Shuffled:
    """Batches without end: an index of shape (B,) each. A row comes once an epoch, but for those that fill no batch."""

    rows: Rows
    epoch: list[torch.Tensor] = field(default_factory=list)  # what is left of it, the next at the end

    @property
    def left(self) -> int:
        """How many come before the rows are shuffled again."""
        return len(self.epoch)

    def stacked(self, first: torch.Tensor, count: int) -> torch.Tensor:
        """This batch and those that follow it, shape (count, B)."""
        return torch.stack([first, *(next(self) for _ in range(count - 1))])

    def __iter__(self) -> "Shuffled":
        return self

    def __next__(self) -> torch.Tensor:
        if not self.epoch:
            n, size = self.rows.n, self.rows.size
            self.epoch = list(torch.randperm(n)[: n // size * size].split(size))[::-1]
        return self.epoch.pop()


def find_rows(pair: Pair, size: int, names: list[str]) -> Rows:
    """How this pair is cut into batches of `size` rows. names: of the data arguments, for messages.

    Raises ValueError for a size above the number of rows, and for a pair that would be scaled wrongly.
    """
    arguments, n = rows_of(pair.data)
    rows = Rows(arguments, n, size, frozenset())
    if size > n:
        raise ValueError(f"batch_size: got {size}, but {names[arguments[0]]} has {n} rows; wanted at most {n}")
    if size == n:
        return rows
    other = size - 1 if size > 1 else 2
    with noise(0):  # at random: data may be sorted
        order = torch.randperm(n)
    one, two = (batch(pair, rows, index) for index in (order[:size], order.flip(0).repeat(2)[:other]))
    (sizes, scales), (fewer, others) = (_look(p, names, n) for p in (one, two))
    plates = _row_plates({size: sizes, other: fewer, n: _look(pair, names, n)[0]})
    if not plates:
        raise ValueError(
            f"batch_size: no plate of the pair has the size of the rows it is given (plates: {sizes or 'none'}), so "
            f"a batch cannot be scaled to the whole; write pyro.plate('N', len({names[arguments[0]]}))"
        )
    if scales != others:
        name = next(k for k in scales | others if scales.get(k) != others.get(k))
        if name not in scales or name not in others:
            raise ValueError(
                f"batch_size: site {name!r} is there for some batches and not for others; write the plate over rows as "
                f"one, with pyro.plate('N', len(x)), not as a loop"
            )
        raise ValueError(
            f"batch_size: site {name!r} is scaled by the model itself as the batch grows ({scales[name]:.4g} and "
            f"{others[name]:.4g} for {size} and {other} rows); leave that out: the runner scales"
        )
    if pair.summed is not None:
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        refuse_shared(pair.model, guide, pair.data, pair.summed, plates, "a batch cannot be scaled to the whole")
    _independent(one, two, plates)
    if (several := min(max(2, size), n - 1)) > 1:
        changed = torch.cat([order[: several - 1], order[several : several + 1]])
        refuse_coupled_rows(batch(pair, rows, order[:several]), batch(pair, rows, changed), plates, several)
    return rows._replace(plates=plates)


def rows_of(data: tuple[Any, ...]) -> tuple[tuple[int, ...], int]:
    """(the arguments that go by rows, how many rows): the length that most tensors share, of equals the first.

    Raises ValueError for data without a tensor that has rows.
    """
    lengths = {i: len(v) for i, v in enumerate(data) if isinstance(v, torch.Tensor) and v.dim() > 0}
    if not lengths:
        raise ValueError("batch_size: the data holds no tensor with rows to take some of")
    n = max(lengths.values(), key=list(lengths.values()).count)
    return tuple(i for i, length in lengths.items() if length == n), n


def _row_plates(looks: dict[int, dict[str, int]]) -> frozenset[str]:
    """The plates that grow with the rows. looks: {number of rows: {plate: its size}}.

    Raises ValueError for one that grows otherwise than in proportion: N / B would be the wrong scale for it.
    """
    found = set()
    for name in sorted(set.intersection(*(set(sizes) for sizes in looks.values()))):
        length = {n: sizes[name] for n, sizes in looks.items()}
        if len(set(length.values())) == 1 and len(length) > 1:
            continue
        rows, first = next(iter(length.items()))
        if any(size * rows != first * n for n, size in length.items()):
            shown = ", ".join(f"{size} for {n} rows" for n, size in sorted(length.items()))
            raise ValueError(
                f"batch_size: plate {name!r} does not grow in proportion to the rows ({shown}), so no scale makes a "
                f"batch an estimate of the whole; give its size as an argument, or leave out batch_size"
            )
        found.add(name)
    return frozenset(found)


def _look(pair: Pair, names: list[str], n: int) -> tuple[dict[str, int], dict[str, float]]:
    """({plate: its size}, {site: its scale}) on a batch. Raises what the pair raises, with a note about the batch."""
    length = rows_of(pair.data)[1]
    try:
        with noise(0), torch.no_grad():
            check(pair.model, pair.guide, pair.data, names, whole=False)
            guide = poutine.trace(pair.guide).get_trace(*pair.data)
            model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
    except Exception as error:
        local = [name for name, p in unconstrained().items() if n in p.shape]
        hint = f". Parameter {local[0]!r} has an entry for each row, which a batch cannot use" if local else ""
        error.add_note(f"credo: raised on a batch of {length} of the {n} rows{hint}")
        raise
    sizes, scales = {}, {}
    for trace in (guide, model):
        for name, site in trace.nodes.items():
            for frame in site.get("cond_indep_stack", ()):
                if frame.full_size is not None and frame.full_size > frame.size:
                    raise ValueError(
                        f"batch_size: plate {frame.name!r} is subsampled by the pair itself ({frame.size} of "
                        f"{frame.full_size}); use one of the two"
                    )
                sizes[frame.name] = frame.size
            if site["type"] == "sample":
                scale = torch.as_tensor(site["scale"])
                scales[name] = scale.item() if scale.dim() == 0 else 1.0  # or the user's weight for each row
    return sizes, scales


def _independent(one: Pair, two: Pair, plates: frozenset[str]) -> None:
    """Raises ValueError unless what stands outside the plates over rows is the same for two batches."""
    for off in (0.0, 0.1):
        with noise(0), elsewhere(off), torch.no_grad():
            _outside_is_the_same(one, two, plates)


def _outside_is_the_same(one: Pair, two: Pair, plates: frozenset[str]) -> None:
    with torch.no_grad():
        z, _, where, _, _ = run(one)
        shared = {name: v for name, v in z.items() if name not in plates and not where[GUIDE, name] & plates}
        costs = run(one, shared).costs
        there = {
            name: site["value"].shape for name, site in drawn(poutine.trace(two.guide).get_trace(*two.data)).items()
        }
        for name, value in shared.items():
            if there.get(name) != value.shape:
                raise ValueError(
                    f"batch_size: site {name!r} (in the guide) stands outside the plate over rows "
                    f"({', '.join(sorted(plates))}) and has shape {tuple(value.shape)} or {tuple(there[name])} by the "
                    f"number of rows; put it into the plate, or leave out batch_size"
                )
        others = run(two, shared).costs
    if not any(side == DATA and where[side, name] & plates for side, name in costs):
        names = sorted(name for side, name in costs if side == DATA)
        raise ValueError(
            f"batch_size: no observed site ({', '.join(names)}) stands in a plate over the rows, so a batch cannot be "
            f"scaled to the whole; put it into pyro.plate('N', len(x))"
        )
    for (side, name), cost in costs.items():
        if twice := sorted(where[side, name] & plates)[:2]:
            if len(twice) == 2:
                raise ValueError(
                    f"batch_size: site {name!r} stands in two plates over rows ({', '.join(twice)}): of N^2 pairs a "
                    f"batch has B^2, which N / B does not scale; leave out batch_size"
                )
            continue
        other = others[side, name]
        if cost.shape != other.shape or not torch.allclose(cost, other, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise ValueError(
                f"batch_size: site {name!r} ({'in the guide' if side == GUIDE else 'in the model'}) stands outside the "
                f"plate over rows ({', '.join(sorted(plates))}) and depends on which rows are given, so a batch is no "
                f"estimate of the whole; put it into the plate, or leave out batch_size"
            )


def _scaled(program: Callable[..., Any], plates: frozenset[str], factor: float) -> Callable[..., Any]:
    def scaled(*args: Any, **kwargs: Any) -> Any:
        with _Scaled(plates, factor):
            return program(*args, **kwargs)

    return scaled


class _Scaled(Messenger):
    """Multiplies the log density of the sites in these plates."""

    def __init__(self, plates: frozenset[str], factor: float) -> None:
        super().__init__()
        self.plates, self.factor = plates, factor

    def _pyro_sample(self, msg: Any) -> None:
        if any(frame.name in self.plates for frame in msg["cond_indep_stack"]):
            msg["scale"] = msg["scale"] * self.factor
