"""A normal of low rank beside torch's dense one."""

import torch

from credo.inference.gaussian.low_rank_normal import LowRankNormal

NOISE = torch.Generator().manual_seed(0)
Q = torch.linalg.qr(torch.randn(6, 2, generator=NOISE, dtype=torch.float64)).Q
NORMAL = LowRankNormal(
    torch.arange(6).double(), torch.logspace(-2, 2, 6).double(), Q, torch.tensor([-0.9, 5.0], dtype=torch.float64)
)


def test_density_and_draws_are_those_of_the_covariance():
    dense = torch.distributions.MultivariateNormal(NORMAL.mean, NORMAL.covariance)
    e = torch.randn(7, 6, generator=NOISE, dtype=torch.float64)
    torch.testing.assert_close(NORMAL.log_prob_at(e), dense.log_prob(NORMAL.at(e)))
    torch.testing.assert_close(NORMAL.sd, NORMAL.covariance.diagonal().sqrt())
    factor = NORMAL.at(torch.eye(6, dtype=torch.float64)) - NORMAL.mean  # rows F e_i
    torch.testing.assert_close(factor.T @ factor, NORMAL.covariance)
    torch.testing.assert_close(NORMAL.whitened(e), e @ factor.T)
    torch.testing.assert_close(NORMAL.back(NORMAL.at(e)), e)


def test_the_precision_has_the_same_form():
    eye = torch.eye(6, dtype=torch.float64)
    inverse = (eye - (Q * (NORMAL.stretch / (1 + NORMAL.stretch))) @ Q.T) / NORMAL.scale / NORMAL.scale[:, None]
    torch.testing.assert_close(inverse @ NORMAL.covariance, eye)
