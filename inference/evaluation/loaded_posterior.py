"""A posterior in closed form, or the draws of a reference, from what their file describes, with their model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine

from ..exact.closed_form import Exact
from ..exact.mixture import sample
from ..exact.precision import in_double
from ..exact.saved import STORED, components_of_file, identity_of
from ..mcmc.result import Reference
from ..mcmc.saved import STORED as REFERENCE
from ..mcmc.saved import identity_of as identity_of_reference
from ..pair.identity import Identity, differences
from ..pair.pair import Program
from ..posterior.source import Source
from ..runtime.defaults import CPU, default_dtype
from ..runtime.held import HeldSites
from ..runtime.state import entered, new_state, snapshot
from ..storage.absent import Absent, data_of
from ..storage.states import placed
from ..storage.values import restored


def exact_of(saved: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], model: Program, data: Any) -> Exact:
    """The posterior. saved, tensors: what the file holds. data: those that the user gives."""
    found = {key: restored(json, tensors, STORED) for key, json in saved.items() if key != "kind"}
    about, fields = found["data"], found["fields"]
    values = data_of(about, model, data, fields["columns"], fields["codes"], CPU)
    components = components_of_file(found["components"])
    state = snapshot(new_state((model, values), 0, CPU), torch.float64)
    with entered(state, seed=0), in_double(fields["narrow"]), torch.no_grad():
        point = {name: value[0] for name, value in sample(components, 1).items()}
        poutine.trace(HeldSites(point)(model)).get_trace(*values)
        now = placed(found["parts"], (model, values), CPU)
    exact = Exact(model=model, data=values, components=components, state=now, **fields)
    refuse_other_pair(identity_of(exact), about, values)
    return exact


def reference_of(
    saved: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], model: Program | None, data: Any
) -> Reference:
    """The draws; without a model they have no `source`, which predictions need."""
    found = {key: restored(json, tensors, REFERENCE) for key, json in saved.items() if key != "kind"}
    draws = Reference(**found["fields"])
    if model is None or found["source"] is None:
        return draws
    about, source = found["data"], found["source"]
    values = data_of(about, model, data, source["columns"], source["codes"], CPU)
    state = new_state((model, values), 0, CPU)
    with entered(state, seed=0), default_dtype(about["dtype"]), torch.no_grad():
        poutine.trace(model).get_trace(*values)
        now = placed(found["parts"], (model, values), CPU)
    reference = replace(draws, source=Source(model=model, data=values, state=now, **source))
    refuse_other_pair(identity_of_reference(reference), about, values)
    return reference


def refuse_other_pair(now: Identity, about: Mapping[str, Any], values: Any, *, same_draws: bool = True) -> None:
    """Raises ValueError for another model or guide, by their sites, families, shapes and log densities.

    about: what the file says of data and sites. values: the data. same_draws: whether draws are those of the file.
    """
    absent = isinstance(values, Absent)
    then = about["pair without data" if absent else "pair"]
    if not (now and then):
        return
    if not same_draws or (absent and not values.whole):
        now, then = ({site: [found[0], None] for site, found in each.items()} for each in (now, then))
    if found := differences(now, then):
        raise ValueError(
            f"these are not the model and the guide of the fit: {'; '.join(found[:3])}; pass those that were fitted"
        )
