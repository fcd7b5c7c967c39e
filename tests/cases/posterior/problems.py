"""The problem that `credo.exact` solves for a model whose latents are all continuous."""

from collections.abc import Callable
from typing import Any

from pyro import poutine

from credo.inference.exact.coordinates import coordinates_of
from credo.inference.exact.log_joint import LogJoint, values_in
from credo.inference.exact.problem import Problem
from credo.inference.runtime.sites import latent


def problem_of(model: Callable[..., Any], *data: Any) -> Problem:
    """The problem of a model on data; its starts are three draws of the prior."""
    traces = [poutine.trace(model).get_trace(*data) for _ in range(3)]
    sites = latent(traces[0])
    coordinates = coordinates_of(sites)
    starts = [coordinates.flat(values_in(trace, sites)) for trace in traces]
    return Problem(LogJoint(model, data), coordinates, starts, rows=1)
