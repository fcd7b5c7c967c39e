"""The state of a run as plain values: parameters, the tensors and numbers of networks, generators; and back.

    plain_state(modules)  ->  {"parameters": {name: unconstrained value}, "networks": [...], "generators": {...}}

Plain values are dictionaries, lists, numbers, text and tensors, so that `torch.save`, `torch.load(weights_only=True)`
and JSON beside tensors take them. Both functions work on the state that is entered. Values are put back in place:
optimisers and recordings hold the very tensors.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro.params.param_store import ParamStoreDict
from torch import nn
from torch.distributions import biject_to, constraints

from .generators import generator_states, set_generator_states

NUMBERS = (bool, int, float)
# Constraints of parameters that a program creates only later, by the text that Pyro's store keeps of them.
KNOWN = {repr(each): each for each in vars(constraints).values() if isinstance(each, constraints.Constraint)}


def plain_state(modules: Iterable[nn.Module]) -> dict[str, Any]:
    """Copies of all that a run draws on: the store's parameters, these networks, the generators."""
    store = pyro.get_param_store().get_state()
    stored = {id(p) for p in store["params"].values()}
    return {
        "parameters": {name: p.detach().clone() for name, p in store["params"].items()},
        "constraints": {name: repr(constraint) for name, constraint in store["constraints"].items()},
        "networks": [_plain_network(module, stored) for module in modules],
        "generators": plain_generators(),
    }


def put_state(plain: Mapping[str, Any], modules: Iterable[nn.Module]) -> None:
    """Puts the state that `plain_state` returned in place. Raises ValueError naming what does not fit."""
    put_parameters(plain["parameters"], plain["constraints"])
    modules = list(modules)
    now, then = [type(module).__name__ for module in modules], [network["type"] for network in plain["networks"]]
    if now != then:
        raise ValueError(f"the networks differ: {_listed(now)} here, {_listed(then)} there")
    for module, network in zip(modules, plain["networks"], strict=True):
        _put_network(module, network)
    put_generators(plain["generators"])


def put_parameters(values: Mapping[str, torch.Tensor], known: Mapping[str, str]) -> None:
    """Writes unconstrained values into the parameters of the store; creates those that it does not have yet.

    known: the constraint of each parameter, as text. Raises ValueError where names or shapes differ.
    """
    store = pyro.get_param_store()
    present, constraints_here = store.get_state()["params"], store.get_state()["constraints"]
    if more := [name for name in present if name not in values]:
        raise ValueError(
            f"parameter {more[0]!r} is here, and not there: {_listed(present)} here, {_listed(values)} there"
        )
    later = [name for name in values if name not in present]
    for name in later:
        if known.get(name, "") not in KNOWN:
            raise ValueError(f"parameter {name!r} is there, and not here")
    for name, value in values.items():
        if name in later:
            continue
        if present[name].shape != value.shape:
            raise ValueError(
                f"parameter {name!r} has shape {tuple(present[name].shape)} here, and {tuple(value.shape)} there"
            )
        if name in known and _kind(constraint := repr(constraints_here[name])) != _kind(known[name]):
            raise ValueError(f"parameter {name!r} has constraint {constraint} here, and {known[name]} there")
    for name in later:  # once all has been found to fit
        _create(store, name, values[name], known[name])
    with torch.no_grad():
        for name, value in values.items():
            if name in present:
                present[name].copy_(value)


def put_buffers(module: nn.Module, values: Mapping[str, torch.Tensor | None]) -> None:
    """Writes values into the buffers of one module that have the same name and shape."""
    with torch.no_grad():
        for name, now in module._buffers.items():
            value = values.get(name)
            if now is not None and value is not None and now.shape == value.shape:
                now.copy_(value)


def plain_generators() -> dict[str, Any]:
    """The states of the generators of torch, NumPy and Python."""
    now = generator_states()
    _, words, gauss = now["cpu"]["random"]
    kind, keys, *rest = now["cpu"]["numpy"]
    return {
        "torch": now["cpu"]["torch"].clone(),
        "random": [torch.tensor(words), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "accelerator": [state.clone() for state in now["accelerator"]],
    }


def put_generators(plain: Mapping[str, Any]) -> None:
    """Puts the generators into the states that `plain_generators` returned; those of an accelerator if it is there."""
    words, gauss = plain["random"]
    kind, keys, *rest = plain["numpy"]
    cpu = {
        "torch": plain["torch"],
        "random": (3, tuple(words.tolist()), gauss),
        "numpy": (kind, keys.numpy().astype(np.uint32), *rest),
    }
    accelerator = plain["accelerator"][: len(generator_states()["accelerator"])]
    set_generator_states({"cpu": cpu, "accelerator": [state.cpu() for state in accelerator]})


def _create(store: ParamStoreDict, name: str, value: torch.Tensor, constraint: str) -> None:
    """A parameter that the program of the run created only later."""
    store.setdefault(name, biject_to(KNOWN[constraint])(value.clone()), KNOWN[constraint])
    with torch.no_grad():
        store.get_state()["params"][name].copy_(value)


def _plain_network(module: nn.Module, stored: Collection[int]) -> dict[str, Any]:
    """The tensors of one module that are not in the store, and its numbers, without those of its submodules."""
    tensors = {name: t for name, t in _tensors(module).items() if id(t) not in stored}
    numbers = {name: value for name, value in vars(module).items() if type(value) in NUMBERS}
    return {
        "type": type(module).__name__,
        "tensors": {name: t.detach().clone() for name, t in tensors.items()},
        "numbers": numbers,
    }


def _put_network(module: nn.Module, plain: Mapping[str, Any]) -> None:
    now = _tensors(module)
    for name, value in plain["tensors"].items():
        if name not in now or now[name].shape != value.shape:
            here = f"has shape {tuple(now[name].shape)} here" if name in now else "is not here"
            raise ValueError(f"{name!r} of a {plain['type']} {here}, and has shape {tuple(value.shape)} there")
    with torch.no_grad():
        for name, value in plain["tensors"].items():
            now[name].copy_(value)
    vars(module).update({name: value for name, value in plain["numbers"].items() if name in vars(module)})


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t for name, t in {**module._parameters, **module._buffers}.items() if t is not None}


def _kind(constraint: str) -> str:
    """The class of a constraint; its bounds may follow the data."""
    return constraint.split("(")[0]


def _listed(names: Iterable[str]) -> str:
    """A few names in a message."""
    every = list(names)
    return (", ".join(every[:4]) + (f" and {len(every) - 4} more" if len(every) > 4 else "")) or "none"
