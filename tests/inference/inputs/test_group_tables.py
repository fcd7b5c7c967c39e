"""A table with a row for each group is read by the labels of its index, also where it has as many rows as the data."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.inputs import group_tables as module

pytestmark = pytest.mark.filterwarnings("ignore:.*became the code")
LABELS = {"g": ["a", "b", "c"]}
GROUPS = pd.Series([1.0, 2.0, 3.0], index=["c", "a", "b"])
CODES = np.array([0, 1, 2, 2, 0])


def in_order_of_codes(data, codes=LABELS, fitted=(), names=("g", "u")):
    return module.in_order_of_codes(names, data, codes, module.group_tables(names, data, codes, fitted))


@pytest.mark.parametrize("table", [GROUPS, GROUPS.to_frame("u")], ids=["column", "table"])
def test_what_describes_groups_is_put_in_the_order_of_their_codes(table):
    _, found = in_order_of_codes((CODES, table))
    assert np.ravel(found).tolist() == [2.0, 3.0, 1.0]
    more = pd.concat([table, table.set_axis(["x", "y", "z"])])
    _, found = in_order_of_codes((CODES, more))
    assert np.ravel(found).tolist() == [2.0, 3.0, 1.0]


def test_labels_that_a_table_of_groups_lacks_are_named():
    with pytest.raises(ValueError, match="u: its index holds labels of g, but not 'b'; add a row for each of the 3"):
        in_order_of_codes((CODES, GROUPS.drop("b")))


@pytest.mark.parametrize(
    "other",
    [
        GROUPS.reset_index(drop=True),
        GROUPS.set_axis(["x", "y", "z"]),
        GROUPS.to_numpy(),
        GROUPS.set_axis(["c", "a", "a"]),
    ],
    ids=["no index", "other labels", "an array", "labels twice"],
)
def test_what_has_no_labels_of_the_groups_stays_as_it_is(other):
    assert in_order_of_codes((CODES, other))[1] is other


ROWS = {
    "as text": (np.array([2, 0, 1]), GROUPS),
    "with the index of the labels": (pd.Series([2, 0, 1], index=["c", "a", "b"]), GROUPS),
    "other rows of the same labels": (pd.Series([0, 2, 1], index=["c", "a", "b"]), GROUPS),
    "labels of which some are none": (pd.Series([0, 2, 1]), GROUPS.set_axis(["c", "a", "z"])),
    "more labels": (pd.Series([0, 2, 1, 0]), pd.Series(np.arange(4.0), index=["c", "a", "b", "z"])),
}


@pytest.mark.parametrize(("codes", "rows"), ROWS.values(), ids=ROWS)
def test_rows_with_the_labels_as_their_index_stay_with_their_observations(codes, rows):
    assert in_order_of_codes((codes, rows))[1] is rows


@pytest.mark.parametrize("index", [None, ["r", "s", "t"]], ids=["counted", "labels of rows"])
def test_as_many_groups_as_rows_are_told_by_the_index_of_the_rows(index):
    _, found = in_order_of_codes((pd.Series([0, 2, 1], index=index), GROUPS))
    assert found.tolist() == [2.0, 3.0, 1.0]


@pytest.mark.parametrize(
    "codes", [np.array([0, 2, 1]), torch.tensor([0, 2, 2]), pd.Series([2, 0, 1])], ids=["array", "tensor", "same order"]
)
def test_rows_that_may_be_groups_are_refused(codes):
    with pytest.raises(ValueError, match=r"u: its index has the labels of g.*u.loc\[labels\].to_numpy\(\).*0 \(a\)"):
        in_order_of_codes((codes, GROUPS))
    assert in_order_of_codes((codes, GROUPS), fitted=(torch.zeros(9), torch.zeros(9)))[1] is GROUPS  # rows in the fit
    found = in_order_of_codes((codes, GROUPS), fitted=(torch.zeros(9), torch.zeros(3)))[1]
    assert found.tolist() == [2.0, 3.0, 1.0]


U = pd.Series({"D": 30.0, "C": 10.0, "A": -20.0, "B": 0.0})
HOUSES = pd.DataFrame({"g": list("ABCDABCDDC"), "y": [-20.3, 0.2, 9.8, 30.1, -19.6, 0.3, 10.2, 29.9, 30.2, 10.1]})


def slopes(g, u, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(w * u[g], 0.3), obs=y)


@pytest.fixture(scope="module")
def fitted():
    return credo.fit(slopes, None, HOUSES["g"], U, HOUSES["y"], progress=False)


def index(*labels):
    return pd.Series(list("DACB"), index=list(labels))


@pytest.mark.parametrize(
    ("g", "rows"),
    [
        (list("DACB"), [0, 1, 2, 3]),
        (pd.Series(list("DACB")), [0, 1, 2, 3]),
        (index(*"wxyz"), list("wxyz")),
        (torch.tensor([3, 0, 2, 1]), [0, 1, 2, 3]),
        (list("DCAB"), [0, 1, 2, 3]),  # the order of the table itself
        (list("DDAB"), [0, 1, 2, 3]),
    ],
    ids=["list", "Series", "labels of rows", "codes", "order of the table", "a label twice"],
)
def test_as_many_new_rows_as_groups_are_predicted_by_their_group(fitted, g, rows):
    table = fitted.intervals(g, U, n=200)
    labels = [list("ABCD")[k] for k in g.tolist()] if isinstance(g, torch.Tensor) else list(g)
    assert np.allclose(table["mean"], U[labels], atol=0.5) and list(table.index) == rows
    again = fitted.intervals(g, U.sort_index().to_numpy(), n=200)
    assert np.array_equal(again, table)


def test_exact_and_reference_know_the_groups_of_their_data(fitted):
    exact = credo.exact(slopes, HOUSES["g"], U, HOUSES["y"])
    assert torch.equal(exact.predict(5, list("DACB"), U)["y"], exact.predict(5, list("DACB"), U.sort_index())["y"])


def test_a_fit_of_a_row_for_each_group_finds_their_order():
    rows = pd.DataFrame({"g": list("ACBD"), "y": [-20.0, 10.0, 0.0, 30.0]})
    fit = credo.fit(slopes, None, rows["g"], U, rows["y"], progress=False)
    assert abs(fit.exact.marginals["w"].mean.item() - 1.0) < 0.05
    assert list(fit.intervals().index) == [0, 1, 2, 3]
    labelled = rows.set_axis(list("rstu"))
    assert list(credo.fit(slopes, None, labelled["g"], U, labelled["y"], progress=False).intervals().index) == list(
        "rstu"
    )


def test_two_tables_of_as_many_groups_do_not_have_to_agree():
    def both(g, h, u, v, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(g)):
            pyro.sample("y", dist.Normal(w * (u[g] + v[h]), 0.3), obs=y)

    h = pd.Series(list("qqrrssttqr"))
    v = pd.Series({"t": 4.0, "s": 3.0, "r": 2.0, "q": 1.0})
    y = HOUSES["g"].map(U) + h.map(v)
    fit = credo.fit(both, None, HOUSES["g"], h, U, v, y, progress=False)
    assert abs(fit.exact.marginals["w"].mean.item() - 1.0) < 0.05


def test_booleans_of_new_data_are_the_whole_numbers_that_the_fit_had_and_back():
    def levels(g, y=None):
        a = pyro.sample("a", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("N", len(g)):
            pyro.sample("y", dist.Normal(a[g], 0.1), obs=y)

    def masked(g, y=None):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(g)):
            pyro.sample("y", dist.Normal(torch.where(g, a, 0.0 * a), 0.1), obs=y)

    g, y = HOUSES["g"] > "B", (HOUSES["g"] > "B") * 2.0
    for model, given in ((levels, g.astype(int)), (masked, g)):
        fit = credo.fit(model, None, given, y, progress=False)
        one, two = fit.predict(9, g.to_numpy())["y"], fit.predict(9, g.astype(int))["y"]
        assert torch.equal(one, two) and (one.mean(0) - torch.tensor(y)).abs().max() < 0.3
    with pytest.raises((TypeError, RuntimeError)):
        fit.predict(9, g.astype(int) + 1)


def test_steps_on_as_many_rows_as_groups_read_the_table_by_its_labels():
    svi, sure = (credo.SVI(slopes, "mean_field", compile=False, seed=1) for _ in range(2))
    few = HOUSES.iloc[[3, 0, 2, 1]]
    for rows in (HOUSES, few):
        loss = svi.step(rows["g"].to_numpy(), U, rows["y"].to_numpy(), rows=10)
        assert loss == sure.step(rows["g"], U.sort_index().to_numpy(), rows["y"], rows=10)


def test_a_single_group_is_found_in_the_table_of_all():
    one = HOUSES[HOUSES["g"] == "C"]
    fit = credo.fit(slopes, None, one["g"], U, one["y"], progress=False)
    assert abs(fit.exact.marginals["w"].mean.item() - 1.0) < 0.1
    assert np.allclose(fit.intervals(["C"] * 4, U)["mean"], 10.0, atol=0.5)
    assert in_order_of_codes((np.array([0, 0]), GROUPS.loc[["b"]]), {"g": ["b"]})[1].tolist() == [3.0]
    rows = pd.Series([1.0], index=["b"])
    assert in_order_of_codes((np.array([0]), rows), {"g": ["b"]})[1] is rows
