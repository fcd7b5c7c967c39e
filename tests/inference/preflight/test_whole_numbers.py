"""An index of -1 is warned of unless the program leaves its rows out; whole numbers are, where they lose digits."""

import warnings

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.ops.indexing import Vindex

import credo
from credo.inference.pair.pair import Pair
from credo.inference.preflight.whole_numbers import misread

MISSING = torch.tensor([-1, 0, 1, 2] * 3)
APART = torch.tensor([-1, 0, 1, 0] * 3)
Y = torch.tensor([1.0, 0.5, -1.0, 0.2] * 3)
SECONDS = 1_764_000_000 + torch.arange(12)


def intercepts():
    return pyro.sample("a", dist.Normal(torch.zeros(3), 1.0).to_event(1))


def observe(loc, y):
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(loc, 0.5), obs=y)


def plain(g, y):
    observe(intercepts()[g], y)


def vindexed(g, y):
    observe(Vindex(intercepts())[..., g], y)


def two_ways(g, y):
    a = pyro.sample("a", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    observe(a[torch.zeros_like(g), g], y)


def centred(g, y):
    a = pyro.sample("raw", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    observe((2 * a)[..., g], y)


def zeroed(g, y):
    observe(torch.where(g >= 0, intercepts()[g], 0.0), y)


def clamped(g, y):
    observe(intercepts()[g.clamp(min=0)], y)


def masked(g, y):
    a = intercepts()
    with pyro.plate("N", len(y)), pyro.poutine.mask(mask=g >= 0):
        pyro.sample("y", dist.Normal(a[g], 0.5), obs=y)


def padded(g, y):
    observe(torch.cat([intercepts(), torch.zeros(1)])[g], y)


def covariate(g, y):
    observe(intercepts()[0] * g, y)


def selected(g, y):
    observe(intercepts()[g[g >= 0]], y[g >= 0])


def said(model, *data):
    def guide(*data):
        pyro.poutine.block(model, hide_fn=lambda msg: msg["type"] != "sample" or msg["is_observed"])(*data)

    with pyro.get_param_store().scope():
        return misread(Pair(model, guide, data), ["g", "y"])


@pytest.mark.parametrize("model", [plain, vindexed, two_ways, centred])
@pytest.mark.parametrize("g", [MISSING, APART], ids=["shared", "apart"])
def test_an_index_of_minus_one_is_warned_of(model, g):
    (warning,) = said(model, g, Y)
    assert warning.startswith("g: 3 of 12 values are -1, which the model takes as an index: the last of 3 entries")
    assert (", to which 2 belongs too" in warning) == (g is MISSING)


@pytest.mark.parametrize("model", [zeroed, clamped, masked, padded, covariate, selected])
def test_programs_that_leave_rows_without_a_category_out_are_not_warned_of(model):
    assert said(model, MISSING, Y) == []


def test_codes_without_missing_ones_and_labels_of_two_signs_are_not_warned_of():
    assert said(plain, MISSING.clamp(min=0), Y) == []
    assert said(plain, torch.full((12,), -1), Y) == []  # always the last one
    assert said(covariate, torch.tensor([-1, 1] * 6), Y) == []


@pytest.mark.parametrize(
    ("run", "result"),
    [
        (lambda g: credo.fit(plain, None, g, Y, steps=2, progress=False, compile=False), "Fit"),
        (lambda g: credo.exact(plain, g, Y), "Exact"),
    ],
    ids=["fit", "exact"],
)
def test_missing_categories_of_pandas_are_warned_of_by_the_calls(run, result):
    codes = pd.Series(["u", None, "v", "w"] * 3, dtype="category").cat.codes
    with pytest.warns(UserWarning, match=r"^g: 3 of 12 values are -1.*leave out these rows"):
        assert type(run(codes)).__name__ == result
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(codes.replace(-1, 0))


@pytest.mark.parametrize(
    "use",
    [
        lambda t: 1e-9 * t,
        lambda t: t.float() - t.float().min(),
        lambda t: t / 3600,
        lambda t: t - t.float().mean(),
    ],
    ids=["times a float", "float", "quotient", "less a float"],
)
def test_whole_numbers_that_become_single_precision_are_warned_of(use):
    (warning,) = said(lambda g, y: observe(intercepts()[0] * use(g), y), SECONDS, Y)
    assert warning.startswith("g: single precision rounds these values")


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t - t.min(),
        lambda t: (t - t[0]).float() / 3600,
        lambda t: (t.double() - t.double().mean()).float(),
        lambda t: (t % 86_400).float(),
        lambda t: torch.zeros(len(t)),
    ],
    ids=["less the first", "hours", "double", "of the day", "not at all"],
)
def test_whole_numbers_that_keep_their_digits_are_not_warned_of(use):
    assert said(lambda g, y: observe(intercepts()[0] * use(g), y), SECONDS, Y) == []


def test_times_as_whole_numbers_are_used_to_the_second():
    def model(t, y):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(b * (t - t.min()) / 12, 0.5), obs=y)

    x = np.arange(12) / 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = credo.fit(model, None, SECONDS.numpy(), Y, seed=1, progress=False, compile=False)
    precision = 1 + 4 * (x**2).sum()
    assert fit.summary().loc["b", "mean"] == pytest.approx(
        4 * (x * Y.numpy()).sum() / precision, abs=0.3 / precision**0.5
    )
    with pytest.warns(UserWarning, match="^t: single precision rounds these values"):
        credo.fit(model, None, SECONDS.double(), Y, steps=2, progress=False, compile=False)


def test_a_model_that_fails_at_half_of_its_draws_is_watched_at_the_others():
    def fails(use):
        def model(g, y):
            if pyro.sample("b", dist.Normal(0.0, 1.0)) > 0:
                raise ValueError("not above 0")
            use(g, y)

        return model

    assert said(fails(masked), MISSING, Y) == []
    (warning,) = said(fails(plain), MISSING, Y)
    assert warning.startswith("g: 3 of 12 values are -1")
