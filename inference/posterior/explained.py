"""Errors of a model on new data, in words that name the argument: torch and Pyro name a dimension at best."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from ..inputs.arguments import shown
from ..inputs.call import argument_names
from ..pair.batches import rows_of
from ..preflight.whole_numbers import last_entries


class Fitted(Protocol):
    """A model and the data that it was fitted to."""

    @property
    def model(self) -> Callable[..., Any]: ...
    @property
    def data(self) -> tuple[Any, ...]: ...


_OUT_OF_RANGE = ("out of bounds", "out of range", "smaller than num_classes")
_TABLE = "Trace Shapes:"  # the beginning of Pyro's table behind the words of an error
_SHAPES = ("must match", "Shape mismatch", "hapes cannot be multiplied", "hape mismatch", "size mismatch", "broadcast")


@contextmanager
def naming_arguments(fit: Fitted, values: tuple[Any, ...]) -> Iterator[None]:
    """Raises ValueError naming the arguments of the new data that the model cannot take: an index, a shape, None.

    values: the arguments of the prediction. Other errors pass as they are, without Pyro's table of shapes.
    """
    try:
        yield
    except (IndexError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        whole = str(error).strip()
        words = whole.split("\n")[0]
        names = argument_names(fit.model, len(values))
        if words.startswith(("site '", "batch: ", "rows: ")):  # credo's, perhaps followed by Pyro's table of shapes
            raise ValueError(words) from error
        missing = [name for name, value in zip(names, values, strict=False) if value is None]
        of_another = words.startswith(tuple(f"{name}: " for name in names if name not in missing))
        if missing and "None" in re.sub(r"\[.*?\]", "", words) and not of_another:  # x[:, None] is no value None
            raise ValueError(
                f"{', '.join(missing)}: left out of the prediction, so it is None, which the model cannot take "
                f"({words}); let it be None in the model, as in obs=y, or pass values of the same kind: observations "
                f"that are passed are drawn anew all the same"
            ) from error
        if isinstance(error, IndexError) or any(part in words for part in _OUT_OF_RANGE):
            for name, new, old in zip(names, values, fit.data, strict=False):
                if _is_index(new) and _is_index(old) and new.max() > old.max():
                    raise ValueError(
                        f"{name}: got the index {new.max().item()}, but the fit knows {old.min().item()} to "
                        f"{old.max().item()} ({words}). To draw a new group from its prior, make the number of groups "
                        f"an argument of the model, n_groups=6 say, and pass a larger one here"
                    ) from error
        if isinstance(error, IndexError) or any(part in words for part in _SHAPES):
            shapes = ", ".join(
                f"{name}: {_shown(new)}, in the fit {_shown(old)}"
                for name, new, old in zip(names, values, fit.data, strict=False)
                if new is not None and _shown(new) != _shown(old)
            )
            told = "; ".join(part for part in (shapes, f"left out: {', '.join(missing)}" if missing else "") if part)
            if told:
                raise ValueError(f"the model cannot take the new data ({told}): {words}") from error
        if _TABLE in whole:
            error.args = (whole.split(_TABLE)[0].strip(),)
        raise


def refuse_other_kinds(fit: Fitted, new: tuple[Any, ...]) -> None:
    """Raises ValueError for new data in the place of a network: the network was left out, and all the rest is shifted.

    new: as the user gave it.
    """
    names = argument_names(fit.model, len(fit.data))
    for i, (name, value, old) in enumerate(zip(names, new, fit.data, strict=False)):
        if isinstance(old, nn.Module) and not (value is None or callable(value) or isinstance(value, Mapping)):
            raise ValueError(
                f"{name}: got {shown(value)}, wanted the network of the fit, {type(old).__name__}; pass all arguments "
                f"as for credo.fit: predict({', '.join(names[: i + 1])}, ...)"
            )


def refuse_one_row(fit: Fitted, values: tuple[Any, ...]) -> None:
    """Raises ValueError for one row of an argument whose rows have dimensions of their own, given without that of rows.

    A model takes its columns for rows, or fails.
    """
    if not any(isinstance(v, torch.Tensor) and v.dim() > 0 for v in fit.data):
        return
    rows = rows_of(fit.data)[0]
    for i, (name, new, old) in enumerate(zip(argument_names(fit.model, len(values)), values, fit.data, strict=False)):
        if i in rows and isinstance(new, torch.Tensor) and 0 < new.dim() and new.shape == old.shape[1:]:
            raise ValueError(
                f"{name}: got shape {tuple(new.shape)}, one row alone, wanted rows as in the fit, where it has shape "
                f"{tuple(old.shape)}; pass {name}[None], of a table {name}.iloc[[0]]"
            )


def refuse_missing(fit: Fitted, values: tuple[Any, ...], program: Callable[[], list[torch.Tensor]]) -> None:
    """Raises ValueError for codes of -1 in the new data, not in the fit's, that the program takes for the last entry.

    program: returns the values of a prediction.
    """
    found = zip(argument_names(fit.model, len(values)), values, fit.data, strict=False)
    pairs = [(name, new, old.min()) for name, new, old in found if _is_index(new) and _is_index(old)]
    missing = {name: new for name, new, least in pairs if new.min() == -1 and least >= 0}
    for name, size in last_entries(program, missing).items() if missing else ():
        raise ValueError(
            f"{name}: got the index -1, which would be the last of {size} entries; pandas writes -1 for a category "
            f"that is missing or not known: leave out its rows, or pass the labels themselves to the fit and here"
        )


def refuse_other_lengths(
    fit: Fitted, values: tuple[Any, ...], observed: Mapping[str, Any], drawn: Mapping[str, torch.Tensor], reduced: bool
) -> None:
    """Raises ValueError for observations that are passed with other rows than the prediction has.

    observed: the observed sites of the fit. drawn: the prediction, without its first dimension of draws if `reduced`.
    """
    for name, new, old in zip(argument_names(fit.model, len(values)), values, fit.data, strict=False):
        if not isinstance(new, torch.Tensor) or not isinstance(old, torch.Tensor) or not (new.dim() and old.dim()):
            continue
        for site in observed.keys() & drawn.keys():
            seen, shape = observed[site]["value"], drawn[site].shape[0 if reduced else 1 :]
            same = isinstance(seen, torch.Tensor) and seen.shape == old.shape and torch.equal(seen, old)
            if same and len(shape) == seen.dim() and shape[0] != len(new):
                raise ValueError(
                    f"{name}: got {len(new)} rows, but the prediction of site {site!r} has {shape[0]} by the other "
                    f"arguments; pass as many, or leave {name} out: it is drawn anew"
                )


def _is_index(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.int64, torch.int32) and value.numel() > 0


def _shown(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)[:40]
