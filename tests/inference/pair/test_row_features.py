"""The rows of data as numbers: standardised by constants, the same in any batch, with gaps, tails and categories."""

import pytest
import torch

from credo.inference.pair.row_features import CATEGORIES, FAR, MOST, features, readings


def test_columns_are_standardised_by_constants_of_the_first_data():
    x = torch.randn(500, 2, 3) * torch.tensor([1.0, 10.0, 0.1]) + 5
    reads = readings((x,), (0,), torch.float32)
    u = features(reads, (x,))
    assert u.shape == (500, 6)
    torch.testing.assert_close(u.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(u.std(0, correction=0), torch.ones(6))
    torch.testing.assert_close(features(reads, (x[7:9],)), u[7:9])  # of any batch


def test_much_data_is_sampled():
    x = torch.arange(3.0 * MOST).reshape(-1, 1)
    mean = readings((x,), (0,), torch.float32)[0].centre.item()
    assert abs(mean - 1.5 * MOST) < 0.05 * MOST and mean != 1.5 * MOST


def test_gaps_are_zeros_with_an_indicator_and_a_gap_that_comes_later_is_a_zero():
    x = torch.tensor([[1.0, 2.0], [float("nan"), 4.0], [3.0, 6.0]])
    reads = readings((x,), (0,), torch.float32)
    u = features(reads, (x,))
    assert u[:, -1].tolist() == [0.0, 1.0, 0.0] and u[1, 0] == 0 and reads[0].centre.tolist() == [2.0, 4.0]
    assert features(reads, (torch.tensor([[1.0, float("inf")]]),))[0, 1] == 0


def test_categories_have_indicators_and_a_new_one_has_none():
    code = torch.tensor([0, 5, 2, 5])
    reads = readings((code,), (0,), torch.float32)
    assert features(reads, (code,))[:, 1:].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert features(reads, (torch.tensor([7]),))[0, 1:].tolist() == [0, 0, 0]
    many, two = torch.arange(CATEGORIES + 1), torch.tensor([True, False])
    assert [one.width for one in readings((many, two), (0, 1), torch.float32)] == [1, 1]


def test_heavy_tails_are_clipped_and_bent():
    counts = torch.cat([torch.arange(10.0), torch.full((990,), 3.0), torch.tensor([10_000.0])])
    (one,) = readings((counts,), (0,), torch.float32)
    u = features((one,), (counts,))
    assert one.width == 2 and u[-1, 0] == FAR
    assert u[1, 1] - u[0, 1] > 0.03 * (u[-1, 1] - u[1, 1])  # small counts stay apart
    constant = torch.ones(5)
    assert features(readings((constant,), (0,), torch.float32), (constant,)).tolist() == [[0.0]] * 5


def test_other_columns_are_refused():
    reads = readings((torch.randn(4, 2),), (0,), torch.float32)
    for other in (None, torch.randn(4, 3), 3.0):
        with pytest.raises(ValueError, match="argument 1 of the model, 2 numbers a row; got"):
            features(reads, (other,))
