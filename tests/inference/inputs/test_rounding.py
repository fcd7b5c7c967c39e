"""Data whose digits single precision does not hold are warned of, and no other data."""

import pytest
import torch

from credo.inference.inputs.rounding import digits_lost

SECONDS = 1.764e9 + torch.arange(3600, dtype=torch.float64)  # an hour in 2025, in seconds since 1970


@pytest.mark.parametrize("kind", [torch.float64, torch.int64])
def test_unix_times_lose_digits_and_the_warning_counts_them(kind):
    t = SECONDS.to(kind)
    left = len(t.to(torch.float32).unique())
    message = digits_lost("t", t)
    assert "t: single precision rounds these values by up to 64" in message
    assert f"{3600 - left:,} of 3,600 distinct values" in message and "Subtract a constant" in message


def test_a_column_of_a_matrix_is_named_by_its_number():
    assert digits_lost("X", torch.stack([SECONDS - SECONDS[0], SECONDS], -1)).startswith("X, column 1: ")


def test_other_data_lose_nothing_that_matters():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1000, generator=generator, dtype=torch.float64)
    for value in (
        noise,
        1e6 + noise * 1e4,
        1e9 * noise,  # large, but as widely spread
        SECONDS - SECONDS.mean(),
        SECONDS.float(),  # has been rounded before
        torch.full((5,), 1.7e9, dtype=torch.float64),  # a constant
        torch.arange(100_000),
        torch.poisson(1e6 + 0 * noise).long(),
        torch.tensor(1.7e9, dtype=torch.float64),
        1e9 + 256 * torch.arange(5, dtype=torch.float64),  # exact all the same
        torch.eye(3, dtype=torch.float64).to_sparse(),
    ):
        assert digits_lost("x", value) is None
