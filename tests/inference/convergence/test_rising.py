"""A rise of -ELBO. Oracle: losses made by hand, whose noise and whose way are known."""

import math

import pytest
import torch

from credo.inference.convergence.rising import rising


def noisy(mean, sd, seed=0):
    torch.manual_seed(seed)
    return (torch.as_tensor(mean, dtype=torch.float64) + sd * torch.randn(len(mean), dtype=torch.float64)).tolist()


FALL = [1000 * math.exp(-t / 40) + 500 for t in range(400)]


def test_a_rise_beyond_the_noise_is_told_with_its_size_and_its_step():
    losses = noisy([max(value, 500 + 3 * (t - 200)) for t, value in enumerate(FALL)], 5)
    words = rising(losses, 0)
    rise, step = (float(part.replace(",", "")) for part in (words.split()[3], words.split()[-1]))
    assert words.startswith("-ELBO rose by") and abs(rise - 3 * 150) < 50 and 150 <= step <= 250


@pytest.mark.parametrize("sd", [0.0, 5.0, 300.0])
@pytest.mark.parametrize("seed", range(10))
def test_noise_around_a_fall_or_a_rest_is_no_rise(sd, seed):
    assert rising(noisy(FALL, sd, seed), 0) == ""
    assert rising(noisy([500.0] * 400, sd, seed), 0) == ""


def test_waves_that_are_longer_than_a_window_are_no_rise():
    assert rising([500 + 100 * math.sin(t / 20) for t in range(400)], 0) == ""


def test_a_walk_at_rest_whose_steps_are_alike_is_seldom_called_a_rise():
    torch.manual_seed(0)
    told = 0
    for _ in range(100):
        walk = [0.0]
        for e in torch.randn(600).tolist():
            walk.append(0.9 * walk[-1] + e)
        told += rising(walk, 0) != ""
    assert told <= 3


def test_the_first_steps_with_another_objective_do_not_count_nor_does_what_is_short():
    assert rising([*[0.0] * 100, *FALL], 100) == ""
    assert rising([*[0.0] * 100, *FALL], 0) != ""
    assert rising([0.0] * 50 + [900.0] * 50, 0) == ""
