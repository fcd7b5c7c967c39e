"""The whole way: closed forms, a regression beside importance sampling, and the posteriors that no normal holds."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.gaussian.full_rank import cheap_hessians, full_rank, starting_points, weights_of
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered
from tests.cases.densities import BANANA, FUNNEL, Target, logistic, normal
from tests.cases.repeats import seeds


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize(("D", "condition", "far"), [(20, 1e6, 5.0), (20, 100.0, 1e6), (200, 1e6, 5.0)])
def test_a_normal_posterior_is_exact(D, condition, far, seed):
    target, truth = normal(D, condition, far)
    found = full_rank(target.scores, target.starts(seed), target.hessians, seed=seed)
    assert found.converged and max(truth.errors(found.normal)) < 1e-6
    assert found.weighed.importance.reliable
    assert found.weighed.importance.log_evidence == pytest.approx(truth.log_evidence, abs=1e-4)


def test_units_do_not_matter():
    target, truth = normal(8, 100.0, scales=torch.logspace(-4, 6, 8, dtype=torch.float64))
    found = full_rank(target.scores, target.starts(0), target.hessians)
    assert found.converged and max(truth.errors(found.normal)) < 1e-6


@pytest.mark.parametrize("seed", seeds(5))
def test_a_logistic_regression_beside_importance_sampling(seed):
    target = logistic()
    found = full_rank(target.scores, target.starts(seed), target.hessians, seed=seed)
    q = found.normal
    weighed = weights_of(target.scores, q, 40_000, 99)
    assert weighed.importance.ess > 20_000 and found.converged and found.weighed.importance.reliable
    assert weighed.mean_errors.abs().max() < 0.05 and (weighed.sd_ratios - 1).abs().max() < 0.05


def test_importance_weights_know_how_far_off_a_normal_is():
    target, truth = normal(3, 10.0)
    sd = truth.covariance.diagonal().sqrt()
    L = torch.linalg.cholesky(truth.covariance)
    weighed = weights_of(target.scores, FullRankNormal(truth.mean + 0.3 * sd, 1.2 * L), 40_000, 0)
    torch.testing.assert_close(weighed.mean_errors, torch.full_like(sd, 0.3), atol=0.03, rtol=0)
    torch.testing.assert_close(weighed.sd_ratios, torch.full_like(sd, 1.2), atol=0.03, rtol=0)


@pytest.mark.parametrize("seed", seeds(5))
@pytest.mark.parametrize("target", [BANANA, FUNNEL], ids=["banana", "funnel"])
def test_what_no_normal_holds_is_never_called_reliable_and_converged(target, seed):
    found = full_rank(target.scores, target.starts(seed), target.hessians, seed=seed)
    assert not (found.converged and found.weighed.importance.reliable)


@pytest.mark.parametrize("seed", seeds(3))
def test_a_banana_has_a_heavy_tail(seed):
    found = full_rank(BANANA.scores, BANANA.starts(seed), BANANA.hessians, seed=seed)
    assert weights_of(BANANA.scores, found.normal, 50_000, 5).importance.k_hat > 0.7


def _groups(u):
    """y_j ~ N(z_j, .3), z_j ~ N(0, exp(b)), b ~ N(0, 1), 20 groups: the density has a spike at b = -infinity."""
    b, z = u[0], u[1:]
    y = torch.linspace(-1, 1, 20, dtype=u.dtype)
    return -(b**2) / 2 - (z**2).sum() * (-2 * b).exp() / 2 - 20 * b - ((y - z) ** 2).sum() / 0.18


def test_a_hierarchy_is_fitted_where_its_mass_is():
    """By quadrature over b, with the groups integrated out in closed form: the mean and the sd of b."""
    target = Target(_groups, 21)
    found = full_rank(target.scores, 5 * target.starts(1), target.hessians, seed=1)
    b, y = torch.linspace(-5, 3, 4001, dtype=torch.float64), torch.linspace(-1, 1, 20, dtype=torch.float64)
    variance = (2 * b).exp()[:, None] + 0.09
    p = torch.softmax(-(b**2) / 2 - (variance.log() / 2 + y**2 / variance / 2).sum(1), 0)
    mean = (p * b).sum()
    sd = (p * (b - mean) ** 2).sum().sqrt()
    assert found.converged and abs(found.normal.mean[0] - mean) < 0.2 * sd and abs(found.normal.sd[0] / sd - 1) < 0.2


def positive(y):
    """No density at half of the starting points: the root of a negative number."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z.sqrt(), 1.0), obs=y)


def constant_slope(y):
    """Autograd finds no second derivative of the factor, whose slope it takes for a constant."""
    z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.factor("square", -4 * (z.detach() * z).sum() + 0 * y)


def looping(y):
    z = pyro.sample("z", dist.Normal(1.0, 1.0))
    pyro.sample("y", dist.Normal(z if z.item() > -100 else -z, 1.0), obs=y)


def of(model):
    found, state, _ = prepared(model, (torch.tensor(0.5),), torch.device("cpu"), 0)
    return found, entered(state), default_dtype(found.first.dtype)


def test_starting_points_have_a_density_and_seeds_of_their_own():
    density, *inside = of(positive)
    with inside[0], inside[1]:
        points = starting_points(density, 3)
        assert points.shape == (4, 1) and (points > 0).all()
        assert torch.equal(points, starting_points(density, 3))
        assert not torch.equal(points, starting_points(density, 4))


def test_hessians_that_autograd_does_not_find_are_not_used():
    density, state, dtype = of(constant_slope)
    with state, dtype:
        assert cheap_hessians(density) is None


def test_a_model_that_runs_in_a_loop_is_fitted_too():
    density, state, dtype = of(looping)
    with state, dtype:
        hessians = cheap_hessians(density)
        assert not density.vectorised and hessians is not None
        found = full_rank(density.at_each, starting_points(density, 0), hessians)
    assert found.normal.mean.item() == pytest.approx(0.75) and found.normal.sd.item() == pytest.approx(0.5**0.5)
