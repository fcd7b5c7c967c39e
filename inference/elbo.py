"""The objective that carries out a plan.

    -ELBO = E_q[log q(z) - log p(z)] - E_q[log p(x | z)]        nats, for the whole data set; estimated with K particles

Pathwise sites (Kingma and Welling 2014; Rezende et al. 2014): the gradient of the integrand along z = z(noise, params).
The term of log q: "KL", the divergence of a site from its prior in closed form where that is known; "STL" (sticking the
landing, Roeder, Wu and Duvenaud 2017, eq. 7), the derivative of log q at a held draw left out, which leaves the mean
alone, since E_q[d log q] = 0, and makes the gradient exact where q is the posterior; or plain "log q".
Finite sites are summed over (see `enumeration`). If any site needs the score function, Pyro's TraceGraph_ELBO does the
whole step (Schulman et al. 2015), with a moving average of the downstream cost as baseline.
"""

import copy
from typing import Any

import torch
from pyro import poutine
from pyro.infer import TraceGraph_ELBO
from pyro.infer.util import torch_item
from pyro.poutine.messenger import Messenger

from .costs import DATA, GUIDE, PRIOR, WEIGHT, Pair, Program, log_q, run
from .draws import each, repeat
from .enumeration import on_grid
from .plan import EMPTY, Plan


def differentiable_loss(
    plan: Plan, pair: Pair, particles: int, vectorised: bool, warmth: float = 1.0
) -> tuple[float, torch.Tensor]:
    """(the estimate of -ELBO in nats, a scalar whose gradient estimates that of -ELBO).

    warmth: the weight of log q(z) - log p(z) in the second; below 1 while a run warms up (not with score sites).
    """
    if plan.needs_score:
        graph = TraceGraph_ELBO(num_particles=particles)
        elbo, surrogate = graph._loss_and_surrogate_loss(pair.model, score_guide(pair.guide, plan), pair.data, {})
        return -torch_item(elbo), surrogate
    fit, divergence = _terms(pair, particles, vectorised, plan)
    loss = warmth * divergence.mean() - fit.mean()
    return loss.item() + (1 - warmth) * divergence.mean().item(), loss


def log_weights(pair: Pair, n: int, vectorised: bool, plan: Plan = EMPTY) -> torch.Tensor:
    """log p(x, z) - log q(z) for n draws z ~ q, shape (n,), in nats and double precision. Their mean is the ELBO.

    With a plan what it knows in closed form takes the place of draws: the same mean, less noise.
    """
    fit, divergence = _terms(pair, n, vectorised, plan)
    return fit - divergence


def _terms(pair: Pair, n: int, vectorised: bool, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """(log p(x | z), log q(z) - log p(z)) for n draws, shape (n,) each."""

    def one() -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        z, fit, divergence, fixed = _draw(pair, vectorised, plan)
        return z if plan.term == "STL" else {}, fit, divergence, fixed  # the sites may differ from draw to draw

    z, fit, divergence, fixed = repeat(one, n, vectorised)
    for name, value in fixed.items():  # looked at out here: inside vmap a tensor does not say
        if value.requires_grad:
            raise ValueError(
                f"site {name!r}: its distribution now depends on parameters, which it did not at the start"
            )
    if plan.term == "STL" and z:  # take out the derivative of log q at a held draw: its mean is zero
        held = {name: value.detach() for name, value in z.items()}
        score = each(lambda one: log_q(pair, one), held, vectorised)
        divergence = divergence - score + score.detach()
    return fit, divergence


def _draw(
    pair: Pair, vectorised: bool, plan: Plan
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """(z ~ q, log p(x | z), log q(z) - log p(z), log q of sites without parameters); finite sites are summed over."""
    kl = plan.kl if plan.term == "KL" else frozenset()
    fixed = frozenset(e.site for e in plan.entries if e.estimator == "sampled")
    if plan.values:
        z, costs = on_grid(pair, plan.values, kl, vectorised, fixed)
    else:
        z, costs, _ = run(pair, kl=kl, weights=fixed)
    learnt: dict[str, torch.Tensor] = {}
    sums = dict.fromkeys((DATA, PRIOR, GUIDE), torch.zeros((), dtype=torch.float64))
    for (side, name), cost in costs.items():
        if side == WEIGHT:
            learnt[name] = cost.sum()
        else:
            sums[side] = sums[side] + cost.sum(dtype=torch.float64)
    return z, sums[DATA], sums[GUIDE] - sums[PRIOR], learnt


def log_weight(pair: Pair, plan: Plan = EMPTY) -> torch.Tensor:
    """log p(x, z) - log q(z) at one draw z ~ q, a scalar."""
    _, fit, divergence, _ = _draw(pair, False, plan)
    return fit - divergence


def stl_is_legal(pair: Pair) -> bool:
    """Whether log q(z) is a function of z and the parameters alone: false for a guide with dropout of its own."""
    with torch.no_grad():
        z, _, _ = run(pair)
        return torch.equal(log_q(pair, z), log_q(pair, z))


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
