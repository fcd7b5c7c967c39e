"""The settings of a sweep: the product of its lists, each setting with a name that a file can have.

{"seed": [0, 1], "lr": [0.01, 0.02], "steps": 500}  ->  4 settings, the last list fastest
"""

import hashlib
import inspect
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import credo
from credo.inference.pair.identity import settings_identity
from credo.sweeps.identity import program_identity

LONGEST = 80  # characters of a name, without the digest at its end
PASSING = ("progress", "compile", "device", "checkpoint", "every", "force")  # they do not tell one result from another
Plain = dict[str, Any]  # of numbers, text, None and booleans


class Setting(NamedTuple):
    """One cell of the grid. options: of `credo.fit`. model: settings of the model. plain: both in words and numbers.

    code: a digest of the guide's, if it is a function: one that was changed makes another setting.
    """

    guide: Any
    code: str
    options: dict[str, Any]
    model: dict[str, Any]
    plain: Plain

    @property
    def name(self) -> str:
        """seed=0,lr=0.01-1f3a9c2e: the settings as far as they fit into a name, and a digest of them all."""
        text = ",".join(f"{key}={value}" for key, value in self.plain.items())
        digest = hashlib.blake2b(
            json.dumps([self.code, *sorted(self.plain.items())]).encode(), digest_size=4
        ).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9=.,_+-]+', '_', text)[:LONGEST].strip('._')}-{digest}"


def fit_options() -> dict[str, Any]:
    """{option of `credo.fit`: its default}."""
    parameters = inspect.signature(credo.fit).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def grid(guide: Any, options: Mapping[str, Any], model: Mapping[str, Any]) -> list[Setting]:
    """Every setting. Lists and ranges are taken value by value; anything else, a tuple too, is one value for all.

    guide: a guide, or a list of guides and words. Raises ValueError for an empty list, for a value that occurs twice,
    and for a lambda, whose results could not be told from those of another.
    """
    named = {"guide": guide, **options, **model}
    axes = {key: _values(key, value) for key, value in named.items()}
    told = {key: [_plain(key, value) for value in values] for key, values in axes.items()}
    for key, values in told.items():
        twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
        if len({repr(value) for value in values}) < len(values):
            raise ValueError(f"{key}: {twice!r} occurs twice; each value makes a setting of its own")
    codes = [program_identity(each)[1] if callable(each) else "" for each in axes["guide"]]
    found = []
    for numbers in itertools.product(*(range(len(values)) for values in axes.values())):
        value = {key: axes[key][i] for key, i in zip(axes, numbers, strict=True)}
        plain = {key: told[key][i] for key, i in zip(axes, numbers, strict=True) if key not in PASSING}
        mine, bound = ({key: value[key] for key in part} for part in (options, model))
        found.append(Setting(value["guide"], codes[numbers[0]], mine, bound, plain))
    return found


def _values(key: str, value: Any) -> list[Any]:
    values = list(value) if isinstance(value, list | range) else [value]
    if not values:
        raise ValueError(f"{key}: got an empty list, wanted one value at least")
    return values


def _plain(key: str, value: Any) -> Any:
    """A value as JSON has it: numbers as they are, other things in words, data with a digest of their values."""
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if callable(value) and "<lambda>" in getattr(value, "__qualname__", ""):
        raise ValueError(f"{key}: got a lambda, whose results could not be told from those of another; name it by def")
    if isinstance(value, int | float):
        return value
    ((words, digest),) = settings_identity({key: value}).values()
    words = words.removesuffix(" with list(tuple(), {})")
    return words if digest is None else f"{words}, {digest[:8]}"


def sorted_by_settings(rows: Sequence[Plain], names: Sequence[str]) -> list[Plain]:
    """Rows in the order of their settings: numbers by size, then text."""

    def place(value: Any) -> tuple[int, Any]:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (0, value) if number else (1, str(value))

    return sorted(rows, key=lambda row: [place(row.get(name)) for name in names])
