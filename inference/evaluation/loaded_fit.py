"""A fit from what its file describes: the programs are the user's, all tensors those of the file.

The programs run once on the data (or on stand-ins of their shapes), so that networks and autoguides have all their
parts; then the tensors of the file take the place of theirs.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoLaplaceApproximation, AutoMultivariateNormal

from ..gaussian.arrow_normal import ArrowNormal, Blocks
from ..gaussian.low_rank_normal import LowRankNormal
from ..gaussian.normal_guide import AutoNormalOf
from ..inputs.arguments import shown
from ..pair.amortised import read_as
from ..pair.autoguide import WORDS, start_elsewhere, with_guide, without_finite
from ..pair.pair import Program
from ..planning.plan import Plan, recipe_of
from ..posterior.weighted_guide import WeightedGuide
from ..runtime.defaults import default_dtype
from ..runtime.retries import at_other_draws
from ..runtime.state import entered, new_state
from ..runtime.traced import traced
from ..storage.absent import Absent, data_of
from ..storage.states import placed
from ..storage.values import device_here, restored
from ..variational.result import Fit
from ..variational.saved import AMORTISED, EXACT, LAPLACE, NORMAL, OWN, STORED, WEIGHTED, identity_of
from .exact_guide import ExactGuide
from .loaded_posterior import exact_of, refuse_other_pair

# The words of `guide=` that a guide of credo's may come from, by how it is made again.
MAY_BE = {"map": ("map", "mle"), "full_rank": ("full_rank", "laplace"), NORMAL: ("full_rank", "low_rank"), EXACT: ()}


def fit_of(saved: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], model: Program, guide: Any, data: Any) -> Fit:
    """The fit. saved, tensors: what the file holds. data: those that the user gives."""
    found = {key: restored(json, tensors, STORED) for key, json in saved.items() if key not in ("exact", "kind")}
    with default_dtype(found["data"].get("default", torch.get_default_dtype())):
        return _fit_of(found, saved["exact"], tensors, model, guide, data)


def _fit_of(
    found: Mapping[str, Any],
    closed: Mapping[str, Any] | None,
    tensors: Mapping[str, torch.Tensor],
    model: Program,
    guide: Any,
    data: Any,
) -> Fit:
    """`fit_of` in the default dtype of the fit. found: the parts of the file. closed: what it says of `Fit.exact`."""
    about, fields, device = found["data"], found["fields"], device_here(found["device"])
    values = data_of(about, model, data, fields["columns"], fields["codes"], device)
    exact = None if closed is None else exact_of(closed, tensors, model, data)
    trained: Program
    program: Program
    if found["guide"]["kind"] == EXACT:
        trained, program = model, ExactGuide(exact=exact, **found["guide"]["fields"])  # type: ignore[arg-type]
        if guide is not None:
            raise _leave_it_out(guide, "exact")
    else:
        trained, program = _programs(found, model, guide, about["dtype"])
    state = new_state((trained, program, values), fields["seed"], device)
    with entered(state):
        _run(trained, program, values)
        if found["guide"]["kind"] == LAPLACE:
            program = _completed(program, values)
        try:
            now = placed(found["parts"], (model, program, values), device)
        except ValueError as error:
            if not isinstance(values, Absent):
                raise
            raise ValueError(
                f"{error}. The data are not in the file, and stand-ins of their shapes took their place; if these "
                f"programs are right, pass the data: credo.load_fit(path, model, guide, *data)"
            ) from error
    plan = found["plan"]
    recipe = recipe_of(plan["entries"], plan["facts"], plan["antithetic"])
    known = {name: value for name, value in fields.items() if name in Fit.__dataclass_fields__}
    fit = Fit(model, program, values, state=now, plan=Plan(**plan, recipe=recipe), exact=exact, **known)
    refuse_other_pair(identity_of(fit), about, values, same_draws=fit.state.device.type == found["device"].type)
    return fit


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
        raise _leave_it_out(guide, found["fields"]["method"])
    if kind == WEIGHTED:
        return model, WeightedGuide(made["values"], made["log_weights"])
    if kind == NORMAL:
        with default_dtype(dtype):
            return model, AutoNormalOf(without_finite(model), _normal(made["normal"]))
    if kind == AMORTISED:
        return model, read_as(with_guide(model, AMORTISED)[1], made["reads"])
    return with_guide(model, "mle" if guide == "mle" else kind)


def _leave_it_out(guide: Any, method: str) -> ValueError:
    return ValueError(f"guide: got {shown(guide)}, and credo made the guide of this fit ({method}); leave it out")


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
            f"{str(error).partition(chr(10))[0]}); pass them: credo.load_fit("
            f"path, model, guide, *data)"
        ) from error
