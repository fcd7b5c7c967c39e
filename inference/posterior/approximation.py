"""The Protocol of an approximate posterior: what predictions, summaries and likelihoods need, whatever found it."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from ..inputs.labels import Labels
from ..pair.pair import Pair, Summed
from ..runtime.state import State


class Drawn(Protocol):
    """Draws of the latents of a model, and the data that it was given with their names.

    data: the arguments of the model, as tensors. columns: the column names of each argument that came as a table, None
    for the others. codes: the labels of each column that held labels. row_labels: the index of each argument that came
    with one of its own. state: the parameters and networks that `reading` puts in place.
    """

    @property
    def model(self) -> Callable[..., Any]: ...
    @property
    def data(self) -> tuple[Any, ...]: ...
    @property
    def columns(self) -> tuple[list[str] | None, ...]: ...
    @property
    def codes(self) -> Labels: ...
    @property
    def row_labels(self) -> tuple[list[Any] | None, ...]: ...
    @property
    def state(self) -> State: ...

    def sample(self, n: int = 1000, *, seed: int = 0) -> dict[str, torch.Tensor]:
        """n draws of the latents: {site: shape (n, *shape of the site)}."""
        ...


class Approximation(Drawn, Protocol):
    """A guide q(z) with its parameters, the model it belongs to, and the data that it was fitted to.

    params: {name: constrained value}. summed: the finite latents of the model that the guide does not have. followers:
    latents with masked entries, whose draws come from the model. reweighted: the same with weighted draws of the
    posterior in the place of the guide.
    """

    @property
    def guide(self) -> Callable[..., Any]: ...
    @property
    def params(self) -> dict[str, torch.Tensor]: ...
    @property
    def summed(self) -> Summed | None: ...
    @property
    def followers(self) -> frozenset[str]: ...

    @property
    def reweighted(self) -> "Approximation": ...


def pair_of(fit: Approximation) -> Pair:
    """The model and the guide on the data that they were fitted to."""
    return Pair(fit.model, fit.guide, fit.data, fit.summed, followers=fit.followers)


def dtype_of(fit: Approximation) -> torch.dtype:
    """The precision of a fit: that of its parameters, else of its data, else torch's default."""
    tensors = (v for v in (*fit.params.values(), *fit.data) if isinstance(v, torch.Tensor))
    return next((v.dtype for v in tensors if v.is_floating_point()), torch.get_default_dtype())
