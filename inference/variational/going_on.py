"""What a runner needs to go on exactly where it is, as plain values, and back; and where a run starts from a fit.

Parameters, networks, generators, the optimiser's moments, the place in the epoch, baselines, the learning rate, the
plan and what races have cost. What is found out about the pair and its data (what is legal, which rows) is found out
anew, since the same data and seed give the same.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from ..capture.optimiser_state import plain_optimiser, put_optimiser
from ..inputs.arguments import shown
from ..planning.plain_plan import plain_plan, with_plain
from ..planning.plan import Plan
from ..runtime.plain_state import plain_state, put_buffers, put_parameters, put_state
from ..runtime.state import State, entered, own_modules
from ..stepping.steps import Steps
from .races import Races
from .result import Fit

# The fields of `Steps` that a process makes for itself.
OWN = {"optimiser", "captures", "state", "asked", "batches", "warnings", "compiled", "kept", "tables"}
OWN |= {"workers", "last", "averaged", "first", "agreed"}


def runner_state(steps: Steps, races: Races, losses: list[float], plan: Plan) -> dict[str, Any]:
    """The state of a runner, which is entered: dictionaries, lists, numbers, text and tensors, which are copies."""
    names = {id(p): name for name, p in steps.parameters.items()}
    captures = steps.captures
    return {
        **plain_state(own_modules(list(steps.state.modules))),
        "optimiser": plain_optimiser(steps.optimiser, names),
        "steps": plain_fields(steps, OWN),
        "epochs": getattr(steps.batches, "epochs", 0),
        "epoch": None if steps.batches is None else steps.batches.state(),
        "recorded": "" if captures is None else captures.refusal,
        "before recording": 0 if captures is None else captures.eager_steps_of(plan.choices),
        "races": races.spent,
        "losses": torch.tensor(losses, dtype=torch.float64),
        "plan": plain_plan(plan),
    }


def put_runner_state(plain: Mapping[str, Any], steps: Steps, races: Races, losses: list[float], plan: Plan) -> Plan:
    """Puts the state that `runner_state` returned in place, and returns its plan.

    plan: of the runner, which has been prepared on the same data. Raises ValueError naming what does not fit; then
    nothing has changed but parameters.
    """
    all_rows = plain["steps"].get("all_rows", False)
    if (plain["epoch"] is None and not all_rows) != (steps.batches is None):
        raise ValueError(f"the run takes {'all rows' if steps.batches is None else 'batches'} here, and did not there")
    found = with_plain(plan, plain["plan"])
    put_state(plain, own_modules(list(steps.state.modules)))
    put_optimiser(steps.optimiser, plain["optimiser"], steps.parameters)
    put_fields(steps, plain["steps"])
    steps.kept = []
    if all_rows:
        steps.batches = None
    if steps.batches is not None:
        steps.batches.put(plain["epoch"])
        if hasattr(steps.batches, "epochs"):
            steps.batches.epochs = plain.get("epochs", 0)
    if steps.captures is not None:
        steps.captures.refusal, steps.captures.ahead = plain["recorded"], plain["before recording"]
    races.spent = plain["races"]
    losses[:] = plain["losses"].tolist()
    return found


def refuse_no_fit(name: str, value: Any) -> None:
    """Raises ValueError for an argument of this name that is no fit."""
    if not isinstance(value, Fit):
        raise ValueError(f"{name}: got {shown(value)}, wanted a fit, as credo.fit returns it, or .fit of an error")


def place_fit(state: State, fit: Fit) -> None:
    """Starts a run, which has its parameters and no step yet, from those of a fit. Networks get its buffers, too.

    Raises ValueError where the fit has other parameters than the run, by name, shape or constraint.
    """
    store = fit.state.store
    constraints = {name: repr(constraint) for name, constraint in store["constraints"].items()}
    with entered(state):
        try:
            put_parameters(store["params"], constraints)
        except ValueError as error:
            raise ValueError(
                f"start: the fit is of another guide, or of data of another shape: {error}, in the fit"
            ) from error
        modules, before = list(state.modules), list(fit.state.modules.values())
        if [type(module) for module in modules] == list(map(type, fit.state.modules)):
            for module, attributes in zip(modules, before, strict=True):
                put_buffers(module, attributes["_buffers"])


def plain_fields(thing: Any, without: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    """The fields of a dataclass that are values, and of dataclasses within it; its functions are left out."""
    found = {}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if field.name in without or callable(value):
            continue
        found[field.name] = plain_fields(value) if dataclasses.is_dataclass(value) else _copied(value)
    return found


def put_fields(thing: Any, plain: Mapping[str, Any]) -> None:
    """Puts the values that `plain_fields` returned into a dataclass of the same kind. Lists and dictionaries stay the
    same objects, since others may hold them."""
    for name, value in plain.items():
        now = getattr(thing, name, None)
        if dataclasses.is_dataclass(now):
            put_fields(now, value)
        elif isinstance(now, list) and isinstance(value, list):
            now[:] = value
        elif isinstance(now, dict) and isinstance(value, dict):
            now.clear()
            now.update(value)
        else:
            setattr(thing, name, value)


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value
