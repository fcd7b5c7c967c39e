"""The posterior of a model in closed form and log p(data): sought, checked, and put together over finite latents."""

import torch
from pyro import poutine

from ..runtime.generators import noise
from ..runtime.held import HeldSites
from .block_posterior import BlockPosterior
from .coordinates import coordinates_of
from .finite import eliminate
from .inspection import RUNS, Inspection, refuse_other_sites
from .log_joint import LogJoint, scored, values_in
from .mixture import MOST_VALUES, Component, components_of, joint_values
from .no_closed_form import NoClosedForm
from .points import Checked
from .problem import Problem
from .proof import prove
from .solve import solve

MOST_POINTS = 200  # even points over posterior and prior, at which a closed form is checked
EFFORT = 8_000_000  # budget of all checks: numbers in a run of the model, times even points, times closed forms
OVERHEAD = 5_000  # a site costs as much time as so many numbers
FEWEST_CLOSE, MOST_CLOSE = 1_000, 3_000  # points at once: 12 prior sds in steps of 0.012 to 0.004
CLOSE_EFFORT, CLOSE_SITES = 6_000_000, 100  # the same budget for them, a latent number counted as ten; sites of a model


def posterior_of(f: LogJoint, inspection: Inspection, by_value: bool = False) -> tuple[list[Component], float]:
    """(the posterior, log p(data) in nats).

    by_value: one component for each joint value of the finite latents, even if there are no continuous ones.
    """
    if not inspection.finite:
        answer = continuous_posterior(f, inspection)
        assert answer is not None
        return [Component({}, 0.0, answer[0], answer[2])], answer[1]
    if not inspection.continuous and not by_value:
        try:
            block, log_evidence = eliminate(f, inspection)
            return [Component({}, 0.0, (block,))], log_evidence
        except NoClosedForm:
            if joint_values(inspection) > MOST_VALUES:
                raise
    count = round(joint_values(inspection))
    return components_of(f, inspection, lambda held, index: continuous_posterior(held, inspection, index, count))


def continuous_posterior(
    f: LogJoint, inspection: Inspection, index: int = 0, count: int = 1
) -> tuple[tuple[BlockPosterior, ...], float, Checked | None] | None:
    """(the blocks of the continuous latents, log p(data) in nats, where checked); None if the data is impossible.

    index, count: of the joint values of finite latents, which share the effort and are checked at different points.
    """
    traces = inspection.traces
    if f.held:
        traces = [_prior_run(f, seed) for seed in range(RUNS)]
        for trace in traces:
            refuse_other_sites(inspection.traces[0], trace)
    with torch.no_grad():
        costs = [site["log_prob"] for site in scored(traces[0]).nodes.values() if "log_prob" in site]
        if f.held and any((cost == -torch.inf).any() for cost in costs):
            totals = [f(values_in(trace, inspection.continuous)).total.item() for trace in traces]
            if all(total == -torch.inf for total in totals):
                return None
        coordinates = coordinates_of({name: traces[0].nodes[name] for name in inspection.continuous})
        if not coordinates.variables:
            return (), f({}).total.item(), None
        starts = [coordinates.flat(values_in(trace, inspection.continuous)) for trace in traces]
    problem = Problem(f, coordinates, starts, rows=max(cost.numel() for cost in costs))
    numbers = sum(cost.numel() for cost in costs) + sum(v.numel() for v in f.data if isinstance(v, torch.Tensor))
    points = min(MOST_POINTS, EFFORT // (count * (numbers + OVERHEAD * len(costs))))
    with noise(index):
        candidates = solve(problem)
        close = min(MOST_CLOSE, CLOSE_EFFORT // (count * (numbers + 10 * coordinates.size)))
        close = close if close >= FEWEST_CLOSE and len(costs) <= CLOSE_SITES else 0
        log_evidence, checked = prove(problem, candidates, points, close, numbers)
    return tuple(c.posterior for c in candidates if c.posterior is not None), log_evidence, checked


def _prior_run(f: LogJoint, seed: int) -> poutine.Trace:
    with noise(seed), torch.no_grad():
        return poutine.trace(HeldSites(f.held)(f.model)).get_trace(*f.data)
