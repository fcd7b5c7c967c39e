"""What a run owns: its parameters, its copies of the modules it was given, its random generators.

Pyro keeps parameters in one store for the whole process, modules keep theirs in themselves, and the generators
are global too. A run works on its own of all three: `entered(state)` puts them in place and, on the way out, also
after an error, puts back what was there. No tensor is copied on either way, so a single step can afford it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.util import get_rng_state, set_rng_state
from torch import nn

from .reach import reachable


@dataclass
class State:
    """The parts of a run that Pyro and torch would otherwise share between all runs of a process."""

    store: dict[str, Any] = field(default_factory=lambda: {"params": {}, "constraints": {}})
    modules: dict[nn.Module, dict[str, Any]] = field(default_factory=dict)  # module -> its attributes in the run
    generators: dict[str, Any] = field(default_factory=dict)


def new_state(things: tuple[Any, ...], seed: int, device: torch.device) -> State:
    """A fresh state: an empty store, copies on `device` of all modules found in `things`, generators from `seed`."""
    modules = {m: None for root in find_modules(things) for m in root.modules()}
    copies: dict[int, torch.Tensor] = {}
    for module in modules:
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and id(tensor) not in copies:  # tied weights stay tied
                copies[id(tensor)] = _copy(tensor, device)
    before = _generators()
    try:
        pyro.set_rng_seed(seed)
        return State(
            modules={m: {k: _own(v, copies) for k, v in m.__dict__.items()} for m in modules},
            generators=_generators(),
        )
    finally:
        _set_generators(before)


@contextmanager
def entered(state: State, *, seed: int | None = None, validate: bool = False) -> Iterator[None]:
    """Work inside `state`; outside, nothing has happened. `seed` restarts the generators for this entry alone."""
    outside = {m: dict(m.__dict__) for m in state.modules}
    generators = _generators()
    store = pyro.get_param_store()
    with store.scope(state.store), pyro.validation_enabled(validate):  # type: ignore[arg-type]  # Pyro's TypedDict
        try:
            _install(state.modules)
            if seed is None:
                _set_generators(state.generators)
            else:
                pyro.set_rng_seed(seed)
            yield
        finally:
            state.store = dict(store.get_state())
            # A guide may have grown submodules (autoguides do at their first call): they belong to the run too.
            state.modules = own_modules(list(state.modules))
            if seed is None:
                state.generators = _generators()
            _install(outside)
            _set_generators(generators)


def snapshot(state: State, dtype: torch.dtype | None = None) -> State:
    """A copy that further training does not reach, in `dtype` if given: what a finished fit keeps."""
    copies: dict[int, torch.Tensor] = {}
    tensors = list(state.store["params"].values())
    for attributes in state.modules.values():
        tensors += [*attributes["_parameters"].values(), *attributes["_buffers"].values()]
    for tensor in tensors:
        if tensor is not None and id(tensor) not in copies:
            copies[id(tensor)] = _copy(tensor, tensor.device, dtype)
    return State(
        store={
            "params": {name: copies[id(p)] for name, p in state.store["params"].items()},
            "constraints": dict(state.store["constraints"]),
        },
        modules={m: {k: _own(v, copies) for k, v in attributes.items()} for m, attributes in state.modules.items()},
        generators=dict(state.generators),
    )


@contextmanager
def reading(state: State, seed: int) -> Iterator[None]:
    """Work inside a copy of `state`, networks in evaluation mode: whatever is run there, the state stays as it is."""
    copy = snapshot(state)
    for attributes in copy.modules.values():
        attributes["training"] = False
    with entered(copy, seed=seed):
        yield


@contextmanager
def noise(seed: int) -> Iterator[None]:
    """The torch generators start from `seed` inside and are as they were outside: common random numbers."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def looking() -> Iterator[None]:
    """All generators, Python's and NumPy's too, are afterwards as they were: what is run inside leaves no trace."""
    before = _generators()
    try:
        yield
    finally:
        _set_generators(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Numbers that are made inside are of this precision, where nothing else is said."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def choose_device(device: str | torch.device | None) -> torch.device:
    """None: CUDA if there is one, else the CPU. Raises ValueError for a device this machine does not have."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {device!r} cannot be used here ({str(error).splitlines()[0]}); try 'cpu'") from None
    return torch.device(device)


def own_modules(roots: Iterable[nn.Module]) -> dict[nn.Module, dict[str, Any]]:
    """The attributes, as they are now, of these modules and of all below them."""
    return {m: dict(m.__dict__) for root in roots for m in root.modules()}


def find_modules(things: Any) -> list[nn.Module]:
    """The torch modules a pair can reach: given as arguments, bound to its methods, closed over, or named beside it."""
    return [thing for thing in reachable(things) if isinstance(thing, nn.Module)]


def refuse_unknown(state: State, data: tuple) -> None:
    """Raises ValueError for a network in the data that the run has not trained: Pyro would pass over its weights."""
    for module in find_modules(data):
        if module not in state.modules:
            raise ValueError(
                f"a network ({type(module).__name__}) was passed that is not the one of the first call: its weights "
                f"are not part of this run. Pass the same object again, or begin a new run"
            )


def unconstrained() -> dict[str, torch.Tensor]:
    """The trainable leaves of the current store by name. Pyro's running baselines live there too and are left out."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, p in pyro.get_param_store().named_parameters():
        if not name.startswith("__baseline"):
            found.setdefault(id(p), (name, p))  # a module may name one tensor twice
    return dict(found.values())


def flat_parameters(leaves: Iterable[torch.Tensor]) -> torch.Tensor:
    """The point at which these leaves are, a copy, shape (P,)."""
    return torch.cat([p.detach().flatten() for p in leaves])  # torch's own wants them contiguous


def place_parameters(point: torch.Tensor, leaves: Iterable[torch.Tensor]) -> None:
    """Writes a flat point, shape (P,), into these leaves, each in its own precision."""
    leaves = list(leaves)
    with torch.no_grad():
        for leaf, piece in zip(leaves, point.split([p.numel() for p in leaves]), strict=True):
            leaf.copy_(piece.view(leaf.shape))


def constrained() -> dict[str, torch.Tensor]:
    """The parameters of the current store as the user sees them: constrained, detached copies."""
    store = pyro.get_param_store()
    return {name: store[name].detach().clone() for name in unconstrained()}


def _own(value: Any, copies: dict[int, torch.Tensor]) -> Any:
    """A module's attribute in the run: its tensors replaced by copies, its containers by containers of their own."""
    if isinstance(value, torch.Tensor):
        return copies.get(id(value), value)
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


def _generators() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return {"cpu": get_rng_state(), "cuda": cuda}


def _set_generators(state: dict[str, Any]) -> None:
    set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state_all(state["cuda"])
