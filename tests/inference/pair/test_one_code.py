"""The latents of a single group have its name, where they are its own."""

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.posterior.coords import labels_of
from tests.cases.labelled import houses, radon

pytestmark = pytest.mark.filterwarnings("ignore:.*became the code")
ONE = houses()[lambda table: table["county"] == "ANOKA"].reset_index(drop=True)


def labels(model, *data):
    fit = credo.fit(model, "mean_field", *data, steps=0, plan="fast", progress=False, compile=False)
    return {site: names for site, names in labels_of(fit).items() if any(names)}


def observed(mean, y):
    with pyro.plate("N", len(mean)):
        pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def test_the_effect_of_a_single_county_has_its_name():
    assert labels(radon, ONE) == {"a": [["ANOKA"]]}
    assert labels(radon, houses())["a"] == [["AITKIN", "ANOKA", "BECKER", "BELTRAMI", "BENTON"]]


def test_slopes_and_intercepts_of_a_single_group():
    def model(county, floor, y=None):
        with pyro.plate("counties", int(county.max()) + 1):
            ab = pyro.sample("ab", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        c = pyro.sample("c", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        observed(ab[county, 0] + ab[county, 1] * floor + c, y)

    assert labels(model, ONE) == {"ab": [["ANOKA"], None]}


def as_many(county, y=None):  # a latent for each county and one more, which all rows share
    z = pyro.sample("z", dist.Normal(torch.zeros(int(county.max()) + 1), 1.0).to_event(1))
    observed(z.sum() + 0.0 * county, y)


def fixed(county, y=None):  # the number of groups is not that of the data
    z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
    observed(z[county], y)


def backwards(county, y=None):
    z = pyro.sample("z", dist.Normal(torch.zeros(int(county.max()) + 1), 1.0).to_event(1))
    observed(z.flip(0)[county], y)


@pytest.mark.parametrize("model", [as_many, fixed, backwards], ids=lambda model: model.__name__)
def test_latents_that_are_not_those_of_the_group_have_no_name(model):
    assert labels(model, ONE["county"], ONE["y"]) == {}


def test_a_single_row_says_nothing():
    assert labels(radon, ONE.iloc[:1]) == {}
    assert labels(radon, pd.concat([ONE.iloc[:1]] * 2, ignore_index=True)) == {"a": [["ANOKA"]]}
