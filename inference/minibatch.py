"""Minibatches: some rows of the data at a time, scaled to the whole.

    -ELBO = E_q[log q(z) - log p(z) - (N / B) sum_{n in batch} log p(x_n | z)]   for B rows at random

The user's model has a plate over the rows it is given, of whatever number (`pyro.plate("N", len(x))`). Which plates
those are is found by running the pair on batches of two sizes: the plates whose size follows. Their sites, latent or
observed, in the model and in the guide, count N / B times (Hoffman et al. 2013, eq. 28). Whatever stands outside them
must not depend on which rows came: that is looked at too, since it would be silently wrong.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from .costs import DATA, GUIDE, Pair, run
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
    return Pair(_scaled(pair.model, rows.plates, factor), _scaled(pair.guide, rows.plates, factor), data)


def shuffled(rows: Rows) -> Iterator[torch.Tensor]:
    """Batches without end: an index of shape (B,) each. A row comes once an epoch, but for those that fill no batch."""
    while True:
        yield from torch.randperm(rows.n)[: rows.n // rows.size * rows.size].split(rows.size)


def find_rows(pair: Pair, size: int, names: list[str]) -> Rows:
    """How this pair is cut into batches of `size` rows. names: of the data arguments, for messages.

    Rows are those of the first tensor with a dimension; every tensor with as many goes along.
    Raises ValueError for a size above the number of rows, and for a pair that would be scaled wrongly.
    """
    lengths = {i: len(v) for i, v in enumerate(pair.data) if isinstance(v, torch.Tensor) and v.dim() > 0}
    if not lengths:
        raise ValueError("batch_size: the data holds no tensor with rows to take some of")
    n = next(iter(lengths.values()))
    rows = Rows(tuple(i for i, length in lengths.items() if length == n), n, size, frozenset())
    if size > n:
        raise ValueError(f"batch_size: got {size}, but {names[rows.arguments[0]]} has {n} rows; wanted at most {n}")
    if n == 1:
        return rows
    other = size - 1 if size > 1 else 2
    one, two = (batch(pair, rows, index) for index in (torch.arange(size), torch.arange(n - min(other, n), n)))
    sizes, scales = zip(*(_look(p, names, n) for p in (one, two)), strict=True)
    plates = frozenset(name for name, length in sizes[0].items() if sizes[1].get(name) not in (None, length))
    if not plates:
        raise ValueError(
            f"batch_size: no plate of the pair has the size of the rows it is given (plates: {sizes[0] or 'none'}), so "
            f"a batch cannot be scaled to the whole; write pyro.plate('N', len({names[rows.arguments[0]]}))"
        )
    if scales[0] != scales[1]:
        name = next(k for k in scales[0] | scales[1] if scales[0].get(k) != scales[1].get(k))
        if name not in scales[0] or name not in scales[1]:
            raise ValueError(
                f"batch_size: site {name!r} is there for some batches and not for others; write the plate over rows as "
                f"one, with pyro.plate('N', len(x)), not as a loop"
            )
        raise ValueError(
            f"batch_size: site {name!r} is scaled by the model itself as the batch grows ({scales[0][name]:.4g} and "
            f"{scales[1].get(name, 1.0):.4g} for {size} and {other} rows); leave that out: the runner scales"
        )
    _independent(one, two, plates)
    return rows._replace(plates=plates)


def _look(pair: Pair, names: list[str], n: int) -> tuple[dict[str, int], dict[str, float]]:
    """({plate: its size}, {site: its scale}) on a batch. Raises what the pair raises, with a note about the batch."""
    length = len(next(v for v in pair.data if isinstance(v, torch.Tensor) and v.dim() > 0))
    try:
        with noise(0), torch.no_grad():
            check(pair.model, pair.guide, pair.data, names)
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
    with noise(0), torch.no_grad():
        z, _, where = run(one)
        shared = {name: v for name, v in z.items() if name not in plates and not where[GUIDE, name] & plates}
        costs = run(one, shared)[1]
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
        others = run(two, shared)[1]
    if not any(side == DATA and where[side, name] & plates for side, name in costs):
        names = sorted(name for side, name in costs if side == DATA)
        raise ValueError(
            f"batch_size: no observed site ({', '.join(names)}) stands in a plate over the rows, so a batch cannot be "
            f"scaled to the whole; put it into pyro.plate('N', len(x))"
        )
    for (side, name), cost in costs.items():
        if where[side, name] & plates:
            continue
        other = others[side, name]
        if cost.shape != other.shape or not torch.allclose(cost, other, rtol=1e-5, atol=1e-6):
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
