"""The iterates of a stage: averages over their last quarter, and whether they move."""

import pytest
import torch

from credo.inference.convergence.iterates import Iterates, drift


@pytest.mark.parametrize("n", [25, 60, 300, 599, 600, 5000])
def test_the_average_is_that_of_about_the_last_quarter(n):
    """Iterates 0, 1, 2, ...: an average over the last quarter of whole blocks lies within a block of 7/8 of the way."""
    iterates = Iterates()
    for i in range(n):
        iterates.add(torch.tensor([float(i), -float(i)]))
    average = iterates.average()
    seen = iterates.block * len(iterates.means)
    assert len(iterates.means) < 24 and n - seen < iterates.block
    k = max(1, len(iterates.means) // 4) * iterates.block
    assert average.tolist() == pytest.approx([seen - (k + 1) / 2, -(seen - (k + 1) / 2)])


def test_iterates_that_are_not_finite_do_not_enter_the_average():
    iterates = Iterates()
    for value in [1.0] * 25 + [float("nan")] * 25:
        iterates.add(torch.tensor([value]))
    assert iterates.average().item() == 1.0


def test_a_new_parameter_begins_the_average_anew():
    iterates = Iterates()
    for i in range(50):
        iterates.add(torch.ones(1 if i < 25 else 2))
    assert iterates.average().shape == (2,)


def test_drift_is_small_for_noise_and_large_for_a_trend():
    torch.manual_seed(0)
    noise = torch.randn(2, 5, 1000)
    # the squared difference of two means of five over its estimate is F(1, 8), of mean 8/6
    assert drift(noise[0], noise[1]) == pytest.approx(8 / 6, rel=0.3)
    assert drift(noise[0] + 3, noise[1]) > 10
    assert drift(torch.ones(5, 3), torch.ones(5, 3)) == 0.0


def test_a_parameter_on_a_straight_way_is_told_from_noise_and_from_one_that_comes_to_rest():
    torch.manual_seed(2)
    steps = torch.arange(600.0)
    ways = {"straight": 0.02 * steps, "noise": torch.randn(600), "rest": torch.exp(-steps / 100)}
    found = {}
    for name, way in ways.items():
        iterates = Iterates()
        for x in way:
            iterates.add(torch.stack([x, torch.randn(())]))
        found[name] = iterates.straight()
    assert found == {"straight": True, "noise": False, "rest": False}
