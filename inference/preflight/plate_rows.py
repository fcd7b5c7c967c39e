"""Refuses observed values that do not have the rows of their plates, or are broadcast inside an event.

torch broadcasts one row over a plate of 1,000 and a column over an event without a word: the data then counts 1,000
times. Broadcasting is fine where it is plainly meant: a constant that is observed in every row, or data that many
models in a plate share.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from pyro import poutine
from torch.utils._pytree import tree_leaves

from ..runtime.sites import Site, latent, observed, plates, shown_plates

LABELS = 30  # observed labels from which the same ones in two draws of an index are no chance


def refuse_shapes(name: str, site: Site) -> None:
    """Raises ValueError for an observed value whose shape does not fit its distribution, or fits by accident only."""
    fn, value = site["fn"], site["value"]
    if not isinstance(value, torch.Tensor):
        return
    event = tuple(fn.event_shape)
    got = tuple(value.shape[value.dim() - len(event) :]) if value.dim() >= len(event) else tuple(value.shape)
    if value.dim():  # not a constant, which every entry of an event may have
        got = (1,) * (len(event) - len(got)) + got
    for has, wanted in zip(got, event, strict=False):
        if has == 1 < wanted:
            raise ValueError(
                f"site {name!r}: the observed value has shape {tuple(value.shape)} and would be broadcast inside the "
                f"event, of shape {event}; pass a value of shape {tuple(fn.batch_shape) + event} (y.squeeze(-1), say), "
                f"or give the distribution an event of the shape of the value"
            )
    try:
        torch.broadcast_shapes(value.shape[: max(0, value.dim() - len(event))], fn.batch_shape)
    except RuntimeError:
        raise ValueError(
            f"site {name!r}: the observed value has shape {tuple(value.shape)}, and its distribution has batch shape "
            f"{tuple(fn.batch_shape)} and event shape {event} in the plates {shown_plates(site, 'none')}; rows and "
            f"plates must have the same sizes, pyro.plate('N', len(y))"
        ) from None


def refuse_other_event(name: str, site: Site) -> None:
    """Raises ValueError for an observed value of other sizes than an event, if the distribution cannot score it."""
    fn, value = site["fn"], site["value"]
    event = tuple(fn.event_shape)
    if not isinstance(value, torch.Tensor) or not event or value.dim() < len(event):
        return
    if tuple(value.shape[-len(event) :]) != event and not _scores(fn, value):
        raise ValueError(
            f"site {name!r}: the observed value has shape {tuple(value.shape)}, and one event of its distribution "
            f"has shape {event}; give the distribution the size of the data, len(y) say, or pass as many values"
        )


def _scores(fn: Any, value: torch.Tensor) -> bool:
    """Whether a distribution takes the value: some take events of other lengths than their own."""
    try:
        with torch.no_grad():
            fn.log_prob(value)
    except (RuntimeError, ValueError, IndexError):
        return False
    return True


def refuse_one_row(model: poutine.Trace, data: tuple[Any, ...], names: list[str]) -> None:
    """Raises ValueError for one observed row that counts in every row of a plate. model: a trace, already scored."""
    owners = dict(_storages(data, names))
    inside = {plate for site in latent(model).values() for plate in plates(site)}
    lengths = {len(t) for t in tree_leaves(data) if isinstance(t, torch.Tensor) and t.dim()}
    for name, site in observed(model).items():
        value, event = site["value"], len(site["fn"].event_shape)
        if not isinstance(value, torch.Tensor):
            continue
        batch = value.shape[: max(0, value.dim() - event)]
        strides = value.stride()[: len(batch)]  # a view that repeats one row has stride 0
        rows = torch.Size(1 if stride == 0 else length for length, stride in zip(batch, strides, strict=True))
        over = [f for f in site["cond_indep_stack"] if f.vectorized and f.size > 1 and _length(rows, f.dim) == 1]
        owner = owners.get(value.untyped_storage().data_ptr())
        for frame in over:
            same = _is_same_in(site["unscaled_log_prob"], frame.dim)
            if owner is not None:
                mistaken = frame.size in lengths or frame.name not in inside if batch.numel() == 1 else same
            else:  # a constant of the model, which may be observed in every row
                mistaken = same and value.dim() > event
            if mistaken:
                raise ValueError(
                    f"site {name!r}: the observed value{f' ({owner})' if owner else ''} of shape {tuple(value.shape)} "
                    f"has one row in plate {frame.name!r} of size {frame.size}, and would count {frame.size} times; "
                    f"pass a value for each row, or write the site outside of this plate"
                )


def _equal_by_chance(index: Site, other: Site) -> bool:
    """Whether two draws of some rows are equal and there are so few such draws that this says nothing."""
    fn = index["fn"]
    few = fn.subsample_size is not None and math.comb(fn.size, fn.subsample_size) < 10_000
    return few and torch.equal(index["value"], other["value"])


def fixed_part(model: poutine.Trace, again: poutine.Trace, data: tuple[Any, ...], names: list[str]) -> str | None:
    """What is wrong in a run on this data alone: a plate of which each step takes the same rows.

    None if there is nothing wrong. Steps on many batches, `svi.step(batch)`, may have such a plate. model, again: two
    traces of the model, the plates with new indices where these are random.
    """
    lengths = [(len(t), n) for t, n in zip(data, names, strict=True) if isinstance(t, torch.Tensor) and t.dim()]
    for name, site in observed(model).items():
        for frame in site["cond_indep_stack"]:
            index, other = (dict[str, Any](trace.nodes).get(frame.name) for trace in (model, again))
            if frame.full_size is None or frame.full_size <= frame.size or index is None or other is None:
                continue
            rows = next((n for length, n in lengths if length == frame.size), None)
            whole = any(length == frame.full_size for length, _ in lengths)
            if rows is not None and not whole:
                return (
                    f"plate {frame.name!r}: its size is {frame.full_size}, but {rows} has {frame.size} rows, so that "
                    f"each of them would count {frame.full_size / frame.size:.4g} times; give the plate the size "
                    f"len({rows}), or pass all {frame.full_size} rows"
                )
            if index["value"].shape != other["value"].shape or _equal_by_chance(index, other):
                continue
            drawn = index["value"] if not torch.equal(index["value"], other["value"]) else None
            if drawn is None or _ignores(site, dict[str, Any](again.nodes).get(name)):
                why = (
                    "takes the same rows"
                    if drawn is None
                    else f"draws its index, but site {name!r} observes the same rows"
                )
                return (
                    f"plate {frame.name!r} {why} in each step, {frame.size} of {frame.full_size}, so that the others "
                    f"never count; draw the index anew, with pyro.plate({frame.name!r}, {frame.full_size}, "
                    f"subsample_size={frame.size}) as index, and observe y[index]"
                )
    return None


def _storages(data: tuple[Any, ...], names: list[str]) -> Iterator[tuple[int, str]]:
    """(the memory, the name) of each tensor of the data: a row taken from a tensor shares its memory."""
    for value, name in zip(data, names, strict=True):
        for leaf in tree_leaves(value):
            if isinstance(leaf, torch.Tensor) and not leaf.is_sparse:
                yield leaf.untyped_storage().data_ptr(), name


def _ignores(site: Site, again: Site | None) -> bool:
    """Whether a site observes the same values although the index of its plate has changed, and not by chance."""
    value = site["value"]
    if again is None or not isinstance(value, torch.Tensor) or value.numel() < 2 or value.shape != again["value"].shape:
        return False
    if not torch.equal(value, again["value"]):
        return False
    counts = value.flatten().unique(return_counts=True)[1]
    others = value.numel() - int(counts.max())  # than the value that is there most often: labels repeat by themselves
    return len(counts) == value.numel() or (value.numel() >= LABELS and others >= value.numel() / 5)


def _length(shape: torch.Size, dim: int) -> int:
    return shape[dim] if -dim <= len(shape) else 1


def _is_same_in(cost: torch.Tensor, dim: int) -> bool:
    """Whether the costs of all rows of this dimension are equal."""
    return cost.dim() < -dim or bool((cost == cost.narrow(dim, 0, 1)).all())
