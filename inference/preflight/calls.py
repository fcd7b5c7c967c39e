"""Refuses a model and a guide that cannot be called alike: both get the same arguments, by position."""

import inspect
from collections.abc import Callable
from typing import Any

from ..inputs.call import positional_parameters, signature_of_call


def refuse_calls(model: Callable[..., Any], guide: Callable[..., Any], data: tuple, names: list[str]) -> None:
    """Raises ValueError for a model or a guide that does not take these arguments, or takes them in another order.

    names: of the data arguments, for messages.
    """
    for what, program in (("model", model), ("guide", guide)):
        signature = signature_of_call(program)
        try:
            if signature is not None:
                signature.bind(*data)
        except TypeError as error:
            raise ValueError(
                f"the {what} takes the arguments {_shown(signature)}, but the data has {len(data)} "
                f"({', '.join(names) or 'none'}): {error}. Model and guide are called with the same data"
            ) from None
    one, two = ([p.name for p in positional_parameters(program)][: len(data)] for program in (model, guide))
    if one != two and sorted(one) == sorted(two):
        raise ValueError(
            f"the guide takes its arguments in another order ({', '.join(two)}) than the model ({', '.join(one)}), but "
            f"both are called with the same data, by position; use one order for both"
        )


def _shown(signature: inspect.Signature | None) -> str:
    return str(signature.replace(return_annotation=inspect.Signature.empty)) if signature is not None else "()"
