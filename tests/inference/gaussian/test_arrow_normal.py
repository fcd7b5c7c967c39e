"""A normal with groups beside torch's dense one."""

import torch

from credo.inference.gaussian.arrow_normal import Arrow, ArrowNormal, Blocks, of_precision

NOISE = torch.Generator().manual_seed(0)
PLACES = torch.randperm(11, generator=NOISE)
BLOCKS = Blocks(PLACES[:3], PLACES[3:].reshape(4, 2))  # 3 global latents, 4 groups of 2


def drawn(*shape):
    return torch.randn(*shape, generator=NOISE, dtype=torch.float64)


NORMAL = ArrowNormal(drawn(11), drawn(3, 3), drawn(4, 2, 3), drawn(4, 2, 2), BLOCKS)


def dense(arrow):
    found = torch.zeros(11, 11, dtype=torch.float64)
    found[BLOCKS.shared[:, None], BLOCKS.shared] = arrow.shared
    for at, cross, local in zip(BLOCKS.local, arrow.cross, arrow.local, strict=True):
        found[at[:, None], at] = local
        found[at[:, None], BLOCKS.shared], found[BLOCKS.shared[:, None], at] = cross, cross.T
    return found


def test_density_and_draws_are_those_of_the_dense_normal():
    found = NORMAL.dense()
    wanted = torch.distributions.MultivariateNormal(found.mean, found.covariance)
    e = drawn(7, 11)
    torch.testing.assert_close(NORMAL.at(e), found.at(e))
    torch.testing.assert_close(NORMAL.whitened(e), e @ found.factor)
    torch.testing.assert_close(NORMAL.back(NORMAL.at(e)), e)
    torch.testing.assert_close(NORMAL.log_prob_at(e), wanted.log_prob(NORMAL.at(e)))
    torch.testing.assert_close(NORMAL.sd, wanted.stddev)


def test_the_precision_has_the_shape_of_an_arrow():
    torch.testing.assert_close(dense(NORMAL.precision()) @ NORMAL.dense().covariance, torch.eye(11).double())


def test_a_normal_is_made_of_its_precision():
    again = of_precision(NORMAL.mean, NORMAL.precision(), BLOCKS)
    torch.testing.assert_close(again.dense().covariance, NORMAL.dense().covariance)


def test_a_normal_is_moved_in_whitened_coordinates():
    inner = ArrowNormal(torch.zeros(11).double(), drawn(3, 3), drawn(4, 2, 3), drawn(4, 2, 2), BLOCKS)
    moved, F = NORMAL.moved(shift := drawn(11), inner), NORMAL.dense().factor
    torch.testing.assert_close(moved.mean, NORMAL.mean + F @ shift)
    torch.testing.assert_close(moved.dense().covariance, F @ inner.dense().covariance @ F.T)


def test_a_precision_that_is_not_positive_loses_its_signs():
    eye = torch.eye(2, dtype=torch.float64).expand(4, 2, 2)
    found = of_precision(NORMAL.mean, Arrow(-4 * torch.eye(3).double(), torch.zeros(4, 2, 3).double(), -eye), BLOCKS)
    assert (found.sd[BLOCKS.shared] == 0.5).all() and (found.sd[BLOCKS.local] == 1).all()
