"""Gives a Pyro module a parameter store of its own, so that it no longer reads the store of the process.

A `PyroModule`, and so every autoguide, takes its parameters from Pyro's global store by their names: a trained copy of
it would return the values of whatever ran last under the same names, or of nothing at all.
"""

from types import TracebackType
from typing import Any

import pyro
from pyro.nn import PyroModule
from pyro.nn.module import _Context
from torch import nn


class OwnStore(_Context):
    """The context in which a `PyroModule` runs, with a parameter store that no other module shares."""

    def __init__(self, store: dict[str, Any]) -> None:
        super().__init__()
        self.own: dict[str, Any] = {"_params": dict(store["params"]), "_constraints": dict(store["constraints"])}
        self.own["_param_to_name"] = {tensor: name for name, tensor in self.own["_params"].items()}

    def __enter__(self) -> None:
        if not self.active:
            self._exchange()
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, where)
        if not self.active:
            self._exchange()

    def _exchange(self) -> None:
        """Swaps the two stores. Pyro's `scope` would cut the links to unconstrained tensors that its SVI needs."""
        store = vars(pyro.get_param_store())
        for name in self.own:
            store[name], self.own[name] = self.own[name], store[name]


def with_own_store(module: nn.Module, store: dict[str, Any]) -> nn.Module:
    """The module itself, which from now on reads and trains the parameters in `store`; other networks stay as they are.

    store: {"params": {name: unconstrained tensor}, "constraints": {name: constraint}}, as `get_state` returns it.
    """
    context = OwnStore(store)
    for part in module.modules():
        if isinstance(part, PyroModule):
            part._pyro_context = context
    return module
