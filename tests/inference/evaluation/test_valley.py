"""The valley between two point estimates. Oracle: log p of one latent, by hand."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.evaluation.valley import valley

Y = torch.tensor([4.0, 4.2, 4.1])


def squared(y):
    """t and -t are equally likely."""
    t = pyro.sample("t", dist.Normal(0.0, 3.0))
    with pyro.plate("N", 3):
        pyro.sample("y", dist.Normal(t**2, 0.5), obs=y)


def log_p(t: float) -> float:
    return -(t**2) / 18 - ((Y - t**2) ** 2 / 0.5).sum().item()


def points_at(t: float, steps: int = 1) -> credo.Fit:
    def guide(y):
        pyro.sample("t", dist.Delta(pyro.param("at", torch.tensor(t))))

    return credo.fit(squared, guide, Y, steps=steps, lr=1e-6, progress=False, compile=False)


def test_between_two_modes_log_p_falls_as_by_hand():
    assert valley(points_at(2.0), points_at(-2.0)) == pytest.approx(log_p(2.0) - log_p(0.0), abs=1e-3)


@pytest.mark.parametrize("other", [2.0, 1.99, 1.5, 4.0])
def test_on_the_slope_of_one_mode_there_is_no_valley(other):
    assert valley(points_at(2.0), points_at(other)) < 1e-6


def test_automatic_points_move_with_their_parameters():
    fits = [credo.fit(squared, "map", Y, seed=s, steps=60, progress=False, compile=False) for s in range(6)]
    signs = [fit.params["AutoDelta.t"].sign().item() for fit in fits]
    assert len(set(signs)) == 2  # both modes are found
    for fit, sign in zip(fits, signs, strict=True):
        assert (valley(fits[0], fit) > 50) == (sign != signs[0])


def test_a_program_that_fails_on_the_way_is_not_known():
    def brittle(y):
        if abs(pyro.sample("t", dist.Normal(0.0, 3.0))) < 1:
            raise ValueError("mine")
        pyro.sample("y", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=y)

    def fit(t):
        guide = lambda y: pyro.sample("t", dist.Delta(pyro.param("at", torch.tensor(t))))  # noqa: E731
        return credo.fit(brittle, guide, Y, steps=1, lr=1e-6, progress=False, compile=False)

    assert math.isnan(valley(fit(2.0), fit(-2.0))) and not math.isnan(valley(fit(2.0), fit(2.1)))
