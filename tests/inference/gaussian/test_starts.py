"""Pathfinder: a normal is found at once, a spike is not taken for the mass, two modes end in two places."""

import pytest
import torch

from credo.inference.gaussian.starts import pathfinder
from tests.cases.densities import FUNNEL, MODES, Target, normal
from tests.cases.repeats import seeds


def test_a_normal_is_found_with_its_evidence():
    target, truth = normal(20, 1e6)
    paths = pathfinder(target.scores, target.starts(0), target.hessians)
    assert len(paths) == 4 and paths[0].gradients == paths[-1].gradients > 0
    for path in paths:
        assert max(truth.errors(path.normal)) < 1e-6 and path.elbo == pytest.approx(truth.log_evidence, abs=1e-6)


def test_without_hessians_the_best_normal_is_near():
    target, truth = normal(5, 100.0)
    best = pathfinder(target.scores, target.starts(0))[0]
    assert truth.log_evidence - 3 < best.elbo < truth.log_evidence + 1e-6
    assert truth.errors(best.normal)[0] < 0.1


@pytest.mark.parametrize("seed", seeds(3))
def test_the_spike_of_a_funnel_is_passed_by(seed):
    """The density rises without end as u[0] falls; the mass is where it is between -6 and 6."""
    best = pathfinder(FUNNEL.scores, FUNNEL.starts(seed), FUNNEL.hessians, seed=seed)[0]
    assert -6 < best.normal.mean[0] < 6
    assert best.elbo > 0  # the log evidence is 9.4


def test_two_modes_end_in_two_places():
    paths = pathfinder(MODES.scores, MODES.starts(0, 8), MODES.hessians)
    ends = {round(path.end[0].item()) for path in paths}
    assert ends == {-4, 4}


def test_where_no_normal_has_a_density_the_starts_are_kept():
    nowhere = Target(lambda u: u.sum() * torch.nan, 2)
    paths = pathfinder(nowhere.scores, nowhere.starts(0), nowhere.hessians)
    assert [path.elbo for path in paths] == [-torch.inf] * 4
