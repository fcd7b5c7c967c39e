"""L-BFGS beside modes that are known."""

import pytest
import torch

from credo.inference.gaussian.few_pairs import climb
from tests.cases.densities import logistic, normal


@pytest.mark.parametrize(("D", "condition"), [(20, 1e4), (200, 100.0)])
def test_it_climbs_to_the_mode_of_a_normal(D, condition):
    target, truth = normal(D, condition)
    ends = climb(target.scores, target.starts(0))
    off = ends.us - truth.mean
    loss = torch.einsum("ki,ij,kj->k", off, torch.linalg.inv(truth.covariance), off) / 2  # nats below the mode
    assert loss.shape == (4,) and loss.max() < 0.01


def test_the_diagonal_learns_the_units():
    scales = torch.logspace(-2, 2, 7, dtype=torch.float64)

    def scores(us):
        return -(us / scales).square().sum(-1) / 2, -us / scales.square()

    ends = climb(scores, 5 * scales[None])
    assert (ends.diagonals[0].sqrt() / scales).log().abs().max() < 1.5 and (ends.us[0] / scales).abs().max() < 0.1


def test_a_start_without_a_density_stays_and_spoils_no_other():
    target = logistic(5)
    starts = target.starts(1, 2)
    starts[0] = torch.nan
    ends = climb(target.scores, starts)
    assert ends.us[0].isnan().all() and target.scores(ends.us[1:])[1].norm() < 0.05
