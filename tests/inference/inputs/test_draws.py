"""The number of draws may be left out, comes first or by name, and is checked wherever it is given."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.inputs.draws import DRAWS, draws_and_data

X = torch.tensor([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("given", "n", "expected"),
    [
        ((), None, (DRAWS, 0)),
        ((5,), None, (5, 0)),
        ((np.int64(5), X), None, (5, 1)),
        ((X,), None, (DRAWS, 1)),
        ((X, X), 7, (7, 2)),
        ((3, X), 7, (7, 2)),
        ((0.5,), 7, (7, 1)),
        (([1.0, 2.0],), None, (DRAWS, 1)),
        ((pd.Series([1.0]),), None, (DRAWS, 1)),
        ((pd.DataFrame({"x": [1]}),), None, (DRAWS, 1)),
        ((np.array(3),), None, (DRAWS, 1)),
        ((None, X), None, (DRAWS, 2)),
        ((torch.nn.Linear(1, 1), X), None, (DRAWS, 2)),
    ],
    ids="nothing n numpy data by_name n_is_data number_is_data list Series DataFrame array None network".split(),
)
def test_a_whole_number_in_the_first_place_is_the_number_of_draws(given, n, expected):
    number, data = draws_and_data("predict", given, n)
    assert (number, len(data)) == expected and type(number) is int


WRONG = {
    "zero": 0,
    "negative": -3,
    "float": 10.0,
    "NaN": float("nan"),
    "numpy float": np.float32(2.0),
    "text": "10",
    "bool": True,
    "numpy bool": np.True_,
    "complex": 2j,
    "too many": 2**63,
}


def model(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


@pytest.fixture(scope="module")
def results():
    fit = credo.fit(model, None, X, X, progress=False)
    exact = credo.exact(model, X, X)
    try:
        reference = credo.reference(model, X, X, draws=20, warmup=20, chains=2, progress=False)
    except credo.UnreliableReference as error:
        reference = error.reference
    return {"fit": fit, "exact": exact, "reference": reference}


DRAWN = [
    *[("fit", name) for name in ("sample", "predict", "corrected", "summary", "intervals")],
    *[("exact", name) for name in ("sample", "predict", "summary")],
    *[("reference", name) for name in ("sample", "predict")],
]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(("kind", "name"), DRAWN, ids=[f"{kind}.{name}" for kind, name in DRAWN])
def test_what_is_no_number_of_draws_is_refused_everywhere(results, kind, name, wrong):
    with pytest.raises(ValueError, match=r"^n: got"):
        getattr(results[kind], name)(n=wrong)
    if name != "intervals":
        with pytest.raises(ValueError, match=r"^n: got"):
            getattr(results[kind], name)(wrong)


@pytest.mark.parametrize(("kind", "name"), DRAWN, ids=[f"{kind}.{name}" for kind, name in DRAWN])
def test_the_number_of_draws_may_be_left_out_everywhere(results, kind, name):
    found = getattr(results[kind], name)()
    if name in ("sample", "predict", "corrected"):
        assert {len(value) for value in found.values()} == {DRAWS}
        assert {len(v) for v in getattr(results[kind], name)(n=3).values()} == {3}


@pytest.mark.parametrize("kind", ["fit", "exact", "reference"])
def test_data_may_come_first_and_alone(results, kind):
    result, new = results[kind], torch.tensor([3.0, 4.0])
    alone, first, named = result.predict(new), result.predict(DRAWS, new), result.predict(n=DRAWS, x=new)
    assert alone["y"].shape == (DRAWS, 2)
    assert torch.equal(alone["y"], first["y"]) and torch.equal(alone["y"], named["y"])
    assert result.predict(new, n=4)["y"].shape == (4, 2)


def test_predict_and_log_likelihood_of_the_namespace_too(results):
    assert credo.predict(results["fit"], X)["y"].shape == (DRAWS, 3)
    assert credo.log_likelihood(results["fit"]).values.shape == (3,)
    assert torch.equal(
        credo.log_likelihood(results["fit"], X, X).values, credo.log_likelihood(results["fit"], DRAWS, X, X).values
    )
    with pytest.raises(ValueError, match="n: got 1, wanted at least 2 draws"):
        credo.log_likelihood(results["fit"], 1)
    with pytest.raises(ValueError, match=r"n: got 0.5, .* give the number by name: predict\(0.5, n=1000\)"):
        credo.predict(results["fit"], 0.5)


def test_the_number_of_draws_behind_the_data_is_pointed_out(results):
    with pytest.raises(ValueError, match=r"y: got 100, wanted a tensor .*; the number of draws comes first, or as n="):
        results["fit"].predict(X, 100)


@pytest.mark.parametrize("kind", ["fit", "exact", "reference"])
def test_two_numbers_of_draws_are_refused_and_a_tensor_in_their_place(results, kind):
    with pytest.raises(ValueError, match="n: got two numbers of draws, 5 in the first place and n=6; leave one of"):
        results[kind].predict(5, X, n=6)
    for wrong in (torch.tensor(5), np.array(5)):
        with pytest.raises(ValueError, match=r"n: got a \w+ of shape \(\), .*pass int\(n\), as in predict\(5\)"):
            results[kind].predict(wrong, X)
    assert len(results[kind].predict(5, X)["y"]) == 5


def test_a_number_is_data_of_a_model_that_takes_one():
    def binomial(total, k=None):
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
        pyro.sample("k", dist.Binomial(total, p), obs=k)

    fit = credo.fit(binomial, None, 20, torch.tensor(7.0), progress=False)
    assert fit.predict(3, n=50)["k"].shape == (50,) and fit.predict(3, n=50)["k"].max() <= 3
    assert fit.predict(torch.tensor(3), n=50)["k"].max() <= 3


def test_a_model_with_an_argument_n_is_told_how_to_pass_it():
    def binomial(n, k=None):
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
        pyro.sample("k", dist.Binomial(n, p), obs=k)

    fit = credo.fit(binomial, None, 20, torch.tensor(7.0), progress=False)
    with pytest.raises(TypeError, match=r"n: .* also an option of this call.*pass it by position, before k"):
        fit.predict(k=None, n=5)
    assert fit.predict(5, n=50)["k"].max() <= 5
