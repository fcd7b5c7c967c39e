"""What tells a sweep from another: the data by digests, networks by their layers, model and guides by their code.

Workers of one sweep run the same program, so that they agree. A program that was changed since computes something else
than the results that its folder holds.
"""

import functools
import hashlib
import inspect
from collections.abc import Sequence
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import nn

from credo.inference.inputs.call import argument_names
from credo.inference.pair.identity import data_identity, settings_identity, spread

MOST = 2**25  # numbers of an argument that a digest reads; of a larger one, rows spread over it


def sweep_identity(model: Any, data: Sequence[Any]) -> dict[str, list[Any]]:
    """{what: [words, digest]} of the model and of each argument."""
    names = argument_names(model, len(data))
    words, code = program_identity(model)
    found = {"the model": [f"{words}, code {code[:8]}", None]}
    for (what, identity), value in zip(data_identity([_few(v) for v in data], names).items(), data, strict=True):
        found[what] = _network(value) if isinstance(value, nn.Module) else identity
    return found


def _few(value: Any) -> Any:
    """An array as it is, or rows spread over it where it is large: it may be larger than memory."""
    large = isinstance(value, np.ndarray | torch.Tensor) and len(value.shape) and np.prod(value.shape) > MOST
    return spread(value) if large else value


def _network(net: nn.Module) -> list[Any]:
    shapes = [(name, tuple(p.shape)) for name, p in net.named_parameters()]
    return [f"a {type(net).__name__}", _digest(repr(net), repr(shapes))]


def program_identity(program: Any) -> list[Any]:
    """The name of a function, and a digest of its code; settings that it was bound to count, the lines of it do not."""
    if isinstance(program, functools.partial):
        words, digest = program_identity(program.func)
        bound = settings_identity({"args": program.args, **program.keywords})
        return [words, _digest(digest, bound)]
    if isinstance(program, nn.Module):
        return _network(program)
    function = inspect.unwrap(program)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return [getattr(function, "__qualname__", type(program).__name__), _digest(*_parts(code))]


def _parts(code: CodeType | None) -> list[Any]:
    if code is None:
        return []
    inner = [part for const in code.co_consts for part in (_parts(const) if isinstance(const, CodeType) else [const])]
    return [code.co_code, code.co_names, code.co_varnames, *inner]


def _digest(*parts: Any) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part if isinstance(part, bytes) else repr(part).encode())
    return found.hexdigest()
