"""What a pair on its data is, in words and numbers, so that a later process can tell whether it has the same one.

    {"argument 'x'": ["float32 of shape (9,)", digest],  "site 'b' of the model": ["Normal of shape (3,)", log density]}

Functions cannot be compared: a notebook defines them anew. What they compute can: the family, shape and log density of
each site at one draw of the guide, whose noise is seeded. Another prior, another likelihood, another constant shows.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyro
import torch
from pyro import poutine
from torch import nn
from torch.utils._pytree import tree_leaves

from ..distributions.unwrap import unwrapped
from ..runtime.reachable import find_modules
from ..runtime.sites import latent, observed
from ..runtime.state import State, own_modules, reading
from ..storage.values import flat_bytes
from .batches import Rows, batch
from .pair import Pair

Identity = dict[str, Any]  # {what: [words, a digest or None or numbers]}
CLOSE = 1e-4  # relative: by how much log densities may differ, which another machine rounds differently
FEW = 4  # differences in a message
ROWS = 1000  # that stand for a large array


def data_identity(data: Sequence[Any], names: Sequence[str]) -> Identity:
    """What the arguments of a pair are: types, shapes and a digest of the values of tensors; settings by value."""
    return {f"argument {name!r}": _argument(value) for name, value in zip(names, data, strict=False)}


def pair_identity(pair: Pair, rows: Rows | None) -> Identity:
    """What the sites of a pair are at the parameters of the run that is entered; nothing of it changes.

    rows: how the data is cut into batches, of which the first is taken. Empty where the pair cannot be run.
    """
    modules = own_modules(find_modules((pair.model, pair.guide, pair.data)))
    now = State(dict(pyro.get_param_store().get_state()), modules, device=torch.get_default_device())
    try:
        with reading(now, 0), torch.no_grad():
            part = pair if rows is None else batch(pair, rows, torch.arange(rows.size))
            q = poutine.trace(part.guide).get_trace(*part.data)
            p = poutine.trace(poutine.replay(part.model, trace=q)).get_trace(*part.data)
            return {
                **{f"site {name!r} of the guide": _site(site) for name, site in latent(q, auxiliary=True).items()},
                **{f"site {name!r} of the model": _site(site) for name, site in {**latent(p), **observed(p)}.items()},
            }
    except Exception:  # of the user's program, at this draw
        return {}


def settings_identity(settings: Mapping[str, Any]) -> Identity:
    """What the arguments of a call are, in words; of data also a digest. Numbers: 1 is 1.0."""
    return {f"{name}=": _argument(_plain_number(value)) for name, value in settings.items()}


class Other(NamedTuple):
    """What a message calls the identity that another one is compared with: that of an earlier run, unless told."""

    was: str = "was"
    had: str = "it had"
    lacks: str = "new"  # what is here is ...
    alone: str = "gone"  # what is there is ...


BEFORE = Other()


def differences(now: Identity, then: Identity, other: Other = BEFORE) -> list[str]:
    """What differs between two identities, in words: what is here, and what was there. Empty if nothing does."""
    found = []
    for what in [*now, *(what for what in then if what not in now)]:
        if what not in then or what not in now:
            words = (now if what in now else then)[what][0]
            found.append(f"{what} ({words}) is {other.lacks if what in now else other.alone}")
            continue
        (words, number, *more), (before, known, *others) = now[what], then[what]
        if words != before:
            found.append(f"{what} is {words}, and {other.was} {before}")
        elif isinstance(number, str) and number != known:
            found.append(f"{what} ({words}) has other values")
        elif isinstance(number, float) and isinstance(known, float) and not _close([number, *more], [known, *others]):
            where = "in other rows" if f"{number:.5g}" == f"{known:.5g}" else f"where {other.had} {known:.5g}"
            found.append(f"{what} ({words}) has log density {number:.5g} {where}")
    return found


def _close(one: list[float], two: list[float]) -> bool:
    """Whether two sites have the same log density: (its sum, a weighted sum that tells rows apart, that of sizes)."""
    if not all(map(math.isfinite, [*one, *two])):
        return True  # nothing can be told from it
    slack = CLOSE * max(1.0, one[-1], two[-1])
    return all(abs(a - b) <= slack for a, b in zip(one[:2], two[:2], strict=True))


def _plain_number(value: Any) -> Any:
    """A number as an int if it is whole, else as a float; anything else as it came."""
    value = value.item() if isinstance(value, np.generic | np.ndarray | torch.Tensor) and value.ndim == 0 else value
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        return value
    return int(float(value)) if float(value).is_integer() else float(value)


def _argument(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return [f"{dtype} of shape {tuple(value.shape)}", digest([value])]
    if isinstance(value, nn.Module):  # its parameters and buffers are compared where they are put in place
        return [f"a {type(value).__name__}", None]
    tensors = [found for leaf in tree_leaves(value) if (found := _values(leaf)) is not None]
    return [_in_words(value), digest(tensors) if tensors else None]


def _values(leaf: Any) -> torch.Tensor | None:
    """The values of an array or a table as a tensor, of text and dates their hashes; None for anything else."""
    if isinstance(leaf, torch.Tensor):
        return leaf
    if isinstance(leaf, pd.DataFrame | pd.Series | pd.Index):
        return torch.from_numpy(np.array(pd.util.hash_pandas_object(leaf)).view(np.int64))
    if not isinstance(leaf, np.ndarray):
        return None
    if leaf.dtype.kind in "biuf" and leaf.dtype.itemsize <= 8:
        return torch.as_tensor(leaf if leaf.flags.writeable else np.array(leaf))  # of a file that is mapped, say
    text = leaf.astype(object) if leaf.dtype.kind in "USTV" or leaf.dtype.itemsize > 16 else leaf
    return torch.from_numpy(pd.util.hash_array(text.ravel()).view(np.int64))


def spread(value: Any) -> list[Any]:
    """The shape of an array or a tensor, and some of its rows, ROWS from the first to the last: it may be in a file."""
    some = value[np.linspace(0, len(value) - 1, ROWS).astype(int)]
    return [*value.shape, np.array(some) if isinstance(some, np.ndarray) else some]


def digest(tensors: Sequence[torch.Tensor]) -> str:
    """A digest of the values of these tensors."""
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        found.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        found.update(flat_bytes(tensor))
    return found.hexdigest()


def _site(site: Any) -> list[Any]:
    fn = site["fn"]
    density = fn.log_prob(site["value"]).detach().double().flatten()
    weights = 1.0 + 0.5 * torch.arange(len(density), dtype=torch.float64, device=density.device).cos()
    sums = [density.sum(), (weights * density).sum(), density.abs().sum()]
    return [f"{type(unwrapped(fn)).__name__} of shape {tuple(site['value'].shape)}", *(each.item() for each in sums)]


def _in_words(value: Any) -> str:
    """A setting in words that are the same in another process."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, torch.Tensor | np.ndarray | pd.DataFrame | pd.Series):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_in_words(k)}: {_in_words(value[k])}" for k in sorted(value, key=str)) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        parts = map(_in_words, value)
        return f"{type(value).__name__}({', '.join(sorted(parts) if isinstance(value, set | frozenset) else parts)})"
    inner: Callable[..., Any] | None = getattr(value, "func", None)
    if inner is not None and hasattr(value, "keywords"):  # a functools.partial
        return f"{_in_words(inner)} with {_in_words([value.args, value.keywords])}"
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str) and "<lambda>" not in name:
        return name
    words = "" if callable(value) or isinstance(value, pd.Index) else repr(value)
    return words if words and " at 0x" not in words else f"a {type(value).__name__}"
