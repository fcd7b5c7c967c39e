"""The score function beside sums over all draws: two particles, and one particle with a moving average."""

from itertools import product

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.estimators.score import DECAY, Score, surrogate
from credo.inference.objective.elbo import differentiable_loss
from credo.inference.pair.pair import Pair
from credo.inference.runtime.state import entered

COST = torch.tensor([3.0, -1.0])  # of z = 0 and z = 1, nats


def test_two_particles_have_the_exact_mean_gradient():
    """E over all pairs of draws of the surrogate's gradient = gradient of sum_k q(k) cost(k)."""
    logit = torch.tensor(0.4, requires_grad=True)
    q = torch.stack([torch.sigmoid(-logit), torch.sigmoid(logit)])
    (exact,) = torch.autograd.grad((q * COST).sum(), logit, retain_graph=True)
    total = torch.tensor(0.0)
    for draws in product((0, 1), repeat=2):
        index = torch.tensor(draws)
        value = surrogate({"z": Score(q.log()[index], COST[index])}, None)
        (slope,) = torch.autograd.grad(value, logit, retain_graph=True)
        total = total + q.detach()[index].prod() * slope
    assert total.item() == pytest.approx(exact.item(), rel=1e-5)


def test_one_particle_has_a_moving_average_of_the_costs_before_it():
    baselines: dict[str, torch.Tensor] = {}
    log_q = torch.tensor([0.0], requires_grad=True)
    slopes = []
    for cost in (3.0, -1.0, 5.0):
        value = surrogate({"z": Score(log_q, torch.tensor([cost]))}, baselines)
        slopes.append(torch.autograd.grad(value, log_q)[0].item())
    second = DECAY * 3.0 + (1 - DECAY) * -1.0
    assert slopes == pytest.approx([3.0, -1.0 - 3.0, 5.0 - second])
    assert baselines["z"].item() == pytest.approx(DECAY * second + (1 - DECAY) * 5.0)


def test_a_support_that_moves_with_a_parameter_is_refused_and_draws_carry_no_path():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def uniform(x):
        pyro.sample("z", dist.Uniform(0.0, pyro.param("top", torch.tensor(1.5))))

    def normal(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), 0.6))

    x = torch.tensor(0.7)
    with pytest.raises(ValueError, match=r"'z'.*support moves with the parameters"):
        credo.plan(model, uniform, x, plan={"z": "score"})
    runner = credo.SVI(model, normal, plan={"z": "score"}, progress=False)
    plan, pair = runner.prepare(x), Pair(model, normal, (x,))
    with entered(runner._prepared.state):
        slopes = [_slope(plan, pair) for _ in range(50)]
    # KL(N(m, .6) || N(0, 1)) - E[log N(x | z, 1)] has slope m - (x - m) in m; two particles agree on it on average
    mean, sd = torch.tensor(slopes).mean(), torch.tensor(slopes).std()
    assert abs(mean - (0.3 - (0.7 - 0.3))) < 4 * sd / 50**0.5


def _slope(plan, pair):
    loc = pyro.get_param_store()._params["loc"]
    _, value = differentiable_loss(plan.recipe, pair, 400, True)
    return torch.autograd.grad(value, loc)[0].item()
