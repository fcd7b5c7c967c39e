"""Differences between draws and weighted draws: right within their noise, largest first."""

import math

import pytest
import torch
from torch.distributions import constraints

from credo.inference.evaluation.moments import SURE, differences, not_finite

T = {"a": torch.distributions.biject_to(constraints.real), "s": torch.distributions.biject_to(constraints.positive)}


def draws(loc, scale, n=4000, seed=0):
    u = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return loc + scale * u


def even(n):
    return torch.full((n,), 1 / n, dtype=torch.float64).log()


def test_the_size_of_an_error_and_of_a_ratio():
    q, p = {"a": draws(0.5, 0.8)}, {"a": draws(0.0, 1.0, 6000, 1)}
    (found,) = differences(q, p, even(6000), T)
    assert found.mean == pytest.approx(0.5, abs=0.06) and found.ratio == pytest.approx(0.8, abs=0.03)
    assert found.size == pytest.approx(0.5 - SURE * found.noise, abs=0.06)
    assert "a: its mean is" in found.words and "sds too large" in found.words


def test_equal_draws_do_not_differ_and_the_worst_comes_first():
    q = {"a": draws(0.0, 1.0), "s": draws(0.0, 0.3, seed=2).exp()}
    p = {"a": draws(0.0, 1.0, seed=3), "s": draws(0.0, 1.0, seed=4).exp()}
    found = differences(q, p, even(4000), T)
    assert next(each.label for each in found if each.size > 0.1).startswith("s")
    assert all(each.size < 0.1 for each in found if each.label == "a")
    assert "s (unconstrained): its sd is 7" in next(e.words for e in found if "unconstrained" in e.label)


def test_noise_is_that_of_repeated_draws():
    values = [
        differences({"a": draws(0, 1, 500, s)}, {"a": draws(0, 1, 400, 999 - s)}, even(400), T)[0] for s in range(200)
    ]
    spread = torch.tensor([each.mean for each in values]).std().item()
    assert spread == pytest.approx(sum(each.noise for each in values) / 200, rel=0.25)


def test_shared_draws_differ_by_their_weights_alone():
    a = draws(0.0, 1.0)
    logs = (-(a**2) / 2 / 1.2**2 + a**2 / 2).log_softmax(0)
    (found,) = differences({"a": a}, {"a": a}, logs, T)
    assert found.ratio == pytest.approx(1 / 1.2, abs=0.02) and found.noise < 0.02
    (same,) = differences({"a": a}, {"a": a}, even(4000), T)
    assert same.noise < 1e-12 and abs(same.mean) < 1e-12


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_draw_that_is_not_finite_hides_no_difference(bad):
    q = {"a": draws(0.0, 1.0, 1000), "s": draws(0.0, 5.0, 1000, 2).exp()}
    q["s"][7] = bad
    p = {"a": draws(0.0, 1.0, 1000, 3), "s": draws(0.0, 1.0, 1000, 4).exp()}
    found = {each.label: each for each in differences(q, p, even(1000), T)}
    assert found["s (unconstrained)"].ratio == pytest.approx(5, rel=0.1) and found["s (unconstrained)"].size > 1
    assert "s" in found and not_finite(q) == ["s: NaN or infinite in 1 of 1,000 draws"] and not not_finite(p)


def test_draws_none_of_which_is_finite_are_as_far_off_as_can_be():
    (found,) = differences({"a": draws(math.nan, 1.0)}, {"a": draws(0.0, 1.0)}, even(4000), T)
    assert found.size == math.inf


def test_the_rounding_of_many_weights_is_no_sd():
    """Of thousands of draws that are 1, as the only entry of a Dirichlet, whose weights sum to 1 but for rounding."""
    ones, log_weights = torch.ones(2000, 1).double(), draws(0.0, 1.0, 2000).log_softmax(0)
    for constant in (1.0, 0.3, -7e8):
        assert differences({"w": constant * ones}, {"w": constant * ones}, log_weights, {}) == []
    assert len(differences({"w": ones}, {"w": 1.001 * ones}, log_weights, {})) == len(
        differences({"w": ones[:1000]}, {"w": 1.001 * ones[:1000]}, even(1000), {})
    )


@pytest.mark.parametrize(("off", "rows"), [(0.0, 0), (1e-3, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_constant_up_to_rounding_has_no_row_unless_the_constants_differ(dtype, off, rows):
    """As the first entry of a Cholesky factor of correlations, which is 1."""
    one = torch.ones(1000, 1, dtype=dtype)
    one[::2] += torch.finfo(dtype).eps
    two = torch.ones(500, 1, dtype=torch.float64) + off
    two[::3] -= 1e-16
    assert len(differences({"L": one}, {"L": two}, even(500), {})) == rows
    narrow = {"L": 1 + 1e-5 * draws(0.0, 1.0, 500)[:, None]}
    assert len(differences(narrow, narrow, even(500), {})) == 1
