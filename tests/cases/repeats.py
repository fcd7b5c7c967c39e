"""Repeats of a test with other noise: the first is fast, the others are slow tests."""

from typing import Any

import pytest


def seeds(n: int) -> list[Any]:
    """0, and with `-m slow` also 1 to n - 1: they show what one seed shows, on other draws."""
    return [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, n))]
