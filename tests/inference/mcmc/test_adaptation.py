"""The windows of the warm-up, dual averaging of the step size, and the mass matrix mended by draws."""

import math
from itertools import pairwise

import numpy as np
import pytest

from credo.inference.mcmc.adaptation import adapted, begun, mended, windows


@pytest.mark.parametrize("warmup", [20, 80, 150, 500, 1001])
def test_windows_double_and_use_the_whole_warm_up(warmup):
    parts = windows(warmup)
    assert sum(part.transitions for part in parts) == warmup and all(part.transitions > 0 for part in parts)
    mending = [part.transitions for part in parts if part.mends]
    assert not parts[0].mends and not parts[-1].mends and len(mending) == len(parts) - 2
    assert all(b >= 2 * a for a, b in pairwise(mending))


@pytest.mark.parametrize("first", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("target", [0.6, 0.8, 0.95])
def test_the_step_size_comes_to_the_acceptance_that_is_wanted(first, target):
    """Where the acceptance probability of a step is exp(-step)."""
    step = begun(first)
    for _ in range(500):
        step = adapted(step, math.exp(-math.exp(step.log)), target)
    assert math.exp(-math.exp(step.average)) == pytest.approx(target, abs=0.02)


def drawn(S, n, seed=0):
    L = np.linalg.cholesky(S)
    return np.random.default_rng(seed).standard_normal((4, n, len(S))) @ L.T + np.arange(4.0)[:, None, None] * 100


S = np.array([[1.0, 0.995e-2], [0.995e-2, 1e-4]])


def test_a_wrong_mass_matrix_is_mended_by_draws():
    """Of chains in different places: each about its own mean."""
    F = np.eye(2)
    for n in (50, 100, 200):
        F = mended(F, drawn(S, n))
    assert np.abs(F @ F.T / S - 1).max() < 0.25


def test_a_right_mass_matrix_is_hardly_changed_by_few_draws():
    L = np.linalg.cholesky(S)
    F = mended(L, drawn(S, 5))
    eigenvalues = np.linalg.eigvalsh(np.linalg.solve(L, np.linalg.solve(L, F @ F.T).T))
    assert 0.4 < eigenvalues.min() and eigenvalues.max() < 2.5


def test_the_sds_alone_of_a_diagonal_one():
    F = mended(np.ones(2), drawn(S, 1000))
    assert F.shape == (2,) and F == pytest.approx([1.0, math.sqrt(1e-4 + 5 / 4000)], rel=0.1)
    assert mended(F, drawn(S, 1000)) == pytest.approx([1.0, 0.01], rel=0.1)


def test_draws_that_are_not_finite_change_nothing():
    draws = drawn(S, 10)
    draws[0, 0, 0] = np.inf
    for F in (np.eye(2), np.ones(2)):
        with np.errstate(all="ignore"):
            assert np.array_equal(mended(F, draws), F)
