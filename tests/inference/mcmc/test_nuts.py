"""A transition leaves the posterior as it is, turns where it should, and tells of errors of the integrator."""

import math

import numpy as np
import pytest

from credo.inference.mcmc.nuts import Place, reasonable_step, transition


def normal(u):
    return -float(u @ u) / 2, -u


def answered(walk, scored=normal):
    """(What the generator returns, how many points it asked for.)"""
    asked, at = 0, next(walk)
    while True:
        asked += 1
        try:
            at = walk.send(scored(at))
        except StopIteration as stop:
            return stop.value, asked


def moved(u, F, step, random, scored=normal):
    return answered(transition(Place(u, *scored(u)), F, step, random), scored)


@pytest.mark.parametrize(
    "F",
    [np.eye(3), np.ones(3), np.array([[1.0, 0, 0], [0.7, 2.0, 0], [0.1, 0.3, 0.5]])],
    ids=["dense", "diagonal", "another metric"],
)
def test_a_transition_leaves_a_normal_as_it_is(F):
    """From exact draws: mean, variance and |u|^2 stay those of the standard normal."""
    random = np.random.default_rng(0)
    after = np.stack([moved(u, F, 0.9, random)[0].place.u for u in random.standard_normal((3000, 3))])
    assert np.abs(after.mean(0)).max() < 4.5 / math.sqrt(3000)
    assert np.abs(after.var(0) - 1).max() < 4.5 * math.sqrt(2 / 3000)
    assert abs(np.square(after).sum(1).var() - 6) < 4.5 * math.sqrt((60 * 6 + 2 * 36) / 3000)


def test_a_transition_leaves_a_skew_posterior_as_it_is():
    """u = log x, x ~ Gamma(2, 1): E u = digamma(2), Var u = trigamma(2)."""

    def scored(u):
        return 2 * u.sum() - np.exp(u).sum(), 2 - np.exp(u)

    random = np.random.default_rng(1)
    starts = np.log(random.gamma(2.0, size=(4000, 1)))
    after = np.concatenate([moved(u, np.ones(1), 0.7, random, scored)[0].place.u for u in starts])
    assert abs(after.mean() - 0.42278) < 4.5 * math.sqrt(0.64493 / 4000)
    assert abs(after.var() - 0.64493) < 4.5 * after.var() * math.sqrt(4 / 4000)


def test_it_turns_after_half_a_circle_and_says_how_many_steps_it_took():
    random = np.random.default_rng(0)
    counts = []
    for _ in range(200):
        found, asked = moved(random.standard_normal(2), np.ones(2), 0.1, random)
        assert asked == found.steps and found.accepted > 0.99 and not found.diverged
        counts.append(asked)
    assert 15 <= np.median(counts) <= 63  # half a circle is pi / .1 = 31 steps


def test_no_more_doublings_than_are_allowed():
    found, asked = answered(
        transition(Place(np.zeros(1), *normal(np.zeros(1))), np.ones(1), 1e-4, np.random.default_rng(0), 5)
    )
    assert asked == found.steps == 31


def test_an_error_of_the_integrator_is_a_divergence_and_moves_nowhere():
    random = np.random.default_rng(0)

    def narrow(u):
        return -1e8 * float(u @ u) / 2, -1e8 * u

    u = np.array([1e-4, -1e-4])
    found, _ = moved(u, np.ones(2), 1.0, random, narrow)
    assert found.diverged and found.accepted == 0 and np.array_equal(found.place.u, u)
    assert not moved(u, np.full(2, 1e-4), 0.5, random, narrow)[0].diverged


def test_a_point_without_a_density_is_no_place_to_go():
    """A wall at 0: a NaN beyond."""

    def half(u):
        return (normal(u)[0], -u) if u[0] > 0 else (math.nan, np.full(1, math.nan))

    random, u = np.random.default_rng(0), np.array([0.5])
    for _ in range(200):
        u = moved(u, np.ones(1), 0.8, random, half)[0].place.u
        assert u[0] > 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3])
def test_the_first_step_has_the_scale_of_the_posterior(scale, first):
    def scaled(u):
        return -float(u @ u) / 2 / scale**2, -u / scale**2

    u = scale * np.ones(2)
    step, asked = answered(reasonable_step(Place(u, *scaled(u)), np.ones(2), first, np.random.default_rng(0)), scaled)
    assert 0.1 * scale < step <= 4 * scale and asked < 60
