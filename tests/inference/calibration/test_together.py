"""Which pairs are fitted at once, and that their ranks are those of fits one after another."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases import calibration as cases
from tests.cases.calibration import Y


def trained(y):
    loc = pyro.param("loc", torch.zeros(()))
    scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
    pyro.sample("m", dist.Normal(loc, scale))


def trained_in_a_branch(y):
    if y.sum() > 1e9:
        raise AssertionError
    trained(y)


def two_kinds(y):
    m = pyro.sample("m", dist.Normal(torch.tensor([-2.0, 2.0]), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(m[k.long()], 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "guide", "method"),
    [
        (cases.normal_mean, trained, "svi"),
        (cases.normal_mean, "full_rank", "full rank"),
        (cases.normal_mean, "laplace", "Laplace"),
        (cases.normal_mean, None, "exact"),
        (two_kinds, "full_rank", "full rank"),
    ],
    ids=["svi", "full rank", "laplace", "exact", "finite sites"],
)
def test_data_sets_are_fitted_at_once(model, guide, method):
    found = credo.calibrate(model, guide, Y, simulations=100, draws=99, progress=False)
    assert found.method == f"fitted by {method}, all data sets at once", found
    assert found.calibrated, found
    assert "k[5]" in found.ranks if model is two_kinds else "m" in found.ranks


@pytest.mark.slow
def test_guides_that_read_values_are_fitted_one_after_another():
    options = {"simulations": 20, "draws": 19, "steps": 150, "compile": False, "plan": "fast", "progress": False}
    found = credo.calibrate(cases.normal_mean, trained_in_a_branch, Y, **options)
    assert found.method == "fitted by svi, one after another"
    together = credo.calibrate(cases.normal_mean, trained, Y, **options)
    assert together.method == "fitted by svi, all data sets at once"
    assert (found.ranks["m"] - together.ranks["m"]).abs().mean() < 4  # of draws with other noise


def test_a_guide_that_is_too_narrow_by_its_parameter_is_found():
    def narrow(y):
        pyro.sample("m", dist.Normal(pyro.param("loc", torch.zeros(())), 0.15))

    found = credo.calibrate(cases.normal_mean, narrow, Y, simulations=100, draws=99, steps=300, progress=False)
    assert not found.calibrated


def test_too_few_steps_are_found():
    found = credo.calibrate(cases.normal_mean, trained, Y, simulations=200, draws=99, steps=5, progress=False)
    assert found.method.endswith("all data sets at once") and not found.calibrated
