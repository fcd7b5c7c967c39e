"""The state of a run: its parameters, its copies of the modules it was given, its random generators.

Pyro keeps parameters in one store for the whole process, modules keep theirs in themselves, and the generators
are global too. A run has its own of all three: `entered(state)` puts them in place and, on the way out, also after an
error, restores the ones before. It copies no tensor, so that a single step can afford it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.distributions import Transform

from .defaults import CPU, Moved, default_device
from .generators import generator_states, refuse_no_seed, set_generator_states
from .reachable import find_modules
from .whole_plates import whole_plates

OF_A_CALL = {"_cached_x_y": (None, None), "_cached_log_scale": None}  # attributes of transforms, of Pyro's too


@dataclass
class State:
    """Parameters, modules and generators of one run, which Pyro and torch otherwise share within a process."""

    store: dict[str, Any] = field(default_factory=lambda: {"params": {}, "constraints": {}})
    modules: dict[nn.Module, dict[str, Any]] = field(default_factory=dict)  # module -> its attributes in the run
    generators: dict[str, Any] = field(default_factory=dict)
    device: torch.device = CPU  # where programs make tensors that name no device
    moved: Moved = field(default_factory=dict)  # copies on the device of constants that were made elsewhere

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a file gets. What transforms keep of their last call goes: a graph can be neither."""
        for module, attributes in self.modules.items():
            if isinstance(module, Transform):
                for kept in (module.__dict__, attributes or {}):
                    kept.update({name: value for name, value in OF_A_CALL.items() if name in kept})
        return self.__dict__


def new_state(things: tuple[Any, ...], seed: int, device: torch.device) -> State:
    """A fresh state: an empty store, copies on `device` of all modules found in `things`, generators from `seed`."""
    modules = {m: None for root in find_modules(things) for m in root.modules()}
    copies: dict[int, torch.Tensor] = {}
    for module in modules:
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and id(tensor) not in copies:  # tied weights stay tied
                copies[id(tensor)] = _copy(tensor, device)
    torch.empty(0, device=device)  # so that the device has generators, to be restored
    before = generator_states()
    try:
        pyro.set_rng_seed(seed)
        return State(
            modules={m: {k: _own(v, copies) for k, v in m.__dict__.items()} for m in modules},
            generators=generator_states(),
            device=device,
        )
    finally:
        set_generator_states(before)


@contextmanager
def entered(state: State, *, seed: int | None = None, validate: bool = False) -> Iterator[None]:
    """Puts `state` in place inside; the process is unchanged outside. `seed` restarts the generators for this entry."""
    if seed is not None:
        refuse_no_seed(seed)
    outside = {m: dict(m.__dict__) for m in state.modules}
    generators = generator_states()
    store = pyro.get_param_store()
    with store.scope(state.store), pyro.validation_enabled(validate):  # type: ignore[arg-type]  # Pyro's TypedDict
        try:
            _install(state.modules)
            if seed is None:
                set_generator_states(state.generators)
            else:
                pyro.set_rng_seed(seed)
            with default_device(state.device, state.moved):
                yield
        finally:
            state.store = dict(store.get_state())
            # A guide may have grown submodules (autoguides do at their first call): they belong to the run too.
            state.modules = own_modules(list(state.modules))
            if seed is None:
                state.generators = generator_states()
            _install(outside)
            set_generator_states(generators)


def snapshot(state: State, dtype: torch.dtype | None = None, device: torch.device | None = None) -> State:
    """A copy of the state that further training does not change; a finished fit keeps it.

    dtype, device: of its tensors; None: as they are.
    """
    copies: dict[int, torch.Tensor] = {}
    tensors = list(state.store["params"].values())
    for attributes in state.modules.values():
        tensors += [*attributes["_parameters"].values(), *attributes["_buffers"].values()]
    for tensor in tensors:
        if tensor is not None and id(tensor) not in copies:
            copies[id(tensor)] = _copy(tensor, device or tensor.device, dtype)
    return State(
        store={
            "params": {name: copies[id(p)] for name, p in state.store["params"].items()},
            "constraints": dict(state.store["constraints"]),
        },
        modules={m: {k: _own(v, copies) for k, v in attributes.items()} for m, attributes in state.modules.items()},
        generators=dict(state.generators),
        device=device or state.device,
    )


@contextmanager
def reading(state: State, seed: int) -> Iterator[None]:
    """Puts a copy of `state` in place inside, networks in evaluation mode, plates with all of their rows.

    `state` itself does not change.
    """
    refuse_no_seed(seed)
    copy = snapshot(state)
    for attributes in copy.modules.values():
        attributes["training"] = False
    with entered(copy, seed=seed), whole_plates():
        yield


def own_modules(roots: Iterable[nn.Module]) -> dict[nn.Module, dict[str, Any]]:
    """The current attributes of these modules and of all their submodules."""
    return {m: dict(m.__dict__) for root in roots for m in root.modules()}


def refuse_unknown(state: State, data: tuple) -> None:
    """Raises ValueError for a network in the data that the run has not trained: Pyro would ignore its weights."""
    for module in find_modules(data):
        if module not in state.modules:
            raise ValueError(
                f"a network ({type(module).__name__}) was passed that is not the one of the first call: its weights "
                f"are not part of this run. Pass the same object again, or begin a new run"
            )


def _own(value: Any, copies: dict[int, torch.Tensor]) -> Any:
    """A module's attribute in the run: its tensors replaced by copies, its containers by containers of their own."""
    if isinstance(value, torch.Tensor):  # one that `vmap` left behind, in the cache of a transform, is of no use
        return copies.get(id(value), None if is_functorch_wrapped_tensor(value) else value)
    if type(value) is tuple and any(isinstance(v, torch.Tensor) for v in value):
        return tuple(_own(v, copies) for v in value)
    if isinstance(value, poutine.Trace) and "_INPUT" not in value.nodes:  # what a guide that is a messenger saw last
        return poutine.Trace()
    if isinstance(value, dict):
        own = value.copy()
        own.update({k: _own(v, copies) for k, v in value.items()})
        return own
    if type(value) is list:
        return [_own(v, copies) for v in value]
    return value


def _copy(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    dtype = dtype if tensor.is_floating_point() else None
    copy = tensor.detach().to(device, dtype, copy=True)
    if isinstance(tensor, nn.Parameter):  # one in another order of memory would get no gradient: Pyro trains its copy
        return nn.Parameter(copy.contiguous(), requires_grad=tensor.requires_grad)
    return copy.requires_grad_(tensor.requires_grad)


def _install(modules: dict[nn.Module, dict[str, Any]]) -> None:
    for module, attributes in modules.items():
        module.__dict__.clear()
        module.__dict__.update(attributes)
