"""Predictive intervals have the moments and quantiles of the posterior predictive, and the names of the rows."""

import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.tables.intervals import probability
from tests.cases.labelled import EIGHT, SCHOOLS, houses, inputs, outputs, radon, regression, schools

pytestmark = pytest.mark.filterwarnings("ignore:.*became the code")
NEW = pd.DataFrame({"county": ["BECKER", "AITKIN", "ANOKA"], "floor": [0, 1, 0]}, index=["h1", "h2", "h3"])


def slope(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 2.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 0.5), obs=y)


LINE = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [1.1, 1.8, 3.3]}, index=pd.Index(["a", "b", "c"], name="row"))


@pytest.fixture(scope="module")
def homes() -> credo.Fit:
    return credo.fit(radon, "mean_field", houses(), steps=0, progress=False)


@pytest.mark.parametrize("prob", [0.5, 0.9])
def test_bounds_and_moments_are_those_of_the_posterior_predictive(prob):
    fit = credo.fit(slope, None, LINE)
    new = pd.DataFrame({"x": [0.0, -4.0]}, index=["near", "far"])
    table = fit.intervals(new, prob=prob, n=20_000)
    w = fit.exact.marginals["w"]
    mean = w.mean.item() * new["x"]
    sd = (w.variance.item() * new["x"] ** 2 + 0.25) ** 0.5
    half = sd * dist.Normal(0.0, 1.0).icdf(torch.tensor((1 + prob) / 2)).item()
    for column, truth in {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}.items():
        assert ((table[column] - truth) / sd).abs().max() < 0.04
    assert list(table.columns) == ["mean", "sd", "low", "high"] and list(table.index) == ["near", "far"]


def test_every_way_to_give_the_rows_finds_the_same(homes):
    table = homes.intervals(NEW)
    assert list(table.index) == ["h1", "h2", "h3"] and table["low"].lt(table["high"]).all()
    for other in (
        homes.intervals(NEW.assign(y=0.0)),
        homes.intervals(NEW[["floor", "county"]]),
        homes.intervals(NEW["county"], NEW["floor"]),
        homes.intervals(county=NEW["county"], floor=NEW["floor"]),
        homes.intervals(1000, NEW, prob=0.9),
        homes.intervals(NEW["county"].to_numpy(), NEW["floor"]),
    ):
        pd.testing.assert_frame_equal(other, table)
    tensors = homes.intervals(torch.tensor([2, 0, 1]), torch.tensor([0.0, 1.0, 0.0]))
    pd.testing.assert_frame_equal(tensors, table.reset_index(drop=True))


def test_the_table_of_new_rows_may_lack_observations_that_the_model_wants():
    fit = credo.fit(slope, None, LINE)
    pd.testing.assert_frame_equal(fit.intervals(LINE[["x"]]), fit.intervals(LINE))
    assert fit.intervals(LINE[["x"]]).index.name == "row"


def test_without_new_rows_they_are_those_of_the_fit():
    fit = credo.fit(schools, "mean_field", EIGHT, steps=0, progress=False)
    assert list(fit.intervals().index) == SCHOOLS
    assert list(credo.fit(slope, None, LINE.reset_index()[["x", "y"]]).intervals().index) == [0, 1, 2]


def test_batches_and_weighted_draws(homes):
    table = homes.intervals(NEW, n=4000)
    for other in (homes.intervals(NEW, n=4000, batch=2), homes.intervals(NEW, n=4000, seed=1)):
        assert not other.equals(table) and ((other - table).abs().max(axis=1) / table["sd"]).max() < 0.15
    fit = credo.fit(slope, None, LINE)
    assert (fit.intervals(corrected=True, n=4000) - fit.intervals(n=4000)).abs().max().max() < 0.1


def test_several_observed_sites_are_a_level_of_the_index():
    def model(x, y=None, count=None):
        w = pyro.sample("w", dist.Normal(0.0, 0.5))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)
            pyro.sample("count", dist.Poisson((w * x).exp()), obs=count)

    fit = credo.fit(model, "mean_field", LINE["x"], LINE["y"], torch.tensor([1.0, 0.0, 4.0]), steps=0, progress=False)
    table = fit.intervals(LINE["x"])
    assert table.index.names == ["site", "row"] and list(table.loc["count"].index) == ["a", "b", "c"]
    assert (table.loc["count", ["low", "high"]] % 1 == 0).all().all()


def test_several_outcomes_have_their_columns_as_a_level():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1], 2]).to_event(2))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 1.0).to_event(1), obs=y)

    x = inputs(["bmi", "bp"])
    fit = credo.fit(model, "mean_field", x, inputs(["weight", "height"]), steps=0, progress=False)
    table = fit.intervals(x.head(2), n=50)
    assert list(table.index) == [(0, "weight"), (0, "height"), (1, "weight"), (1, "height")]
    draws = fit.predict(50, x.head(2))["y"]
    assert np.allclose(table["mean"], draws.double().mean(0).flatten())


def test_classes_have_a_column_each_with_its_probability():
    def softmax(x, county=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1], 5]).to_event(2))
        with pyro.plate("N", len(x)):
            pyro.sample("county", dist.Categorical(logits=x @ w), obs=county)

    def logistic(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    x = inputs(["bmi", "bp"], 40)
    classes = credo.fit(softmax, "mean_field", x, houses()["county"], steps=0, progress=False).intervals(x.head(3))
    assert list(classes.columns) == ["AITKIN", "ANOKA", "BECKER", "BELTRAMI", "BENTON"]
    assert np.allclose(classes.sum(axis=1), 1.0)
    fit = credo.fit(logistic, "mean_field", x, (outputs(40) > 0).float(), steps=0, progress=False)
    draws = fit.predict(x.head(3))["y"]
    assert np.allclose(fit.intervals(x.head(3))["1"], draws.double().mean(0))


def test_values_that_are_one_hot_have_a_column_each():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([x.shape[1], 3]).to_event(2))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.OneHotCategorical(logits=x @ w), obs=y)

    y = torch.eye(3)[torch.arange(30) % 3]
    table = credo.fit(model, "mean_field", inputs(["bmi", "bp"]), y, steps=0, progress=False).intervals()
    assert list(table.columns) == ["0", "1", "2"] and np.allclose(table.sum(axis=1), 1.0) and len(table) == 30


@pytest.mark.parametrize("wrong", [0, 1, -0.1, 90, math.nan, math.inf, "0.9", True, None, torch.tensor([0.5, 0.6])])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match=r"prob: got .*, wanted a probability above 0 and below 1"):
        probability("prob", wrong)


@pytest.mark.parametrize("right", [0.9, np.float32(0.5), torch.tensor(0.5)], ids=["float", "numpy", "tensor"])
def test_what_is_a_probability_is_taken(right):
    assert probability("prob", right) == pytest.approx(float(right))


def test_percent_are_pointed_out_and_labels_that_are_not_known(homes):
    with pytest.raises(ValueError, match=r"prob: got 90, .*did you mean 0.9\?"):
        homes.intervals(NEW, prob=90)
    with pytest.raises(ValueError, match=r"the fit has not seen the label 'COOK'; it knows 0 \(AITKIN\), 1 \(ANOKA\)"):
        homes.intervals(NEW.replace("BECKER", "COOK"))
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'pob'.*did you mean 'prob'\?"):
        homes.intervals(NEW, pob=0.5)


def test_a_model_that_observes_nothing_has_no_intervals():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("f", -(z**2))

    fit = credo.fit(model, "mean_field", steps=0, progress=False)
    with pytest.raises(ValueError, match="the model observes nothing"):
        fit.intervals()


def test_a_regression_on_named_columns():
    x = inputs(["bmi", "bp"]).set_index(pd.Index([f"p{i}" for i in range(30)], name="patient"))
    fit = credo.fit(regression, None, x, outputs())
    table = fit.intervals(x[["bp", "bmi"]].tail(2), prob=0.5)
    assert list(table.index) == ["p28", "p29"] and table.index.name == "patient"
    assert list(fit.summary(100).index) == ["a", "b[bmi]", "b[bp]"]


def test_exact_and_reference_have_the_same_intervals():
    exact, new = credo.exact(slope, LINE), pd.DataFrame({"x": [0.0, -4.0]}, index=["near", "far"])
    fit = credo.fit(slope, None, LINE).intervals(new, n=20_000)
    reference = credo.reference(slope, LINE, draws=600, warmup=200, chains=2, progress=False)
    for other in (exact.intervals(new, n=20_000), reference.intervals(new, n=20_000)):
        assert list(other.index) == ["near", "far"] and list(other.columns) == list(fit.columns)
        assert ((other - fit).abs().max(axis=1) / fit["sd"]).max() < 0.1
    assert list(exact.intervals(n=2).index) == list(reference.intervals(n=2).index) == ["a", "b", "c"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'pob'"):
        exact.intervals(new, pob=0.5)


def test_one_draw_has_no_interval():
    fit = credo.fit(slope, None, LINE)
    with pytest.raises(ValueError, match="n: got 1, wanted at least 2 draws"):
        fit.intervals(1, LINE)
    assert fit.intervals(2, LINE)["sd"].gt(0).all()


def test_the_labels_are_those_of_the_rows_and_not_of_another_table():
    """Four knots with labels of their own, and four new rows without."""

    def splines(x, knots, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([len(knots)]).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal((x[:, None] - knots).relu() @ w, 1.0), obs=y)

    knots = pd.Series([0.0, 1.0, 2.0, 3.0], index=list("abcd"))
    fit = credo.fit(splines, None, torch.linspace(0, 4, 9), knots, torch.linspace(0, 4, 9), progress=False)
    assert list(fit.intervals([0.5, 1.5, 2.5, 3.5], knots).index) == [0, 1, 2, 3]
    rows = pd.Series([0.5, 1.5, 2.5, 3.5], index=list("pqrs"))
    assert list(fit.intervals(rows, knots.to_numpy()).index) == list("pqrs")


def test_observations_that_are_all_missing_are_predicted():
    def offset(x, y=None):
        return slope(x, y)

    fit = credo.fit(slope, None, LINE)
    for other in (fit, credo.exact(slope, LINE), credo.fit(offset, None, LINE)):
        missing = other.intervals(LINE.assign(y=math.nan))
        pd.testing.assert_frame_equal(missing, other.intervals(LINE))
    pd.testing.assert_frame_equal(fit.intervals(LINE["x"], LINE["y"] * math.nan), fit.intervals(LINE))
    for wrong in (LINE.assign(x=math.nan), LINE.assign(y=[1.0, math.nan, 2.0])):
        with pytest.raises(ValueError, match="values are not finite"):
            fit.intervals(wrong)
    with pytest.raises(ValueError, match="y: 3 of 3 values are not finite"):
        credo.log_likelihood(fit, LINE.assign(y=math.nan))
