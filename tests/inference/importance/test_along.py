"""Mass that a proposal misses along one of many latents: normals whose shares are known are the oracle."""

import math

import pytest
import torch
import torch.distributions as dist

from credo.inference.gaussian.psis import importance
from credo.inference.importance.adapted import Drawn
from credo.inference.importance.along import RARE, missed_along
from credo.inference.importance.mixture import Mixture

D = 60


def missed(log_joint, sd=1.0):
    """Of a proposal N(0, 1) in all latents but one, and there N(0, sd^2)."""
    one = torch.ones(1, dtype=torch.float64)
    sds = torch.ones(D, dtype=torch.float64)
    sds[7] = sd
    proposal = Mixture(torch.zeros(1, D, dtype=torch.float64), sds.diag()[None], one, one * math.inf)
    us = proposal.sample(4000, torch.Generator().manual_seed(0))
    log_joints = log_joint(us)
    drawn = Drawn(us, log_joints, importance(log_joints - proposal.log_prob(us)), proposal)
    return missed_along(log_joint, drawn, torch.Generator().manual_seed(1))


def normal(us):
    return dist.Normal(0.0, 1.0).log_prob(us).sum(1)


def test_the_right_proposal_and_a_wider_one_miss_nothing():
    assert missed(normal) == missed(normal, 2.0) == 0.0


@pytest.mark.parametrize("short", [2.0, 2.5])
def test_a_latent_that_is_too_narrow_is_found_among_many(short):
    # N(0, short^2) is RARE times as dense as N(0, 1) beyond t, in sds of the proposal
    t = math.sqrt(2 * math.log(RARE * short) / (1 - short**-2))
    wanted = 2 * dist.Normal(0.0, 1.0).cdf(torch.tensor(-t / short)).item()
    assert missed(normal, 1 / short) == pytest.approx(wanted, abs=0.06) and wanted > 0.1


def test_points_without_a_density_have_no_mass():
    def half(us):
        return torch.where(us[:, 0] > 0, normal(us), math.nan)

    assert missed(half) == 0.0
