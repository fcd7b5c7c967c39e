"""Whether the gradient of an objective is right on average: many draws of it against autograd of the exact ELBO."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from scipy.stats import norm
from torch.distributions import transform_to

import credo
from credo.inference.estimators.analytic_kl import known_kl
from credo.inference.estimators.dependencies import dependencies
from credo.inference.estimators.wrong_kl import two_places
from credo.inference.pair.pair import Pair

Params = Mapping[str, torch.Tensor]


def draws_and_exact(
    runner: Any, data: tuple[Any, ...], elbo: Callable[[Params], torch.Tensor], n: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(n draws of -ELBO and of its gradient, shape (n, 1 + P); the exact ones, shape (1 + P,)), in nats.

    elbo: of the constrained parameters by name. The gradient is that in unconstrained space.
    """
    found = [draw(runner, data) for _ in range(n)]
    rows = torch.stack([torch.cat([torch.tensor([loss]), *(v.flatten() for v in g.values())]) for loss, g in found])
    constraints = runner._prepared.state.store["constraints"]
    to = {name: transform_to(constraints[name]) for name in runner.params}
    start = {name: to[name].inv(p.double()).requires_grad_() for name, p in runner.params.items()}
    loss = -elbo({name: to[name](u) for name, u in start.items()})
    exact = torch.autograd.grad(loss, [start[name] for name in found[0][1]], allow_unused=True)
    names = list(found[0][1])
    filled = [torch.zeros_like(start[k]) if g is None else g for k, g in zip(names, exact, strict=True)]
    return rows.double(), torch.cat([loss.detach()[None], *(g.flatten() for g in filled)])


def draw(runner: Any, data: tuple[Any, ...]) -> tuple[float, dict[str, torch.Tensor]]:
    """(-ELBO, its gradient) of one draw: what `evaluate_loss` and `gradients` return, each of which takes a run of the
    pair for its own half.
    """
    losses: list[float] = []
    if runner.plan is None:
        runner.prepare(*data)
    steps, of_batch = runner._steps, runner._steps.loss

    def loss(*arguments: Any) -> tuple[float, torch.Tensor]:
        found = of_batch(*arguments)
        losses.append(found[0])
        return found

    steps.loss = loss
    try:
        gradient = runner.gradients(*data)
    finally:
        del steps.loss
    return losses[0], gradient


def assert_unbiased(
    model: Any,
    guide: Any,
    data: tuple[Any, ...],
    elbo: Callable[[Params], torch.Tensor],
    *,
    term: str | None = None,
    particles: int = 100,
    n: int = 60,
    batch_size: int | None = None,
) -> None:
    """Every entry that varies has a z-score no noise of this size has in ten thousand tests; the others are exact.

    term: how log q enters; None leaves it to the plan.
    """
    runner = credo.SVI(model, guide, particles=particles, batch_size=batch_size, progress=False)
    plan = runner.prepare(*data)
    if term is not None:
        assert term in plan.terms
        runner.plan = plan.with_term(term)
    rows, exact = draws_and_exact(runner, data, elbo, n)
    sd = rows.std(0)
    rounding = 1e-5 * (1 + exact.abs())
    noisy = sd > rounding
    assert ((rows.mean(0) - exact).abs() <= rounding)[~noisy].all(), (rows.mean(0), exact)
    z = ((rows.mean(0) - exact) / (sd / n**0.5))[noisy]
    assert not len(z) or z.abs().max() <= norm.isf(1e-4 / 2 / len(z)), z


def kl_of(pair: Pair) -> dict[str, str]:
    """{site: that of the model} where KL is known and right."""
    with torch.no_grad():
        q = poutine.trace(pair.guide).get_trace(*pair.data)
        p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
        return known_kl(two_places(pair, q, p), dependencies(pair)).kl
