"""Ascents with groups beside the Hessian of autograd and a mode that is known."""

import pytest
import torch

from credo.inference.gaussian.arrow_ascent import arrow_paths, curved
from credo.inference.gaussian.arrow_normal import Blocks
from credo.inference.gaussian.starts import representable
from tests.cases.densities import Target
from tests.cases.repeats import seeds

J, G, L = 30, 2, 2
BLOCKS = Blocks(torch.arange(G), torch.arange(G, G + J * L).reshape(J, L))
NOISE = torch.Generator().manual_seed(0)
COUNTS = torch.poisson((1 + torch.randn(J, L, generator=NOISE)).exp(), generator=NOISE).double()


def _counts(u):
    """Poisson counts whose log rates are normal around a global mean, of a global log scale."""
    mean, scale, rates = u[0], u[1].exp(), u[2:].reshape(J, L)
    prior = -((rates - mean) / scale).square().sum() / 2 - J * L * u[1] - mean**2 / 2 - u[1].square()
    return prior + (COUNTS * rates - rates.exp()).sum() + 0.1 * (rates[:, 0] * rates[:, 1]).sum()


TARGET = Target(_counts, G + J * L)


def test_the_curvature_is_that_of_autograd():
    u = TARGET.starts(0, 1)[0]
    _, gradient, arrow = curved(TARGET.scores, u, BLOCKS)
    hessian = TARGET.hessians(u[None])[0]
    torch.testing.assert_close(gradient, TARGET.scores(u[None])[1][0])
    torch.testing.assert_close(arrow.shared, -hessian[:G, :G], rtol=1e-5, atol=1e-5)
    for j, at in enumerate(BLOCKS.local):
        torch.testing.assert_close(arrow.local[j], -hessian[at[:, None], at], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(arrow.cross[j], -hessian[at[:, None], BLOCKS.shared], rtol=1e-5, atol=1e-5)


def _even(u):
    """The same with a scale that is known: the density has a mode, where no spike is."""
    return _counts(torch.cat([u[:1], u[1:2] * 0, u[2:]])) - u[1].square() / 2


@pytest.mark.parametrize("seed", seeds(3))
def test_the_best_normal_is_that_at_the_mode_where_there_is_one(seed):
    target = Target(_even, G + J * L)
    paths = arrow_paths(target.scores, target.starts(seed), BLOCKS, seed=seed)
    assert [path.elbo for path in paths] == sorted((path.elbo for path in paths), reverse=True)
    normal, end = paths[0].normal, paths[0].end
    curvature = torch.linalg.inv(-target.hessians(end[None])[0])
    assert target.scores(end[None])[1][0] @ curvature @ target.scores(end[None])[1][0] < 1e-4
    e = torch.randn(4000, G + J * L, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    ratios = target.scores(normal.at(e))[0] - normal.log_prob_at(e)
    assert ratios.mean() > torch.logsumexp(ratios, 0) - torch.tensor(4000.0).log() - 3  # nats below the evidence


@pytest.mark.parametrize("seed", seeds(3))
def test_the_spike_of_a_hierarchy_is_no_start(seed):
    best = arrow_paths(TARGET.scores, TARGET.starts(seed), BLOCKS, seed=seed)[0]
    assert best.normal.mean[1] > -4  # log scale, where it ends below -10
    assert best.end[1] < -10


def test_a_normal_whose_draws_are_rounded_is_none():
    mean, sd = torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    assert representable(mean, sd, torch.tensor([1.0, 1e6]))
    assert not representable(mean, sd, torch.tensor([1.0, 1e15]))
