"""The error of unreliable draws: its remedy is that of the problem, and it holds the draws."""

import pytest
import torch

import credo


def reference(z, divergences=(0, 0, 0, 0), stopped="all asked for"):
    return credo.Reference({"z": z}, divergences, stopped, seed=0, finite={})


@pytest.fixture
def independent():
    """Draws of N(3, 2) in four chains of 500, two numbers each."""
    return 3 + 2 * torch.randn(4, 500, 2, generator=torch.Generator().manual_seed(1))


def test_the_remedy_is_that_of_the_problem(independent):
    def remedy(*reference_of):
        return str(credo.UnreliableReference(reference(*reference_of)))

    assert "z = mean + sd * e" in remedy(independent, (0, 30, 0, 0)) and "narrows" in remedy(independent, (0, 30, 0, 0))
    apart = independent + torch.tensor([-5.0, 5.0, -5.0, 5.0])[:, None, None]
    assert "modes" in remedy(apart) and "narrows" not in remedy(apart)
    assert remedy(independent[:, :20]).count("More draws") == 1


def test_the_draws_are_kept_and_the_end_of_the_run_is_said(independent):
    found = reference(independent[:, :20], stopped="stopped after 20 of 500 draws of each chain")
    error = credo.UnreliableReference(found)
    assert error.reference is found and "(stopped after 20 of 500 draws of each chain). .reference still" in str(error)
