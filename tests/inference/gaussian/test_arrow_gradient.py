"""Natural gradients with groups: exact on normals, and the dense answer elsewhere."""

import pytest
import torch

from credo.inference.gaussian.arrow_ascent import arrow_paths
from credo.inference.gaussian.arrow_gradient import ARROW
from credo.inference.gaussian.arrow_normal import ArrowNormal, Blocks
from credo.inference.gaussian.natural_gradient import natural_gradient
from tests.cases.repeats import seeds
from tests.inference.gaussian.test_arrow_ascent import BLOCKS, TARGET, G, J, L

PLACES = torch.randperm(43, generator=torch.Generator().manual_seed(2))
GROUPS = Blocks(PLACES[:3], PLACES[3:].reshape(20, 2))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_normal_with_groups_is_exact():
    truth = ArrowNormal(drawn(43), drawn(3, 3), drawn(20, 2, 3), drawn(20, 2, 2), GROUPS).dense()
    precision = torch.linalg.inv(truth.covariance)

    def scores(us):
        slopes = -(us - truth.mean) @ precision
        return ((us - truth.mean) * slopes).sum(1) / 2, slopes

    eyes = torch.eye(2, dtype=torch.float64).expand(20, 2, 2)
    start = ArrowNormal(truth.mean + truth.sd, torch.eye(3).double(), torch.zeros(20, 2, 3).double(), eyes, GROUPS)
    found = natural_gradient(scores, start, ARROW)
    assert found.converged and ((found.normal.mean - truth.mean) / truth.sd).abs().max() < 1e-6
    torch.testing.assert_close(found.normal.dense().covariance, truth.covariance)


@pytest.mark.parametrize("seed", seeds(2))
def test_it_finds_the_dense_answer(seed):
    start = arrow_paths(TARGET.scores, TARGET.starts(seed), BLOCKS)[0].normal
    found = natural_gradient(TARGET.scores, start, ARROW, seed=seed)
    dense = natural_gradient(TARGET.scores, start.dense(), fewest=512, seed=seed + 10)
    assert found.rests and dense.rests and len(start.mean) == G + J * L
    assert ((found.normal.mean - dense.normal.mean) / dense.normal.sd).abs().max() < 0.05
    assert (found.normal.sd / dense.normal.sd - 1).abs().max() < 0.05
