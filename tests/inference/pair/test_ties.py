"""Latents are tied to columns, categories and rows by what the model does with them, never by their size."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.posterior.coords import labels_of
from tests.cases.labelled import COUNTIES, houses, inputs, outputs, radon, regression

COLUMNS = ["bmi", "bp", "age", "sex"]


def labels(model, *data):
    fit = credo.fit(model, "mean_field", *data, steps=0, plan="fast", progress=False, compile=False)
    return {name: found for name, found in labels_of(fit).items() if any(found)}


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore:.*became the code")
def test_coefficients_have_the_columns(k):
    assert labels(regression, inputs(COLUMNS[:k]), outputs()) == {"b": [COLUMNS[:k]]}


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("moved", [lambda x: x.flip(-1), lambda x: x.roll(1, -1)], ids=["flip", "roll"])
def test_coefficients_that_the_model_reads_in_another_order_have_none(k, moved):
    def model(x, y=None):
        regression(moved(x), y)

    assert labels(model, inputs(COLUMNS[:k]), outputs()) == {}


@pytest.mark.parametrize("k", [1, 2, 4])
def test_columns_that_the_model_standardises_keep_their_names(k):
    def model(x, y=None):
        regression((x - x.mean(0)) / x.std(0), y)

    assert labels(model, 5 + 3 * inputs(COLUMNS[:k]), outputs()) == {"b": [COLUMNS[:k]]}


@pytest.mark.parametrize("k", [2, 3])
def test_an_intercept_and_a_slope_are_not_two_columns(k):
    def model(x, y=None):
        b = pyro.sample("b", dist.Normal(torch.zeros(k), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(b[0] + (x[:, 1:] * b[1:]).sum(-1), x[:, 0].exp()), obs=y)

    assert labels(model, inputs(COLUMNS[:k]), outputs()) == {}


def test_a_latent_of_the_same_size_that_is_something_else_has_no_names():
    def model(x, y=None):
        c = pyro.sample("c", dist.Normal(0.0, 1.0).expand([4]).to_event(1))
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([4, 4]).to_event(2))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal((x @ w).tanh() @ c, 1.0), obs=y)

    assert labels(model, inputs(COLUMNS), outputs()) == {"w": [COLUMNS, None]}


def test_scales_of_coefficients_are_tied_too():
    def model(x, y=None):
        with pyro.plate("feature", x.shape[1]):
            scale = pyro.sample("scale", dist.HalfCauchy(1.0))
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ (scale * z), 1.0), obs=y)

    def centred(x, y=None):
        scale = pyro.sample("scale", dist.HalfCauchy(1.0).expand([x.shape[1]]).to_event(1))
        z = pyro.sample("z", dist.Normal(0.0, scale).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ z, 1.0), obs=y)

    for program in (model, centred):
        assert labels(program, inputs(COLUMNS), outputs()) == {"scale": [COLUMNS], "z": [COLUMNS]}


def test_priors_that_differ_leave_the_names():
    def model(x, y=None):
        b = pyro.sample("b", dist.Normal(0.0, torch.arange(1.0, 5.0)).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ b, 1.0), obs=y)

    assert labels(model, inputs(COLUMNS), outputs()) == {"b": [COLUMNS]}


@pytest.mark.filterwarnings("ignore:.*became the codes")
@pytest.mark.parametrize("k", [2, 3, 5])
def test_groups_have_the_labels_that_are_their_codes(k):
    table = houses(k)
    assert labels(radon, table) == {"a": [COUNTIES[:k]]}

    def crossed(county, floor, y=None):
        radon(k - 1 - county, floor, y)

    assert labels(crossed, table) == {}


@pytest.mark.filterwarnings("ignore:.*became the codes")
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("place", [0, 1, 5], ids=["first", "second", "last"])
def test_labels_of_no_row_have_their_place(k, place):
    table, known = houses(k), COUNTIES[:k]
    known.insert(place, "COOK")
    table["county"] = pd.Categorical(table["county"], categories=known)
    last = len(known) - (known[-1] == "COOK")  # radon has no group behind the last code
    assert labels(radon, table) == ({} if (k, place) == (1, 0) else {"a": [known[:last]]})

    def whole(county, floor, y=None):
        with pyro.plate("counties", len(known)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(county)):
            pyro.sample("y", dist.Normal(a[county] + floor, 1.0), obs=y)

    assert labels(whole, table) == ({} if k == 1 else {"a": [known]})


@pytest.mark.filterwarnings("ignore:.*became the codes")
def test_a_predictor_of_the_groups_does_not_hide_them():
    def model(county, u, y=None):
        g = pyro.sample("g", dist.Normal(0.0, 1.0))
        with pyro.plate("counties", 5):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(county)):
            pyro.sample("y", dist.Normal((g * u + z)[county], 1.0), obs=y)

    table = houses()
    assert labels(model, table["county"], np.arange(5.0), table["y"]) == {"z": [COUNTIES]}


@pytest.mark.filterwarnings("ignore:.*became the codes")
def test_varying_slopes_have_both_names_and_their_factors_none():
    table = houses()
    x = inputs(COLUMNS[:3], len(table))

    def model(x, county, y=None):
        scale = pyro.sample("scale", dist.HalfNormal(1.0).expand([3]).to_event(1))
        factor = pyro.sample("factor", dist.LKJCholesky(3, 2.0))
        with pyro.plate("counties", 5):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        b = pyro.deterministic("b", z @ factor.T * scale)
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal((x * b[county]).sum(-1), 1.0), obs=y)

    assert labels(model, x, table["county"], table["y"]) == {
        "scale": [COLUMNS[:3]],
        "factor": [COLUMNS[:3], None],
        "z": [COUNTIES, None],
        "b": [COUNTIES, COLUMNS[:3]],
    }


@pytest.mark.filterwarnings("ignore:.*became the codes")
@pytest.mark.parametrize("k", [2, 3])
def test_means_and_scales_of_varying_slopes_are_those_of_their_columns(k):
    table = houses()

    def model(x, county, y=None):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0).expand([k]).to_event(1))
        scale = pyro.sample("scale", dist.HalfNormal(1.0).expand([k]).to_event(1))
        factor = pyro.sample("factor", dist.LKJCholesky(k, 2.0))
        with pyro.plate("counties", 5):
            b = pyro.sample("b", dist.MultivariateNormal(mean, scale_tril=scale[:, None] * factor))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal((x * b[county]).sum(-1), 1.0), obs=y)

    found = labels(model, inputs(COLUMNS[:k], len(table)), table["county"], table["y"])
    known = [COLUMNS[:k]]
    assert found["mean"] == found["scale"] == known and found["b"] == [COUNTIES, *known]
    assert found.get("factor") == (None if k == 2 else [*known, None])  # of two there is one correlation


@pytest.mark.filterwarnings("ignore:.*became the codes")
def test_two_columns_may_index_the_same_latents():
    def model(home, away, d=None):
        with pyro.plate("team", 5):
            attack = pyro.sample("attack", dist.Normal(0.0, 1.0))
            defence = pyro.sample("defence", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(home)):
            pyro.sample("d", dist.Normal(attack[home] - defence[away], 1.0), obs=d)

    home = houses()["county"]
    away = home.sample(frac=1.0, random_state=0).to_numpy()
    found = labels(model, home.to_numpy(), away, torch.randn(40))
    assert found == {"attack": [COUNTIES], "defence": [COUNTIES]}


@pytest.mark.filterwarnings("ignore:.*became the codes")
def test_weights_of_classes_have_their_labels():
    def model(x, county=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1], 5]).to_event(2))
        with pyro.plate("N", len(x)):
            pyro.sample("county", dist.Categorical(logits=x @ w), obs=county)

    assert labels(model, inputs(COLUMNS, 40), houses()["county"]) == {"w": [COLUMNS, COUNTIES]}


@pytest.mark.filterwarnings("ignore:.*became the codes")
def test_two_classes_have_none_for_a_softmax_does_not_say_which_is_which():
    def model(x, county=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1], 2]).to_event(2))
        with pyro.plate("N", len(x)):
            pyro.sample("county", dist.Categorical(logits=(x @ w).flip(-1)), obs=county)

    assert labels(model, inputs(COLUMNS, 40), houses(2)["county"]) == {"w": [COLUMNS, None]}


@pytest.mark.parametrize("turned", [False, True], ids=["as they are", "turned"])
def test_two_outcomes_have_the_names_of_their_columns(turned):
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1], 2]).to_event(2))
        with pyro.plate("N", len(x)):
            mean = x @ w
            pyro.sample("y", dist.Normal(mean.flip(-1) if turned else mean, 1.0).to_event(1), obs=y)

    outcomes = ["weight", "height"]
    found = labels(model, inputs(COLUMNS), 2 + inputs(outcomes) ** 2)
    assert found["w"] == [COLUMNS, None if turned else outcomes]


def test_tensors_have_no_names():
    x = inputs(COLUMNS)
    assert labels(regression, torch.tensor(x.to_numpy()), outputs()) == {}
    assert labels(regression, x.to_numpy(), pd.Series(outputs().numpy())) == {}
