"""Quantiles are order statistics of the draws."""

import torch

from credo.inference.distributions.summaries import quantiles


def test_quantiles_are_those_of_torch_without_interpolation():
    draws, probabilities = torch.randn(101, 2, 3), (0.05, 0.5, 0.95)
    wanted = torch.quantile(draws, torch.tensor(probabilities), dim=0, interpolation="nearest")
    torch.testing.assert_close(quantiles(draws, probabilities), wanted, rtol=0, atol=0)
