"""Ranks of the truth among draws, with ties; log densities of a model by hand."""

import torch

from credo.inference.calibration.ranks import LIKELIHOOD, PRIOR, counted, log_densities, ranks_of
from tests.cases import calibration as cases


def test_draws_below_the_truth_and_equal_to_it_are_counted():
    draws = {"z": torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])}
    assert counted(draws, {"z": torch.tensor([2.0, 5.0])})["z"].tolist() == [[1, 0], [1, 3]]


def test_ties_are_broken_at_random():
    """A finite latent that equals half of its draws: its rank is uniform among theirs."""
    S, most = 4000, 9
    counts = {"k": torch.tensor([2, 4]).expand(S, 2)}
    ranks = ranks_of(counts, most, seed=0)["k"]
    assert set(ranks) == {2, 3, 4, 5, 6}
    assert ranks.value_counts().min() > S / 5 * 0.85


def test_scalars_get_a_column_each_and_constants_none():
    counts = torch.zeros(3, 2, 2, dtype=torch.int64)
    counts[:, 1, 1] = 9  # the truth is each draw, in all data sets
    assert list(ranks_of({"L": counts}, 9, seed=0).columns) == ["L[0]"]


def test_log_densities_are_those_of_the_model():
    y, m = torch.tensor([0.5, -1.0, 2.0]), torch.tensor(0.3)
    found = log_densities(cases.normal_mean, (y,), {"m": m})
    normal = torch.distributions.Normal
    torch.testing.assert_close(found[LIKELIHOOD], normal(m, 1.0).log_prob(y).sum().double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found[PRIOR], normal(0.0, cases.SD).log_prob(m).double(), rtol=1e-6, atol=0)
