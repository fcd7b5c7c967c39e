"""A posterior in closed form as data for a file, and back.

Each block of latents is a function of tensors (`BlockPosterior.made`), which the file holds with the name of the
function. Nothing is found again: the posterior of the file is the one that was saved, and needs no data for its draws.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch

from ..pair.identity import Identity, pair_identity
from ..pair.pair import Pair
from ..runtime.defaults import CPU
from ..runtime.state import reading
from ..storage.absent import DRAWS, Absent, about_data, refuse_to_save
from ..storage.container import Described, write
from ..storage.outline import TYPES
from ..storage.states import Network, Parts, parts_of
from ..storage.values import described
from .block_posterior import BlockPosterior
from .blocks import Block
from .coordinates import Coordinates, Variable
from .families import family_posterior
from .finite import Eliminated, Factors, Letters, finite_posterior
from .gaussian import Newton, gaussian_posterior
from .mixture import Component
from .normal_gamma import NormalGamma, normal_gamma_posterior
from .points import Checked
from .precision import in_double

MAKERS: dict[str, Callable[..., BlockPosterior | None]] = {
    "family": family_posterior,
    "gaussian": gaussian_posterior,
    "normal-gamma": normal_gamma_posterior,
    "finite": finite_posterior,
}
STORED = (
    *(Block, Coordinates, Variable, Newton, NormalGamma, Letters, Factors, Eliminated, Checked, Network, Parts),
    *TYPES,
)
FIELDS = ("marginals", "log_evidence", "columns", "codes", "row_labels", "narrow", "improper", "updated")


def save(exact: Any, path: str | os.PathLike[str], with_data: bool = False) -> None:
    """Writes a posterior to one file; see `Exact.save`."""
    refuse_to_save(exact.data, with_data)
    tensors: dict[str, torch.Tensor] = {}
    made = exact_as_data(exact, tensors, with_data)
    write(path, "exact", made | {"kind": "exact"}, tensors)


def exact_as_data(exact: Any, tensors: dict[str, torch.Tensor], with_data: bool, at: str = "") -> Described:
    """The description of an `Exact`, whose tensors are added to `tensors` under names that begin with `at`."""
    made = {
        "fields": {name: getattr(exact, name) for name in FIELDS},
        "components": [_component(c) for c in exact.components],
        "parts": parts_of(exact.state),
        "data": exact.data.file if isinstance(exact.data, Absent) else _about_data(exact, with_data),
    }
    return {key: described(value, tensors, STORED, f"{at}{key}") for key, value in made.items()}


def components_of_file(components: list[Any]) -> tuple[Component, ...]:
    """The joint posterior, as a file has described it."""
    return tuple(
        Component(held, log_weight, tuple(_block(*block) for block in blocks), checked)
        for held, log_weight, blocks, checked in components
    )


def identity_of(exact: Any) -> Identity:
    """The sites of the model on the data of the posterior, at one draw of its latents."""
    point = {name: value[0] for name, value in exact._latents(1, 0).items()}

    def guide(*_: Any) -> None:
        for name, value in point.items():
            pyro.sample(name, dist.Delta(value, event_dim=value.dim()))

    with reading(exact.state, 0), in_double(exact.narrow):
        return pair_identity(Pair(exact.model, guide, exact.data), None)


def _component(component: Component) -> list[Any]:
    names = {maker: name for name, maker in MAKERS.items()}
    made = [block.made for block in component.blocks if block.made is not None]
    blocks = [[names[make], arguments] for make, arguments in made]
    return [component.held, component.log_weight, blocks, component.checked]


def _block(maker: str, arguments: tuple[Any, ...]) -> BlockPosterior:
    block = MAKERS[maker](*arguments)
    if block is None:
        raise ValueError("a block of the posterior has no distribution")
    return block


def _about_data(exact: Any, with_data: bool) -> dict[str, Any]:
    def of(data: tuple[Any, ...]) -> Any:
        return dataclasses.replace(exact, data=data)

    asked: Mapping[str, Callable[[Any, Any], Any]] = {
        "sample": lambda data, new: of(data).sample(DRAWS),
        "predict": lambda data, new: of(data).predict(DRAWS, *new),
    }
    kind = torch.float64, CPU
    return about_data(exact.model, exact.data, *kind, lambda data: identity_of(of(data)), asked, with_data)
