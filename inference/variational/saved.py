"""A fit as data for one file, without pickle: what was found, in full; of model, guide and networks what tells them.

    {"guide": how it is made again, "parts": parameters and weights, "outline": of the data, "pair": its sites, ...}

Programs are the user's code and stay there; `evaluation/load.py` puts the parts into the programs that it is given. The
data are kept if they are asked for; without them the file says what can be asked of the fit all the same.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide import (
    AutoDelta,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
)

from ..estimators.dependencies import Dependencies
from ..estimators.estimator import Facts
from ..exact.saved import exact_as_data
from ..gaussian.normal_guide import GROUPS, LOW_RANK, AutoNormalOf
from ..gaussian.psis import Importance
from ..importance.correction import Correction
from ..pair.amortised import Amortised
from ..pair.autoguide import Start
from ..pair.identity import Identity, pair_identity
from ..pair.mean_field import MeanField
from ..pair.pair import Summed
from ..pair.row_features import Reading
from ..planning.table import Entry
from ..posterior.agreement import Agreement, SeedRun
from ..posterior.approximation import Approximation, dtype_of, pair_of
from ..posterior.marginals import model_trace
from ..posterior.sample import guide_draws
from ..posterior.verdict import Verdict
from ..posterior.weighted_guide import WeightedGuide
from ..runtime.defaults import default_dtype
from ..runtime.reachable import find_modules, reachable
from ..runtime.state import State, reading
from ..storage.absent import DRAWS, Absent, about_data, refuse_to_save
from ..storage.container import Described, write
from ..storage.outline import TYPES
from ..storage.states import Network, Parts, parts_of
from ..storage.values import described

STORED = (
    Importance,
    Verdict,
    Agreement,
    SeedRun,
    Correction,
    Summed,
    Entry,
    Facts,
    Dependencies,
    Reading,
    Network,
    Parts,
    *TYPES,
)
WORDS: dict[Any, str] = {
    MeanField: "mean_field",
    AutoDelta: "map",
    AutoMultivariateNormal: "full_rank",
    AutoLowRankMultivariateNormal: "low_rank",
    AutoLaplaceApproximation: "laplace",
}  # of the autoguides that credo makes
OWN, EXACT, WEIGHTED, NORMAL, LAPLACE = "own", "exact", "weighted", "normal", "laplace completed"  # other guides
AMORTISED = "amortised"
APART = ("model", "guide", "data", "state", "plan", "exact")  # fields that are more than a value


def save(fit: Any, path: str | os.PathLike[str], with_data: bool = False) -> None:
    """Writes a fit to one file; see `Fit.save`."""
    refuse_to_save(fit.data, with_data)
    tensors: dict[str, torch.Tensor] = {}
    made = fit_as_data(fit, tensors, with_data)
    write(path, "fit", made | {"kind": "fit"}, tensors)


def fit_as_data(fit: Any, tensors: dict[str, torch.Tensor], with_data: bool) -> Described:
    """The description of a fit, whose tensors are added to `tensors`. Raises ValueError for what no file can keep."""
    made = {
        "fields": {f.name: getattr(fit, f.name) for f in dataclasses.fields(fit) if f.name not in APART},
        "plan": {name: value for name, value in fit.plan._asdict().items() if name != "recipe"},
        "guide": _guide(fit),
        "parts": parts_of(_state(fit)),
        "device": fit.state.device,
        "data": fit.data.file if isinstance(fit.data, Absent) and fit.data.file else data_as_data(fit, with_data),
    }
    try:
        exact = None if fit.exact is None else exact_as_data(fit.exact, tensors, with_data, "exact.")
        return {key: described(value, tensors, STORED, key) for key, value in made.items()} | {"exact": exact}
    except TypeError as error:
        raise ValueError(f"{error}, which a file can keep; pickle or cloudpickle keep objects too") from error


def data_as_data(fit: Any, with_data: bool) -> dict[str, Any]:
    """What a file says of the data of a fit. with_data: the data themselves, too."""
    dtype = dtype_of(fit)

    def of(data: tuple[Any, ...]) -> Any:
        return dataclasses.replace(fit, data=tuple(data))

    default, found = _default_of(fit, dtype)

    def identity(data: tuple[Any, ...]) -> Identity:
        return found if data is fit.data else identity_of(of(data))

    with default_dtype(default):
        about = about_data(fit.model, fit.data, dtype, fit.state.device, identity, asked_of(fit), with_data)
    if isinstance(fit.data, Absent):  # some of the rows that the run read by windows
        about |= {"free": fit.data.free, "streamed": fit.data.streamed}
    return about | {"default": default}


def asked_of(fit: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """What can be asked of a fit, as functions of other data in the place of its own, and of new data."""

    def of(data: tuple[Any, ...]) -> Any:
        return dataclasses.replace(fit, data=tuple(data))

    return {
        "guide": lambda data, new: guide_draws(of(data), DRAWS),
        "sample": lambda data, new: of(data).sample(DRAWS),
        "summary": lambda data, new: of(data).summary(DRAWS),
        "predict": lambda data, new: of(data).predict(DRAWS, *new),
    }


def _default_of(fit: Any, dtype: torch.dtype) -> tuple[torch.dtype, Identity]:
    """(torch's default dtype in which the pair runs, its identity there): that of its tensors, or the present one."""
    for default in (dtype, torch.get_default_dtype()):
        with default_dtype(default):
            if found := identity_of(fit):
                return default, found
    return dtype, {}


def identity_of(fit: Approximation) -> Identity:
    """The sites of the pair of a fit on its data, at one draw of the guide."""
    with reading(fit.state, 0):
        return pair_identity(pair_of(fit), None)


def _state(fit: Any) -> State:
    """The state of the fit; of weighted draws without what belongs to the guide that they replaced."""
    if not isinstance(fit.guide, WeightedGuide):
        state: State = fit.state
        return state
    used = {name for name, site in model_trace(fit).nodes.items() if site["type"] == "param"}
    store = {kind: {k: v for k, v in held.items() if k in used} for kind, held in fit.state.store.items()}
    parts = {part for network in find_modules((fit.model, fit.data)) for part in network.modules()}
    modules = {module: held for module, held in fit.state.modules.items() if module in parts}
    return dataclasses.replace(fit.state, store=store, modules=modules)


def _guide(fit: Any) -> dict[str, Any]:
    """How the guide is made again."""
    guide = fit.guide
    made: dict[str, Any] = {"kind": OWN, "class": type(guide).__name__, "name": getattr(guide, "__name__", "")}
    if isinstance(guide, WeightedGuide):
        return made | {"kind": WEIGHTED, "values": guide.values, "log_weights": guide.log_weights}
    if isinstance(guide, AutoNormalOf):
        names = LOW_RANK if hasattr(guide, "stretch") else (*GROUPS, "at_shared", "at_local")
        with reading(fit.state, 0):
            return made | {"kind": NORMAL, "normal": {name: getattr(guide, name).detach() for name in names}}
    if isinstance(guide, Amortised):
        with reading(fit.state, 0):
            return made | {"kind": AMORTISED, "reads": guide.reads}
    # A completed fit of AutoLaplaceApproximation: see pair/laplace.py.
    if isinstance(guide, AutoMultivariateNormal) and "loc" in fit.state.modules[guide]["_buffers"]:
        return made | {"kind": LAPLACE}
    if type(guide) in WORDS and any(isinstance(thing, Start) for thing in reachable(vars(guide))):  # made by credo
        return made | {"kind": WORDS[type(guide)]}
    if fit.exact is not None:
        fields = {f.name: getattr(guide, f.name) for f in dataclasses.fields(guide) if f.name != "exact"}
        return made | {"kind": EXACT, "fields": fields}
    return made
