"""The printed comparison: all columns at any width, the reference's name over its own, no -0.000, one line of words."""

import copy
import math
import pickle
from types import SimpleNamespace

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.evaluation.comparison import ROWS, Comparison
from tests.cases.normal_mean import Y, answer, guide, model


def comparison(n=2, reference="exact", **columns):
    rows = {
        **{"mean": -1e-9, "exact mean": 1.0, "sd": 0.78, "exact sd": 1.0},
        **{"error in sds": -1e-5, "sd ratio": 0.78, "kl": 0.031, "W2": 0.22},
    }
    made = pd.DataFrame(rows | columns, index=[f"theta[{i}]" for i in range(n)]).assign(verdict="sd 22 % too small")
    found = Comparison(made)
    found.attrs = {"in_words": "tau: sd 22 % too small", "reference": reference}
    return found


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_all_columns_are_shown_at_any_width(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    table = comparison(**{"exact sd": 1e6, "mc error in sds": 0.02, "mc error of ratio": 0.01, "total variation": 0.5})
    text = repr(table)
    for name in ("mean", "sd", "error in sds", "sd ratio", "kl", "W2", "total variation", "sd 22 % too small"):
        assert name in text
    assert "..." not in text and max(map(len, text.splitlines())) <= min(max(width, 80), 120)
    assert text.splitlines()[0] == "tau: sd 22 % too small" == table.attrs["in_words"]


@pytest.mark.parametrize("name", ["exact", "NUTS", "importance"])
def test_the_name_of_the_reference_stands_over_its_columns(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    above, below, *_ = repr(comparison(reference=name)).splitlines()[1:]
    assert above.split() == ["fit", name] and below.split()[:4] == ["mean", "sd", "mean", "sd"]
    # the name begins where the cells of the reference do: after those of the fit, before the errors
    assert below.index("sd") < above.index(name) < below.index("error in sds")


def test_zero_has_no_sign_and_digits_follow_the_sd(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = repr(comparison(mean=-1e-9))
    assert "-0.00" not in text and "0.000" in text
    assert "1234567.9" not in repr(comparison(**{"mean": 1234567.9, "exact sd": 1e6, "sd": 1e6}))
    assert "0.00123" in repr(comparison(**{"mean": 0.0012345, "exact sd": 1e-3}))
    assert "1.234e-12" in repr(comparison(**{"mean": 1.2344e-12, "exact sd": 1e-12}))
    assert "inf" in repr(comparison(kl=math.inf))


def test_monte_carlo_errors_stand_beside_what_they_belong_to(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = repr(comparison(**{"mc error in sds": 0.02, "mc error of ratio": 0.014}))
    assert "0.000 ± 0.020" in text and "0.780 ± 0.014" in text and "mc error" not in text


def test_of_a_long_table_the_farthest_rows_are_printed():
    table = comparison(500)
    table.loc["theta[321]", "error in sds"] = 3.0
    lines = repr(table).splitlines()
    assert f"the {ROWS} farthest of 500 scalars:" in lines and any("theta[321]" in line for line in lines[:9])


def test_a_notebook_shows_the_same():
    page = comparison()._repr_html_()
    assert page.startswith("<p>tau: sd 22 % too small</p><table") and 'colspan="2"' in page and "exact" in page


def test_parts_of_it_are_ordinary_tables_and_rows_of_it_comparisons():
    table = comparison(3)
    for part in (table.head(2), table.rename(index={"theta[0]": "a"}), table.round(2), copy.deepcopy(table)):
        assert repr(part).startswith("tau: sd 22 % too small\n")
    assert repr(pickle.loads(pickle.dumps(table))) == repr(table)
    for part in (table[["mean", "sd"]], table.describe(), table.select_dtypes("number"), table.T, table.iloc[:0]):
        assert isinstance(repr(part), str)
    assert not repr(table[["mean", "sd"]]).startswith("tau")
    assert table.loc["theta[0]", "sd ratio"] == 0.78 and (table["error in sds"].abs() < 0.1).all()


def test_a_call_says_what_is_off_and_names_its_columns(fit, derived):
    table = credo.compare(fit)  # N(.5, .6) beside the exact posterior
    p = answer(Y).marginals["z"]
    error = (0.5 - p.mean.item()) / p.stddev.item()
    assert abs(0.6 / p.stddev.item() - 1) < 0.1  # the sd is near enough
    assert table.loc["z", "verdict"] == f"mean {-error:.2g} sds too low"
    columns = ["mean", "exact mean", "sd", "exact sd", "error in sds", "sd ratio", "kl", "W2", "verdict"]
    assert list(table.columns) == columns and table.attrs["reference"] == "exact"
    assert table.attrs["in_words"] == f"z: {table.loc['z', 'verdict']}" in repr(table)


def test_a_reference_gives_its_name_and_leaves_no_empty_column():
    p = answer(Y).marginals["z"]
    z = p.mean + p.stddev * torch.randn(4, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = credo.Reference({"z": z}, (0,) * 4, "all asked for", seed=0, finite={})

    def exactly(y):
        pyro.sample("z", dist.Normal(pyro.param("m", p.mean.float()), p.stddev.float()))

    table = credo.compare(credo.fit(model, exactly, Y, steps=0), drawn)
    assert not table.isna().all().any() and "kl" not in table and "NUTS" in repr(table).splitlines()[1]
    assert table.attrs["in_words"].startswith("1 scalar agrees with the draws of NUTS: means within 0.0")
    off = credo.compare(credo.fit(model, guide, Y, steps=0), drawn)
    assert "sds too" in off.loc["z", "verdict"]


def test_any_reference_may_have_a_name(fit):
    exact = answer(Y)
    named = SimpleNamespace(marginals=exact.marginals, log_evidence=exact.log_evidence, name="importance")
    assert credo.compare(fit, named).attrs["reference"] == "importance"
    assert "importance" in repr(credo.compare(fit, named)).splitlines()[1]
