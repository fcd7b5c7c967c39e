"""The parameters and networks of a run as data, and data put in their place in a run of the same program.

Networks are not kept themselves, since they are the user's code: the program makes them again, and their weights are
put in. They are recognised by their order, their class, and the names and shapes of their weights.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyro
import torch
from torch import nn

from ..runtime.reachable import find_modules
from ..runtime.state import State, own_modules, snapshot
from .laws import law
from .values import described

Attributes = dict[str, Any]  # of a module in a run
KINDS = ("_parameters", "_buffers")


class Network(NamedTuple):
    """A network of a run, with all of its parts. tensors: {path of a weight or buffer: key of its tensor}."""

    name: str  # of its class
    tensors: dict[str, str]


class Parts(NamedTuple):
    """What a run has learnt. Tensors that are one in the run, as tied weights are, have one key."""

    params: dict[str, str]  # {name: key of its unconstrained tensor}
    constraints: dict[str, Any]  # {name: constraint}; None for one of the user's own, which the program has
    networks: tuple[Network, ...]
    tensors: dict[str, torch.Tensor]  # {key: tensor}


def parts_of(state: State) -> Parts:
    """The parameters and the networks of a state."""
    tensors: dict[str, torch.Tensor] = {}
    keys: dict[int, str] = {}

    def key(name: str, tensor: torch.Tensor) -> str:
        if id(tensor) not in keys:
            keys[id(tensor)] = name
            tensors[name] = tensor
        return keys[id(tensor)]

    params = {name: key(name, tensor) for name, tensor in state.store["params"].items()}
    constraints = {name: c if _is_known(c) else None for name, c in state.store["constraints"].items()}
    networks = []
    for i, root in enumerate(roots(state)):
        found = {path: key(f"network {i}: {path}", held[name]) for path, held, name in weights(root, state)}
        networks.append(Network(type(root).__name__, found))
    return Parts(params, constraints, tuple(networks), tensors)


def place(parts: Parts, state: State) -> None:
    """Puts the tensors in the place of those of a state, in which the program has run.

    Raises ValueError, which names the network or the parameter, where the program has others.
    """
    for network, root in _matched(parts, state):
        for path, held, name in list(weights(root, state)):
            held[name] = parts.tensors[network.tensors[path]]
    made = state.store["params"]
    if other := sorted(made.keys() ^ parts.params.keys()):
        here = (
            "these model and guide make" if other[0] in made else "the fit has, but these model and guide do not make"
        )
        raise ValueError(f"parameter {other[0]!r}: {here} it, so they are not those of the fit")
    for name, key in parts.params.items():
        if made[name].shape != parts.tensors[key].shape:
            shapes = tuple(made[name].shape), tuple(parts.tensors[key].shape)
            raise ValueError(
                f"parameter {name!r}: these model and guide make it in shape {shapes[0]}, and the fit has it in shape "
                f"{shapes[1]} (unconstrained), so they are not those of the fit"
            )
    own = state.store["constraints"]
    state.store = {
        "params": {name: parts.tensors[key] for name, key in parts.params.items()},
        "constraints": {name: own[name] if c is None else c for name, c in parts.constraints.items()},
    }


def placed(parts: Parts, programs: Any, device: torch.device) -> State:
    """The state of programs that have run in the state that is entered, with the tensors of a file in their place."""
    now = State(dict(pyro.get_param_store().get_state()), own_modules(find_modules(programs)), device=device)
    place(parts, now)
    return snapshot(now)


def roots(state: State) -> list[nn.Module]:
    """The networks of a state that are no part of another one."""
    below = {id(part) for attributes in state.modules.values() for part in attributes["_modules"].values()}
    return [module for module in state.modules if id(module) not in below]


def weights(
    module: nn.Module, state: State, path: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, Attributes, str]]:
    """(path, the dictionary that holds it, its name there) of each weight and buffer of a network in the run."""
    seen = set() if seen is None else seen
    if id(module) in seen:
        return
    seen.add(id(module))
    attributes = state.modules[module]
    for kind in KINDS:
        for name, tensor in attributes[kind].items():
            if tensor is not None:
                yield path + name, attributes[kind], name
    for name, part in attributes["_modules"].items():
        if part is not None:
            yield from weights(part, state, f"{path}{name}.", seen)


def _matched(parts: Parts, state: State) -> list[tuple[Network, nn.Module]]:
    """The networks of the file, each with the one of the program that it belongs to."""
    left, matched = list(roots(state)), []
    for network in parts.networks:
        form = _form(network.name, {path: parts.tensors[key] for path, key in network.tensors.items()})
        match = next((root for root in left if _form_of(root, state) == form), None)
        if match is None:
            raise ValueError(_no_match(network, form, left, state))
        left.remove(match)
        matched.append((network, match))
    if left := [root for root in left if any(True for _ in weights(root, state))]:
        raise ValueError(
            f"a network ({type(left[0]).__name__}) that these model and guide use is none of the fit, which has "
            f"{len(parts.networks)}; pass the model and the guide that were fitted"
        )
    return matched


def _form(name: str, tensors: dict[str, torch.Tensor]) -> tuple[str, dict[str, tuple[int, ...]]]:
    return name, {path: tuple(tensor.shape) for path, tensor in tensors.items()}


def _form_of(root: nn.Module, state: State) -> tuple[str, dict[str, tuple[int, ...]]]:
    return _form(type(root).__name__, {path: held[name] for path, held, name in weights(root, state)})


def _no_match(network: Network, form: Any, left: list[nn.Module], state: State) -> str:
    wanted = ", ".join(f"{path} {shape}" for path, shape in list(form[1].items())[:4])
    alike = [root for root in left if type(root).__name__ == network.name]
    if not alike:
        return (
            f"the fit has a network ({network.name} with {wanted or 'no weights'}) that these model and guide do not "
            f"reach; pass it among the data, as to credo.fit: its trained weights are put in its place"
        )
    there = _form_of(alike[0], state)[1]
    differ = sorted(form[1].items() ^ there.items())
    path = differ[0][0] if differ else ""
    return (
        f"network {network.name}: its {path} has shape {there.get(path, 'none')} here and {form[1].get(path, 'none')} "
        f"in the fit; pass a network of the same layers"
    )


def _is_known(constraint: Any) -> bool:
    """Whether a file can keep a constraint: not one of the user's own."""
    try:
        described(constraint, {})
    except TypeError:
        return False
    return law(constraint) is not None
