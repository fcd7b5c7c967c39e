"""Random generators are afterwards as they were."""

import random

import numpy as np
import pytest
import torch

from credo.inference.runtime.generators import generators_kept, noise, seed_torch


def test_noise_is_common_inside_and_leaves_nothing_outside():
    torch.manual_seed(5)
    wanted = torch.rand(4)
    torch.manual_seed(5)
    with noise(1):
        one = torch.rand(4)
    with noise(1):
        assert torch.equal(torch.rand(4), one)
    assert torch.equal(torch.rand(4), wanted)


def test_all_generators_are_restored_also_after_an_error():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with pytest.raises(ZeroDivisionError), generators_kept():
        torch.rand(3), np.random.rand(3), random.random()
        1 / 0  # noqa: B018
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[2]
    assert np.random.get_state()[1].tolist() == before[1]


def test_a_seed_gives_the_numbers_of_torchs_own():
    torch.manual_seed(7)
    wanted = torch.randn(5)
    seed_torch(7)
    assert torch.equal(torch.randn(5), wanted)
