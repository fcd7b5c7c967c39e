"""Which pairs are fitted at once, and that their ranks are those of fits one after another."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.calibration import calibrate, together
from credo.inference.calibration.one_by_one import Counts
from credo.inference.calibration.origins import origins
from credo.inference.calibration.ranks import LIKELIHOOD, PRIOR
from credo.inference.calibration.simulate import simulate
from credo.inference.calibration.together import Together
from tests.cases import calibration as cases
from tests.cases.calibration import Y

NAMES = ("m", LIKELIHOOD, PRIOR)


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


def test_data_sets_that_do_not_settle_are_fitted_one_after_another(monkeypatch):
    alone, fit = [], calibrate.fit
    monkeypatch.setattr(calibrate, "fit", lambda *a, **k: alone.append(a) or fit(*a, **k))
    monkeypatch.setattr(
        calibrate, "together", lambda *a: Together(dict.fromkeys(NAMES, torch.zeros(20, 2)), [], [3, 7])
    )
    found = credo.calibrate(cases.normal_mean, "full_rank", Y, simulations=20, draws=19, progress=False)
    assert len(alone) == 3  # the first data set and these two
    assert len(found.ranks) == 20 and (found.ranks["m"].drop([3, 7]) == 0).all()
    assert found.notes == ("2 of 20 fits did not settle at once, and were made one after another",)


def test_an_error_of_the_fits_at_once_is_told(monkeypatch):
    def no_memory(*arguments):
        raise MemoryError("no memory for the draws\nof all data sets")

    ranked = Counts([dict.fromkeys(NAMES, torch.zeros(2))] * 20, list(range(20)), [])
    monkeypatch.setattr(calibrate, "one_by_one", lambda *a: ranked)
    monkeypatch.setattr(together, "_normals", no_memory)
    found = credo.calibrate(cases.normal_mean, None, Y, simulations=20, draws=19, progress=False)
    assert found.method == "fitted by exact, one after another"
    assert found.notes == ("fitted one after another, not at once: no memory for the draws",)


def test_normals_that_move_are_those_to_be_made_again(monkeypatch):
    moving = torch.arange(20) < 3
    normals = together.normals
    monkeypatch.setattr(together, "normals", lambda *a, **k: normals(*a, **k)._replace(moving=moving))
    drawn = simulate(cases.normal_mean, (Y,), origins(cases.normal_mean, (Y,), ["y"]), 20, 0, ["y"])
    first = credo.fit(cases.normal_mean, "full_rank", *drawn.data((Y,), 0), progress=False)
    assert together.together(first, drawn, torch.optim.Adam, None, 19, 0).again == [0, 1, 2]


@pytest.mark.slow
def test_guides_that_read_values_are_fitted_one_after_another():
    options = {"simulations": 20, "draws": 19, "steps": 150, "compile": False, "plan": "fast", "progress": False}
    found = credo.calibrate(cases.normal_mean, trained_in_a_branch, Y, **options)
    assert found.method == "fitted by svi, one after another"
    at_once = credo.calibrate(cases.normal_mean, trained, Y, **options)
    assert at_once.method == "fitted by svi, all data sets at once"
    assert (found.ranks["m"] - at_once.ranks["m"]).abs().mean() < 4  # of draws with other noise


def test_a_guide_that_is_too_narrow_by_its_parameter_is_found():
    def narrow(y):
        pyro.sample("m", dist.Normal(pyro.param("loc", torch.zeros(())), 0.15))

    found = credo.calibrate(cases.normal_mean, narrow, Y, simulations=100, draws=99, steps=300, progress=False)
    assert not found.calibrated


def test_too_few_steps_are_found():
    found = credo.calibrate(cases.normal_mean, trained, Y, simulations=200, draws=99, steps=5, progress=False)
    assert found.method.endswith("all data sets at once") and not found.calibrated


def test_mean_field_without_steps_is_calibrated_at_once():
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    found = calibrate.calibrate(model, "mean_field", Y, simulations=20)
    assert found.method.startswith("fitted by mean field, by fixed draws") and "at once" in found.method
