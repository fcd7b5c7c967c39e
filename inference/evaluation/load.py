"""`credo.load_fit`: what `.save(path)` wrote, put into the model and the guide that are given.

The programs run once on the data (or on stand-ins of their shapes), so that networks and autoguides have all their
parts; then the tensors of the file take the place of theirs.
"""

import os
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoLaplaceApproximation, AutoMultivariateNormal

from ..gaussian.arrow_normal import ArrowNormal, Blocks
from ..gaussian.low_rank_normal import LowRankNormal
from ..gaussian.normal_guide import AutoNormalOf
from ..inputs.arguments import arguments, shown
from ..inputs.call import argument_names, by_name
from ..pair.autoguide import WORDS, start_elsewhere, with_guide, without_finite
from ..pair.identity import differences
from ..pair.pair import Program
from ..planning.plan import Plan, recipe_of
from ..posterior.weighted_guide import WeightedGuide
from ..runtime.defaults import default_dtype
from ..runtime.reachable import find_modules
from ..runtime.retries import at_other_draws
from ..runtime.state import State, entered, new_state, own_modules, snapshot
from ..runtime.traced import traced
from ..storage.absent import Absent, stand_in
from ..storage.container import Described, read
from ..storage.outline import ObjectOf, TensorOf, has, refuse_different
from ..storage.states import place
from ..storage.values import device_here, restored
from ..variational.result import Fit
from ..variational.saved import EXACT, LAPLACE, NORMAL, OWN, SITES, STORED, WEIGHTED, identity_of, words_of

# The words of `guide=` that a guide of credo's may come from, by how it is made again.
MAY_BE = {"map": ("map", "mle"), "full_rank": ("full_rank", "laplace"), NORMAL: ("full_rank", "low_rank"), EXACT: ()}
DATA = "the data: credo.load_fit(path, model, guide, *data)"


def load_fit(
    path: str | os.PathLike[str],
    model: Program | None = None,
    guide: Program | str | None = None,
    *data: Any,
    **named: Any,
) -> Any:
    """The fit that `fit.save(path)` wrote: all its answers are the same, bit for bit on the same machine.

    model, guide: the functions that were fitted, or defined anew; guide=None where credo made the guide (None or a
        word). A network among the data, closed over, or in a module gets its trained weights in this fit; the object
        itself keeps the weights that it has, as in `credo.fit`; `fit.trained(net)` is a trained copy.
    data: those of the fit, as to `credo.fit`; named: by name. They may be left out, except networks: then the fit
        draws, predicts at new data, and has its parameters, losses, plan and verdict, and what depends on the values
        of the data raises ValueError. With `fit.save(path, with_data=True)` they are in the file.
    Returns an Exact or a Reference for a file that one of these wrote; a Reference needs no model for its draws.
    Raises ValueError, which names the path and what differs, for a file that is damaged, foreign or of a newer credo,
    and for another model, guide or data: other sites, families, shapes, densities, networks or values.

    >>> import credo, torch, tempfile, os
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> fit = credo.fit(pair.model, pair.guide, flips, steps=100, seed=1, compile=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit.save(os.path.join(folder, "coin.credo"))
    ...     again = credo.load_fit(os.path.join(folder, "coin.credo"), pair.model, pair.guide)
    >>> torch.equal(again.sample(10)["p"], fit.sample(10)["p"])
    True
    """
    saved, tensors = read(path, "fit")
    if model is None:
        raise ValueError(f"{path}: this file holds a fit, which needs its model: credo.load_fit(path, model, guide)")
    given = by_name(model, data, named, ("guide",))
    try:
        return _fit(saved, tensors, model, guide, given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _fit(saved: Described, tensors: dict[str, torch.Tensor], model: Program, guide: Any, data: tuple[Any, ...]) -> Fit:
    found = {key: restored(json, tensors, STORED) for key, json in saved.items()}
    file, fields, device = found["data"], found["fields"], device_here(found["device"])
    values = _values(file, fields, model, data, device)
    trained, program = _programs(found, model, guide, file["dtype"])
    state = new_state((trained, program, values), fields["seed"], device)
    with entered(state):
        _run(trained, program, values)
        if found["guide"]["kind"] == LAPLACE:
            program = _completed(program, values)
        modules = own_modules(find_modules((model, program, values)))
        now = State(dict(pyro.get_param_store().get_state()), modules, device=device)
        place(found["parts"], now)
        now = snapshot(now)
    plan = found["plan"]
    recipe = recipe_of(plan["entries"], plan["facts"], plan["antithetic"])
    known = {name: value for name, value in fields.items() if name in Fit.__dataclass_fields__}
    fit = Fit(model=model, guide=program, data=values, state=now, plan=Plan(**plan, recipe=recipe), **known)
    _refuse_other_pair(fit, file, found["device"])
    return fit


def _values(
    file: Mapping[str, Any], fields: Mapping[str, Any], model: Program, data: tuple[Any, ...], device: torch.device
) -> tuple[Any, ...]:
    """The data of the fit; stand-ins for those that neither the file nor the user gives."""
    outlines, kept = file["outlines"], file["values"] or ()
    columns, codes = fields["columns"], fields["codes"]
    given: tuple[Any, ...] = ()
    if data:
        given = arguments(model, data, file["dtype"], device, columns, codes, gaps=file["gaps"]).values
    if len(given) > len(outlines):
        raise ValueError(f"got {len(given)} arguments of data, and the fit has {len(outlines)}")
    values, missing = [], False
    for i, (name, one) in enumerate(zip(argument_names(model, len(outlines)), outlines, strict=True)):
        if i < len(given) and (given[i] is not None or one is None):
            refuse_different(name, given[i], one)
            values.append(given[i])
        elif kept and not has(one, ObjectOf):
            values.append(kept[i])
        else:
            missing = missing or has(one, TensorOf)
            values.append(stand_in(name, one, device))
    if not missing:
        return tuple(values)
    absent = Absent(values)
    absent.free, absent.file = file["free"], file
    return absent


def _programs(found: Mapping[str, Any], model: Program, guide: Any, dtype: torch.dtype) -> tuple[Program, Program]:
    """(the model that was trained, the guide), before they have run."""
    made = found["guide"]
    kind = made["kind"]
    if kind == OWN:
        if guide is None or isinstance(guide, str):
            what = made["name"] or made["class"]
            raise ValueError(
                f"guide: got {guide!r}, and the fit has a guide of the user's own ({what}); pass it: "
                f"credo.load_fit(path, model, guide, *data)"
            )
        return with_guide(model, guide)
    if kind == LAPLACE:
        return with_guide(model, guide if isinstance(guide, AutoLaplaceApproximation) else "laplace")
    allowed = MAY_BE.get(kind, (kind, *WORDS) if kind == WEIGHTED else (kind,))
    if not (guide is None or guide in allowed or isinstance(guide, AutoLaplaceApproximation) or kind == WEIGHTED):
        raise ValueError(
            f"guide: got {shown(guide)}, and the guide of this fit ({found['fields']['method']}) was made by credo; "
            f"leave it out"
        )
    if kind == WEIGHTED:
        return model, WeightedGuide(made["values"], made["log_weights"])
    if kind == NORMAL:
        with default_dtype(dtype):
            return model, AutoNormalOf(without_finite(model), _normal(made["normal"]))
    return with_guide(model, "mle" if guide == "mle" else kind)


def _normal(tensors: Mapping[str, torch.Tensor]) -> LowRankNormal | ArrowNormal:
    if "stretch" in tensors:
        return LowRankNormal(**tensors)
    parts = {name: value for name, value in tensors.items() if not name.startswith("at_")}
    return ArrowNormal(**parts, blocks=Blocks(tensors["at_shared"], tensors["at_local"]))


def _completed(guide: Any, values: tuple[Any, ...]) -> Program:
    """The normal of an AutoLaplaceApproximation, as `pair/laplace.py` makes it; its tensors are put in later."""
    normal: Any = AutoMultivariateNormal(guide.model)
    normal._setup_prototype(*values)
    for name in ("loc", "scale", "scale_tril"):
        tensor = getattr(normal, name).detach()
        delattr(normal, name)
        normal.register_buffer(name, tensor)
    program: Program = normal
    return program


def _run(model: Program, guide: Program, values: tuple[Any, ...]) -> None:
    """Runs the pair once, so that its parameters, networks and the parts of autoguides exist."""

    def once(number: int) -> None:
        start_elsewhere(guide, number)
        q = traced(guide, values)
        poutine.trace(poutine.replay(model, trace=q)).get_trace(*values)

    try:
        with torch.no_grad():
            at_other_draws(once)
    except Exception as error:
        if not isinstance(values, Absent):
            raise
        raise ValueError(
            f"model and guide do not run without the data of the fit ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}); pass {DATA}"
        ) from error


def _refuse_other_pair(fit: Fit, file: Mapping[str, Any], device: torch.device) -> None:
    """Raises ValueError for another model or guide, by their sites, families, shapes and log densities."""
    now, then = identity_of(fit), file["pair"]
    if not (now and then):
        return
    if isinstance(fit.data, Absent) or fit.state.device.type != device.type:  # other draws
        if isinstance(fit.data, Absent) and SITES not in file["free"]:
            return
        now, then = ({site: [words, None] for site, words in words_of(each).items()} for each in (now, then))
    if found := differences(now, then):
        raise ValueError(
            f"these are not the model and the guide of the fit: {'; '.join(found[:3])}; pass those that were fitted"
        )
