"""The posterior predictive of an exact posterior.

p(y* | x*, data) = E[p(y* | x*, z) | data],   by draws z ~ p(z | data), y* ~ p(y* | x*, z)
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from pyro import poutine

from ..runtime.arguments import tensors, to_predict
from ..runtime.held import Held
from ..runtime.sites import latent, refuse_subsampled
from ..runtime.state import State, reading, refuse_unknown
from ..runtime.vectorise import at_once, each
from .belief import Point
from .precision import in_double


class Posterior(Protocol):
    """What a prediction asks of an exact posterior; see `Exact`."""

    @property
    def model(self) -> Callable[..., Any]: ...
    @property
    def data(self) -> tuple[Any, ...]: ...
    @property
    def marginals(self) -> Mapping[str, Any]: ...
    @property
    def columns(self) -> tuple[list[str] | None, ...]: ...
    @property
    def state(self) -> State: ...
    @property
    def narrow(self) -> bool: ...

    def sample(self, n: int = 1000, *, seed: int = 0) -> Point: ...


def predict(exact: Posterior, n: int, *new: Any, seed: int = 0) -> Point:
    """n draws of the observed sites: {site: shape (n, *shape of the site)}, one row for each row of the new data.

    new: the model's arguments; those left out at the end (what is to be predicted) are None. Nothing at all: the data
        of the posterior, whose observations are drawn anew. Latents keep their posterior where they have the shape that
        they had; of another number of rows they are new ones, and are drawn from the model given the others.
    Networks are in evaluation mode. Deterministic sites of the model come along.
    Raises ValueError for data that `credo.exact` would refuse, and for a plate that is subsampled.
    """
    refuse_unknown(exact.state, new)
    z = exact.sample(n, seed=seed)
    values = tensors(exact.model, new, torch.float64, torch.device("cpu"), exact.columns) if new else exact.data
    values = to_predict(values, exact.data)
    program = poutine.uncondition(exact.model)

    def one(point: Point) -> Point:
        trace = poutine.trace(Held(point)(program)).get_trace(*values)
        return {name: site["value"] for name, site in latent(trace).items() if name not in exact.marginals}

    with reading(exact.state, seed), in_double(exact.narrow), torch.no_grad():
        sites = latent(poutine.trace(program).get_trace(*values))
        refuse_subsampled(sites)
        same = {name: v for name, v in z.items() if name in sites and sites[name]["fn"].shape() == v.shape[1:]}
        return _over(one, same, n)


def _over(program: Callable[[Point], Point], points: Point, n: int) -> Point:
    """The program at each point, in chunks of bounded memory, vectorised if the program allows it."""
    points = {**points, "": torch.zeros(n)}  # runs are counted even where no latent is left
    first = {name: v[:1] for name, v in points.items()}
    chunk = min(n, at_once(lambda: program({name: v[0] for name, v in first.items()})))
    vectorised = chunk > 1
    if vectorised:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                each(program, {name: v[:2] for name, v in points.items()}, True)
            except Exception:
                vectorised = False
    parts = [
        each(program, {name: v[i : i + chunk] for name, v in points.items()}, vectorised) for i in range(0, n, chunk)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
