"""Dimensions are called after plates, columns, categories and rows, and have their labels, as ArviZ wants them."""

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.posterior.coords import dims_and_coords, labels_of
from tests.cases.labelled import COUNTIES, EIGHT, SCHOOLS, houses, inputs, outputs, radon, regression, schools

pytestmark = pytest.mark.filterwarnings("ignore:.*became the codes")


def fitted(model, *data):
    return credo.fit(model, "mean_field", *data, steps=0, plan="fast", progress=False, compile=False)


def test_columns_rows_and_plates():
    x = inputs(["bmi", "bp", "age"]).rename(index=lambda i: f"row {i}")
    dims, coords = dims_and_coords(fitted(regression, x, outputs()))
    assert dims == {"a": [], "b": ["x_column"], "y": ["N"]}
    assert coords == {"x_column": ["bmi", "bp", "age"], "N": [f"row {i}" for i in range(30)]}


def test_categories_are_called_after_their_plate():
    dims, coords = dims_and_coords(fitted(radon, houses()))
    assert dims == {"mu": [], "tau": [], "a": ["counties"], "w": [], "y": ["N"]} and coords == {"counties": COUNTIES}


def test_rows_of_a_plate_have_the_index_whatever_follows_from_them():
    dims, coords = dims_and_coords(fitted(schools, EIGHT))
    assert dims == {"mu": [], "tau": [], "z": ["J"], "theta": ["J"], "y": ["J"]} and coords == {"J": SCHOOLS}


def test_a_joint_draw_of_rows_has_the_index_without_a_plate():
    def model(sigma, y=None):
        theta = pyro.sample("theta", dist.Normal(0.0, 5.0).expand([len(sigma)]).to_event(1))
        pyro.sample("y", dist.Normal(theta, sigma).to_event(1), obs=y)

    dims, coords = dims_and_coords(fitted(model, EIGHT))
    assert dims == {"theta": ["row"], "y": ["row"]} and coords == {"row": SCHOOLS}


def test_dates_of_a_walk_are_those_of_its_plate():
    def model(y=None, n=12):
        with pyro.plate("T", n):
            step = pyro.sample("step", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(step.cumsum(-1), 0.5), obs=y)

    y = pd.Series(range(12), index=pd.date_range("2020-01-01", periods=12), dtype=float)
    dims, coords = dims_and_coords(fitted(model, y))
    assert dims == {"step": ["T"], "y": ["T"]} and coords["T"][::11] == ["2020-01-01", "2020-01-12"]


@pytest.mark.parametrize("index", [SCHOOLS, None], ids=["with an index", "without"])
def test_groups_and_rows_of_one_plate_are_told_apart(index):
    """theta is in the order of the alphabet, y in that of the rows, and both are in a plate called J."""

    def model(school, sigma, y=None):
        with pyro.plate("J", 8):
            theta = pyro.sample("theta", dist.Normal(0.0, 5.0))
            pyro.sample("y", dist.Normal(theta[school], sigma), obs=y)

    table = EIGHT.reset_index().set_axis(range(8) if index is None else index)
    dims, coords = dims_and_coords(fitted(model, table))
    assert coords[dims["theta"][0]] == sorted(SCHOOLS)
    assert coords.get(dims["y"][0]) == index


def test_values_that_follow_have_labels_only_in_the_order_of_what_they_follow_from():
    def model(x, y=None):
        b = pyro.sample("b", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
        pyro.deterministic("twice", 2 * b)
        pyro.deterministic("turned", b.flip(-1))
        pyro.deterministic("next", b.roll(1, -1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ b, 1.0), obs=y)

    for columns in (["bmi", "bp"], ["bmi", "bp", "age"]):
        found = labels_of(fitted(model, inputs(columns), outputs()))
        assert found["b"] == found["twice"] == [columns] and found["turned"] == found["next"] == [None]


def test_several_outcomes_have_the_columns_of_their_table():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([3, 2]).to_event(2))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 1.0).to_event(1), obs=y)

    found = labels_of(fitted(model, inputs(["bmi", "bp", "age"]), inputs(["weight", "height"])))
    assert found["w"] == [["bmi", "bp", "age"], ["weight", "height"]] and found["y"] == [None, ["weight", "height"]]


def test_a_dimension_has_a_name_that_no_site_has():
    def model(x, county=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1], 5]).to_event(2))
        with pyro.plate("w_column", len(x)):
            pyro.deterministic("p", (x @ w).softmax(-1))
            pyro.sample("county", dist.Categorical(logits=x @ w), obs=county)

    dims, coords = dims_and_coords(fitted(model, inputs(["bmi", "bp", "age"], 40), houses()["county"]))
    assert dims["w"] == ["x_column", "county_dim"] and coords["county_dim"] == COUNTIES
    assert dims["p"] == ["w_column", "county_dim"] and dims["county"] == ["w_column"]
    assert not coords.keys() & dims.keys() and all(len(set(names)) == len(names) for names in dims.values())


def test_a_matrix_of_coefficients_by_coefficients_has_two_dimensions():
    def model(x, y=None):
        scale = pyro.sample("scale", dist.HalfNormal(1.0).expand([3, 3]).to_event(2))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal((x @ scale * x).sum(-1), 1.0), obs=y)

    dims, coords = dims_and_coords(fitted(model, inputs(["bmi", "bp", "age"]), outputs()))
    assert dims["scale"] == ["x_column", "x_column_again"] and coords["x_column_again"] == ["bmi", "bp", "age"]


def test_tensors_have_dimensions_without_labels():
    fit = fitted(regression, torch.tensor(inputs(["bmi", "bp"]).to_numpy()), outputs())
    assert dims_and_coords(fit) == ({"a": [], "b": ["b_dim_0"], "y": ["N"]}, {}) and labels_of(fit) == {}


def test_summary_exact_and_comparison_call_scalars_alike():
    def model(x, y=None):
        with pyro.plate("feature", x.shape[1]):
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ b, 1.0), obs=y)

    x, names = inputs(["bmi", "bp", "age"]), ["b[bmi]", "b[bp]", "b[age]"]
    fit, exact = credo.fit(model, None, x, outputs()), credo.exact(model, x, outputs())
    assert fit.method == "exact" and list(fit.summary(100).index) == list(exact.summary(100).index) == names
    assert list(credo.compare(fit).index) == list(credo.compare(fit, exact).index) == names
    assert list(fit.summary(100, corrected=True).index) == names
    assert dims_and_coords(exact) == dims_and_coords(fit)


def test_draws_of_a_reference_have_names():
    try:
        found = credo.reference(schools, EIGHT, draws=20, warmup=20, chains=2, progress=False)
    except credo.UnreliableReference as error:
        found = error.reference
    assert list(found.summary().index)[2:4] == ["z[Choate]", "z[Deerfield]"]


def test_a_verdict_and_the_problems_of_a_reference_name_the_scalar():
    def model(x, y=None):
        b = pyro.sample("b", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ b, 0.3), obs=y)

    x = inputs(["bmi", "bp"])
    x["bp"] = x["bmi"] + 0.2 * x["bp"]  # correlated, so mean field has sds too small
    fit = credo.fit(model, "mean_field", x, outputs(), progress=False)
    assert fit.verdict.reasons[0].startswith(("b[bmi]: its sd", "b[bp]: its sd"))
    with pytest.raises(credo.UnreliableReference, match=r"b\[(bmi|bp)\]: effective sample size"):
        credo.reference(model, x, outputs(), draws=20, warmup=20, chains=2, progress=False)


def test_no_table_is_lost_where_the_model_does_not_run_again():
    calls = []

    def model(x, y=None):
        calls.append(1)
        if len(calls) > limit:
            raise RuntimeError("no more")
        regression(x, y)

    limit = 10**6
    fit = fitted(model, inputs(["bmi", "bp"]), outputs())
    assert labels_of(fit)["b"] == [["bmi", "bp"]]
    limit = len(calls)
    assert labels_of(fit) == {}
