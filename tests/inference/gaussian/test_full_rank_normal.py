"""A normal as mean and factor beside torch's own, and whitened coordinates."""

import torch

from credo.inference.gaussian.full_rank_normal import FullRankNormal, generator, standard


def test_it_is_torchs_multivariate_normal(double):
    q = FullRankNormal(torch.randn(4), torch.randn(4, 4))  # a factor that is not triangular
    same = torch.distributions.MultivariateNormal(q.mean, q.covariance)
    e = standard(50, q, generator(0, q.mean))
    torch.testing.assert_close(q.log_prob_at(e), same.log_prob(q.at(e)))
    torch.testing.assert_close(q.sd, same.stddev)
    torch.testing.assert_close(2 * q.log_det, torch.logdet(q.covariance))


def test_a_move_in_whitened_coordinates(double):
    q = FullRankNormal(torch.randn(3), torch.randn(3, 3))
    shift, change = torch.randn(3), torch.randn(3, 3)
    e = torch.randn(5, 3)
    torch.testing.assert_close(q.moved(shift, change).at(e), q.at(shift + e @ change.T))


def test_draws_come_from_a_generator_of_their_own():
    q = FullRankNormal(torch.zeros(2), torch.eye(2))
    before = torch.get_rng_state()
    assert torch.equal(standard(3, q, generator(7, q.mean)), standard(3, q, generator(7, q.mean)))
    assert torch.equal(torch.get_rng_state(), before)
