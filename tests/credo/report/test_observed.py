"""Which arguments are observations. Each model says so by how it is written."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.report.observed import Observed, observed_arguments

X, Y = torch.tensor([1.0, 2.0, 3.5]), torch.tensor([0.5, 0.0, 1.0])


def plain(x, y=None):
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x * pyro.sample("w", dist.Normal(0.0, 1.0)), 1.0), obs=y)


def turned(y, x):
    plain(x, y)


def of_its_log(x, y):
    plain(x, y.exp())


def offset(x, y):
    """x moves the mean, and what is observed."""
    plain(x, y - x)


def lagged(x):
    """An argument that predicts itself is needed."""
    with pyro.plate("N", len(x) - 1):
        pyro.sample("x", dist.Normal(x[:-1], 1.0), obs=x[1:])


def weighed(x, weights=None):
    plain(x * 0, x)
    pyro.factor("f", (weights * X).sum())


CASES = [
    (plain, (X, Y), Observed(frozenset({1}), True)),
    (turned, (Y, X), Observed(frozenset({0}), True)),
    (of_its_log, (X, Y), Observed(frozenset({1}), False)),
    (offset, (X, Y), Observed(frozenset({1}), False)),
    (lagged, (X,), Observed(frozenset())),
    (weighed, (Y, X), Observed(frozenset({0}), True)),
]


@pytest.mark.parametrize(("model", "data", "found"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_observations_are_found_by_what_they_move(model, data, found) -> None:
    assert observed_arguments(model, data) == found


@pytest.mark.parametrize(
    ("name", "place"), [("linear_regression", 1), ("bnn_regression", 2), ("bnn_classifier", 2), ("coin_toss", 0)]
)
def test_observations_of_the_pairs_are_found(name: str, place: int) -> None:
    pair = credo.load(name)
    data = tuple(v[:50] if isinstance(v, torch.Tensor) else v for v in pair.data())
    assert observed_arguments(pair.model, data).arguments == {place}


def test_gaps_in_the_observations_do_not_matter() -> None:
    """A model that leaves them out: rows that are missing move no distribution."""

    def masked(x, y):
        with pyro.plate("N", len(x)), pyro.poutine.mask(mask=~y.isnan()):
            pyro.sample(
                "y", dist.Normal(x * pyro.sample("w", dist.Normal(0.0, 1.0).mask(True)), 1.0), obs=y.nan_to_num()
            )

    y = torch.tensor([0.5, float("nan"), 1.0])
    assert observed_arguments(masked, (X, y)).arguments == {1}


def test_a_model_that_does_not_run_is_known_by_its_defaults() -> None:
    def broken(x, y=None):
        raise RuntimeError("mine")

    assert observed_arguments(broken, (X, Y)) == Observed(frozenset({1}))
