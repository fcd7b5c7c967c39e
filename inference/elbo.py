"""The objective that carries out a plan.

    -ELBO = -E_q[log p(x, z) - log q(z)]        nats, for the whole data set; estimated with K particles

Pathwise sites (Kingma and Welling 2014; Rezende et al. 2014): the gradient of the integrand along z = z(noise, params).
With the term "STL" (sticking the landing, Roeder, Wu and Duvenaud 2017, eq. 7) the derivative of log q at a held draw
is left out, which leaves the mean alone, since E_q[d log q] = 0, and makes the gradient exact where q is the posterior.
If any site needs the score function, Pyro's TraceGraph_ELBO does the whole step (Schulman et al. 2015), with a moving
average of the downstream cost as baseline.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.infer import TraceGraph_ELBO
from pyro.infer.util import torch_item
from pyro.poutine.messenger import Messenger

from .draws import each, repeat
from .plan import Plan
from .sites import drawn

Program = Callable[..., Any]


class Pair(NamedTuple):
    """A model and a guide with the data they are functions of."""

    model: Program
    guide: Program
    data: tuple[Any, ...]


def differentiable_loss(plan: Plan, pair: Pair, particles: int, vectorised: bool) -> tuple[float, torch.Tensor]:
    """(the estimate of -ELBO in nats, a scalar whose gradient estimates that of -ELBO)."""
    if plan.needs_score:
        graph = TraceGraph_ELBO(num_particles=particles)
        elbo, surrogate = graph._loss_and_surrogate_loss(pair.model, score_guide(pair.guide, plan), pair.data, {})
        return -torch_item(elbo), surrogate
    weights = log_weights(pair, particles, vectorised, stl=plan.term == "STL")
    loss = -weights.mean()
    return loss.item(), loss


def log_weights(pair: Pair, n: int, vectorised: bool, stl: bool = False) -> torch.Tensor:
    """log p(x, z) - log q(z) for n draws z ~ q, shape (n,), in nats and double precision. Their mean is the ELBO."""
    z, log_p, log_q = repeat(lambda: _draw(pair), n, vectorised)
    if stl and z:  # take out the derivative of log q at a held draw: its mean is zero
        held = {name: value.detach() for name, value in z.items()}
        score = each(lambda one: _log_q(pair, one), held, vectorised)
        log_q = log_q - score + score.detach()
    return log_p - log_q


def stl_is_legal(pair: Pair) -> bool:
    """Whether log q(z) is a function of z and the parameters alone: false for a guide with dropout of its own."""
    with torch.no_grad():
        z, _, _ = _draw(pair)
        return torch.equal(_log_q(pair, z), _log_q(pair, z))


def log_weight(pair: Pair) -> torch.Tensor:
    """log p(x, z) - log q(z) at one draw z ~ q, a scalar."""
    _, log_p, log_q = _draw(pair)
    return log_p - log_q


def _draw(pair: Pair) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """(z ~ q, log p(x, z), log q(z))."""
    q = poutine.trace(pair.guide).get_trace(*pair.data)
    p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
    z = {name: site["value"] for name, site in drawn(q).items()}
    return z, _log_prob(p), _log_prob(q)


def _log_q(pair: Pair, z: dict[str, torch.Tensor]) -> torch.Tensor:
    return _log_prob(poutine.trace(poutine.condition(pair.guide, z)).get_trace(*pair.data))


def score_guide(guide: Program, plan: Plan) -> Program:
    """The guide with the baselines of the plan, and without the paths through sites planned as score."""

    def baselines(site: Any) -> Any:
        return {"baseline": {"use_decaying_avg_baseline": True}} if plan.estimator(site["name"]) == "score" else {}

    def run(*args: Any, **kwargs: Any) -> Any:
        with _WithoutPaths(plan):
            return poutine.infer_config(guide, config_fn=baselines)(*args, **kwargs)

    return run


class _WithoutPaths(Messenger):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def _pyro_sample(self, msg: Any) -> None:
        if self.plan.estimator(msg["name"]) == "score" and getattr(msg["fn"], "has_rsample", False):
            msg["fn"] = _without_path(msg["fn"])


def _without_path(fn: Any) -> Any:
    """A copy of the distribution whose draws carry no gradient, whatever wraps it."""
    fn = copy.copy(fn)
    if isinstance(type(fn).has_rsample, property):  # of Independent, expanded and transformed distributions
        fn.base_dist = _without_path(fn.base_dist)
    else:
        fn.has_rsample = False
    return fn


def _log_prob(trace: poutine.Trace) -> torch.Tensor:
    trace.compute_log_prob()
    total = torch.zeros((), dtype=torch.float64)
    for site in trace.nodes.values():
        if site["type"] == "sample":
            total = total + site["log_prob"].sum(dtype=torch.float64)
    return total
