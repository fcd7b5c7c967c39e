"""Finds the exact posterior that a fit is compared with."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pyro import poutine

from ..exact.closed_form import exact
from ..exact.no_closed_form import NoClosedForm
from ..inputs.beside import beside
from ..mcmc.result import Reference
from ..posterior.marginals import model_trace
from ..runtime.state import reading
from ..variational.result import Fit


class Oracle(Protocol):
    """What `posterior()` of a model, `credo.exact` and `credo.reference` return. log_evidence: log p(data), nats."""

    @property
    def marginals(self) -> Mapping[str, Any]: ...
    @property
    def log_evidence(self) -> float: ...


def find_oracle(fit: Fit, seed: int) -> tuple[Oracle, str]:
    """(the exact posterior, where it comes from). Raises ValueError with the reason if there is none."""
    if (posterior := _posterior_beside(fit.model)) is not None:
        with reading(fit.state, seed):  # networks with the weights of the fit
            found = posterior(*fit.data)
        _refuse_no_oracle("the function posterior beside the model returned", found)
        return found, "the function posterior beside the model"
    nodes: dict[str, Any] = dict(model_trace(fit).nodes)
    trained = {name: site["value"].detach() for name, site in nodes.items() if site["type"] == "param"}
    model = poutine.substitute(fit.model, data=trained) if trained else fit.model
    try:
        with reading(fit.state, seed):
            return exact(model, *fit.data), "credo.exact"
    except (NoClosedForm, NotImplementedError) as error:
        reason = str(error)
        if isinstance(error, NotImplementedError):  # of the model's own distribution, at the first run
            first_line = (reason or "it has no draws").splitlines()[0]
            reason = f"the model cannot be drawn from its prior, which may be improper: {first_line}"
        name = getattr(fit.model, "__name__", type(fit.model).__name__)
        raise ValueError(
            f"no exact posterior is known for {name!r}: {reason}. Draw from it instead, compare(fit, "
            f"credo.reference(model, *data)); or write a function posterior(*data) beside the model in its file; or "
            f"pass exact=..., an object with .marginals (site to distribution) and .log_evidence (nats)"
        ) from error


def _posterior_beside(model: Callable[..., Any]) -> Callable[..., Oracle] | None:
    """The function `posterior` in the file of the model; it gets the keywords of a functools.partial too."""
    settings: dict[str, Any] = {}
    function = model
    while isinstance(function, functools.partial):
        if function.args:
            break
        settings = {**function.keywords, **settings}
        function = function.func
    posterior = beside(function, "posterior")
    if isinstance(function, functools.partial) or beside(function, "model") is not function:
        return None
    if not inspect.isfunction(posterior):
        return None
    return functools.partial(posterior, **settings)


def _refuse_no_oracle(what: str, exact: Any) -> None:
    """Raises ValueError for an object that is no posterior."""
    if missing := [name for name in ("marginals", "log_evidence") if not hasattr(exact, name)]:
        raise ValueError(
            f"{what} a {type(exact).__name__} without .{missing[0]}, wanted a posterior with .marginals (site to "
            f"distribution) and .log_evidence (nats), as credo.exact and credo.reference return"
        )


def title(exact: Oracle) -> str:
    """The name over the columns of a reference: its own (`.name`, as "NUTS" or "importance"), else "exact"."""
    name = getattr(exact, "name", None)
    return name if isinstance(name, str) else "exact"


def name_of(exact: Oracle | None) -> str:
    """What a table says it was compared with. Raises ValueError for an object that is no posterior."""
    if exact is not None:
        _refuse_no_oracle("exact: got", exact)
    return repr(exact) if isinstance(exact, Reference) else "what was given"
