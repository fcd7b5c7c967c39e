"""Text and categories become codes, whose labels the fit keeps; new data gets the same codes, or is refused by name."""

import pickle

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.inputs.labels import coded, listed, lists_as_arrays, reads_as

SIZES = pd.CategoricalDtype(["S", "M", "L"], ordered=True)
LABELS = {
    "text": (pd.Series(["b", "a", "b"]), ["a", "b"], [1, 0, 1]),
    "string": (pd.Series(["b", "a", "b"], dtype="string"), ["a", "b"], [1, 0, 1]),
    "objects": (pd.Series(["b", "a", "b"], dtype=object), ["a", "b"], [1, 0, 1]),
    "categories": (pd.Series(["L", "S"], dtype=SIZES), ["S", "M", "L"], [2, 0]),
    "categories of their own": (pd.Categorical(["b", "a"], categories=["b", "a"]), ["b", "a"], [0, 1]),
    "categories that are numbers": (pd.Series([2001, 2000], dtype="category"), [2000, 2001], [1, 0]),
    "categories that read as numbers": (pd.Series(["10", "9"], dtype="category"), ["10", "9"], [0, 1]),
    "categories with a label called nan": (pd.Categorical(["nan", "b"]), ["b", "nan"], [1, 0]),
    "index": (pd.Index(["b", "a"]), ["a", "b"], [1, 0]),
    "array": (np.array(["b", "a"]), ["a", "b"], [1, 0]),
    "array of objects": (np.array(["b", "a"], dtype=object), ["a", "b"], [1, 0]),
    "bytes": (np.array([b"b", "ä".encode()]), ["b", "ä"], [0, 1]),
    "matrix of text": (np.array([["b", "a"], ["c", "b"]]), ["a", "b", "c"], [[1, 0], [2, 1]]),
    "one label": (pd.Series(["a", "a"]), ["a"], [0, 0]),
    "labels with numbers in them": (pd.Series(["18-25", "65+", "26-64"]), ["18-25", "26-64", "65+"], [0, 2, 1]),
}


@pytest.mark.parametrize(("value", "labels", "codes"), LABELS.values(), ids=LABELS)
def test_the_code_of_a_label_is_its_place_in_the_list(value, labels, codes):
    found = coded(["x"], (value,))
    assert found.codes == {"x": labels} and np.asarray(found.values[0]).tolist() == codes
    assert found.values[0].dtype == np.int64
    again = coded(["x"], (value,), found.codes)  # new data in the same words
    assert np.asarray(again.values[0]).tolist() == codes and again.notices == ()


NO_LABELS = {
    "numbers": pd.Series([1.0, 2.0]),
    "flags": np.array([True, False]),
    "objects that are numbers": pd.Series([1, 2], dtype=object),
    "a mixture": pd.Series(["a", 1.0], dtype=object),
    "text that reads as numbers": np.array(["1,5", "2", "?"]),
    "text that reads as dates": pd.Series(["31.12.2025", "1.1.2026"]),
    "dates": pd.Series(pd.date_range("2026-01-01", periods=2)),
    "a list of names": ["a", "b"],
    "a mask": np.ma.masked_array(["a", "b"], mask=[0, 1]),
    "a tensor": torch.ones(2),
    "a setting": "full",
}


@pytest.mark.parametrize("value", NO_LABELS.values(), ids=NO_LABELS)
def test_other_data_comes_as_it_is(value):
    found = coded(["x"], (value,))
    assert found.values[0] is value and found.codes == {} and found.notices == ()


TABLE = pd.DataFrame({"age": [30, 40, 50], "sex": ["f", "m", "f"], "site": pd.Categorical(["b", "a", "b"])})


def test_columns_of_a_matrix_are_coded_one_by_one():
    before = TABLE.copy(deep=True)
    found = coded(["X", "y"], (TABLE, TABLE["sex"]))
    assert found.values[0].to_numpy().tolist() == [[30, 0, 1], [40, 1, 0], [50, 0, 1]]
    assert found.codes == {"sex": ["f", "m"], "site": ["a", "b"], "y": ["f", "m"]}
    pd.testing.assert_frame_equal(TABLE, before)
    assert found.notices[0].startswith("column sex: 2 labels became the codes 0 (f), 1 (m), numbers in the matrix X; ")
    wide = coded(["X"], (pd.DataFrame({f"c{i}": ["a", "b"] for i in range(8)}),))
    assert wide.notices[0] == "column c0: 2 labels became the codes 0 (a), 1 (b)"
    assert wide.notices[-1] == "labels became codes in 3 more columns, see fit.codes: c5, c6, c7"


def test_categories_that_the_user_declared_need_no_notice_except_in_a_matrix_with_numbers():
    declared = pd.Series(["b", "a"], dtype="category")
    assert coded(["g"], (declared,)).notices == () != coded(["g"], (declared.astype(str),)).notices
    assert len(coded(["X"], (TABLE[["age", "site"]],)).notices) == 1  # there the codes would be a covariate
    seven = pd.DataFrame({f"c{i}": ["a", "b"] for i in range(7)})
    found = coded(["X"], (seven.astype({"c1": "category"}),))
    assert found.notices[-1] == "labels became codes in 1 more columns, see fit.codes: c6" and len(found.codes) == 7


def test_columns_of_one_name_in_two_tables_have_labels_of_their_own():
    data = pd.DataFrame({"g": ["a", "b"]}), pd.DataFrame({"g": ["c", "d"]})
    found = coded(["X", "Z"], data)
    assert found.codes == {"g": ["a", "b"], "Z.g": ["c", "d"]}
    new = coded(["X", "Z"], tuple(t.iloc[1:] for t in data), found.codes)
    assert [v.to_numpy().tolist() for v in new.values] == [[[1]], [[1]]]
    found = coded(["X", "g"], (data[0], data[1]["g"]))
    assert found.codes == {"X.g": ["a", "b"], "g": ["c", "d"]}
    assert coded(["X"], (data[0].iloc[1:],), found.codes).values[0].to_numpy().tolist() == [[1]]


MISSING = {
    "None": pd.Series(["a", None, "b"]),
    "a missing category": pd.Series(["a", None, "b"], dtype="category"),
    "NA": pd.Series(["a", pd.NA, "b"], dtype="string"),
    "NaN that NumPy made text of": np.array(["a", np.nan, "b"]),
    "an empty cell": np.array(["a", "", "b"]),
}


@pytest.mark.parametrize("value", MISSING.values(), ids=MISSING)
def test_missing_labels_are_refused(value):
    with pytest.raises(ValueError, match=r"g: 1 of 3 labels are missing; .* a label of their own"):
        coded(["g"], (value,))


def test_labels_that_the_fit_does_not_know_are_refused():
    known = {"g": ["a", "b"]}
    with pytest.raises(ValueError, match=r"column g: the fit has not seen the label 'c'; it knows 0 \(a\), 1 \(b\)"):
        coded(["g"], (pd.Series(["a", "c"]),), known)
    with pytest.raises(ValueError, match="column x: got labels such as 'a', wanted numbers"):
        coded(["g", "x"], (pd.Series(["a"]), pd.Series(["a"])), known)
    with pytest.raises(ValueError, match="1 of 2 labels are missing"):
        coded(["g"], (pd.Series(["a", None]),), known)


def test_new_categories_in_another_order_get_the_codes_of_the_fit():
    new = pd.Categorical(["b", "a"], categories=["b", "a", "c"])
    assert coded(["g"], (new,), {"g": ["a", "b"]}).values[0].tolist() == [1, 0]


def test_new_numbers_are_labels_where_the_labels_are_numbers_and_codes_elsewhere():
    years, text = {"g": [2000, 2001]}, {"g": ["a", "b"]}
    for new in (pd.Series([2001, 2000]), np.array([2001, 2000])):
        assert coded(["g"], (new,), years).values[0].tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"not seen the label .*2002.*; it knows 0 \(2000\), 1 \(2001\)"):
        coded(["g"], (pd.Series([2002]),), years)
    for known in (years, text):
        codes = torch.tensor([1, 0])
        assert coded(["g"], (codes,), known).values[0] is codes
    assert coded(["g"], (np.array([1, 0]),), text).values[0].tolist() == [1, 0]


def test_columns_whose_codes_would_differ_for_one_label_are_refused():
    winner, loser = pd.Series(["ann", "bob"]), pd.Series(["bob", "cid"])
    with pytest.raises(ValueError, match=r"column winner and column loser have .*'bob' would be 1 .* 0"):
        coded(["winner", "loser"], (winner, loser))
    with pytest.raises(ValueError, match="column w and column l have labels in common"):
        coded(["X"], (pd.DataFrame({"w": winner, "l": loser}),))
    players = pd.CategoricalDtype(["ann", "bob", "cid"])
    found = coded(["winner", "loser"], (winner.astype(players), loser.astype(players)))
    assert [v.tolist() for v in found.values] == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    "data",
    [
        ((pd.Series(["ann", "bob"]), pd.Series(["bob", "ann"]))),
        ((pd.Series(["A", "B"]), pd.Series(["A", "B", "C", "D"]))),  # the same codes for all that they share
        ((pd.Series(["no", "yes"]), pd.Series(["high", "low"]))),
        ((pd.DataFrame({"a": ["no", "yes"], "b": ["maybe", "no"], "x": [5, 1]}), pd.Series(["no", "yes"]))),
    ],
    ids=["the same labels", "further labels", "other labels", "covariates"],
)
def test_columns_whose_codes_agree_are_taken(data):
    assert len(coded(["a", "b"], data).codes) >= 2


def test_messages_show_a_few_labels():
    assert listed(["a", "b"]) == "0 (a), 1 (b)"
    assert listed(list("abcdefgh")) == "0 (a), 1 (b), 2 (c), ..., 7 (h)"


def test_text_reads_as_numbers_if_half_of_it_does():
    assert reads_as(pd.Series(["1", "2", "3+"])) == "numbers" == reads_as(pd.Series(["1'000", "12 %", "n/a"]))
    assert reads_as(pd.Series(["2026-01-31T12:00"])) == "dates"
    assert reads_as(pd.Series(["a1", "b2", "3"])) is None


def groups(g, y=None):
    """A mean for each group."""
    with pyro.plate("G", 3):
        a = pyro.sample("a", dist.Normal(0.0, 5.0))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)


G = pd.Series(list("cabcca"), name="county")
Y = pd.Series([3.1, -1.0, 0.5, 2.9, 3.3, -1.2])


def conjugate(label):
    """Mean of the posterior of a group's mean: n ybar / (n + 1/25)."""
    mine = Y[label == G]
    return mine.sum() / (len(mine) + 1 / 25)


CODED = r"column g: 3 labels became the codes 0 \(a\), 1 \(b\), 2 \(c\)"


def test_a_fit_keeps_the_labels_and_gives_new_rows_the_same_codes():
    with pytest.warns(UserWarning, match=CODED) as warned:
        fit = credo.fit(groups, None, pd.DataFrame({"g": G, "y": Y}), steps=800, progress=False, compile=False)
    assert len(warned) == 1 and fit.codes == {"g": ["a", "b", "c"]}
    assert fit.data[0].dtype == torch.long and "codes of g: 0 (a), 1 (b), 2 (c)" in repr(fit)
    means = fit.summary()["mean"]
    for label in "abc":
        assert abs(means[f"a[{label}]"] - conjugate(label)) < 0.2
    again = pickle.loads(pickle.dumps(fit))
    drawn = again.predict(2000, pd.DataFrame({"g": ["c", "a"]}))["y"].mean(0)
    assert abs(drawn[0] - conjugate("c")) < 0.3 and abs(drawn[1] - conjugate("a")) < 0.3
    new = pd.Series(["c"]), pd.Series([3.0])
    values = credo.log_likelihood(fit, 500, *new).values
    assert torch.allclose(values, credo.log_likelihood(fit, 500, torch.tensor([2]), torch.tensor([3.0])).values)
    with pytest.raises(ValueError, match="column g: the fit has not seen the label 'd'"):
        fit.predict(2, pd.Series(["d"]))


def test_exact_posteriors_and_references_code_alike():
    with pytest.warns(UserWarning, match=CODED):
        found = credo.exact(groups, G, Y)
    assert found.codes == {"g": ["a", "b", "c"]}
    assert abs(found.marginals["a"].mean[2] - conjugate("c")) < 1e-6
    more = found.update(pd.Series(["c"]), pd.Series([10.0]))
    assert more.codes == found.codes and more.marginals["a"].mean[2] > conjugate("c") + 1
    assert torch.equal(more.marginals["a"].mean[:2], found.marginals["a"].mean[:2])
    assert abs(found.predict(2000, pd.Series(["a"]))["y"].mean() - conjugate("a")) < 0.2
    with pytest.warns(UserWarning, match=CODED):
        credo.plan(groups, None, G, Y, plan="fast")
    with pytest.warns(UserWarning, match=CODED):
        drawn = credo.reference(groups, G, Y, progress=False)
    assert abs(drawn.draws["a"].mean((0, 1))[2] - conjugate("c")) < 0.2


def test_later_steps_have_the_codes_of_the_first_and_its_order_of_columns():
    svi = credo.SVI(groups, None, compile=False)
    with pytest.warns(UserWarning, match=CODED):
        svi.step(G, Y)
    expected = svi.evaluate_loss(torch.tensor([2, 0]), torch.tensor([3.1, -1.0]))
    other = credo.SVI(groups, None, compile=False)
    with pytest.warns(UserWarning, match=CODED):
        other.step(G, Y)
    assert other.evaluate_loss(pd.Series(["c", "a"]), pd.Series([3.1, -1.0])) == expected
    with pytest.raises(ValueError, match="column g: the fit has not seen the label 'd'"):
        other.step(pd.Series(["d"]), pd.Series([0.0]))

    def lines(X, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(X @ w, 1.0), obs=y)

    X = pd.DataFrame({"p": [1.0, 2.0], "q": [30.0, -40.0]})
    found = []
    for later in (X, X[["q", "p"]]):
        svi = credo.SVI(lines, None, compile=False)
        svi.step(X, Y[:2])
        found.append(svi.evaluate_loss(later, Y[:2]))
    assert found[0] == found[1]


def test_observed_labels_are_coded_and_predictions_are_codes():
    def answers(y=None):
        p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("N", 10):
            pyro.sample("y", dist.Categorical(p), obs=y)

    y = pd.Series(["no"] * 6 + ["yes"] * 3 + ["maybe"])
    with pytest.warns(UserWarning, match=r"column y: 3 labels became the codes 0 \(maybe\), 1 \(no\), 2 \(yes\)"):
        found = credo.exact(answers, y)
    assert torch.allclose(found.marginals["p"].mean, torch.tensor([2.0, 7.0, 4.0]).double() / 13)

    def coin(y):
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Bernoulli(p), obs=y.float())

    with pytest.warns(UserWarning, match="column y"):
        fit = credo.fit(coin, None, pd.Series(["yes", "no", "yes"]), steps=5, progress=False, compile=False)
    assert fit.codes == {"y": ["no", "yes"]} and fit.data[0].tolist() == [1, 0, 1]


def counted(y):
    rate = pyro.sample("r", dist.Gamma(2.0, 2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(rate), obs=y)


def measured(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y.float())


@pytest.mark.filterwarnings("ignore:column")
@pytest.mark.parametrize("model", [counted, measured])
@pytest.mark.parametrize("call", [lambda *a: credo.fit(a[0], None, *a[1:], progress=False), credo.exact])
def test_labels_are_no_measurements_and_no_counts(model, call):
    with pytest.raises(ValueError, match=r"'y': (Normal|Poisson) would take .* labels of y, 0 \(a\), 1 \(b\), 2 \(c\)"):
        call(model, G.rename("y"))


@pytest.mark.filterwarnings("ignore:column")
def test_two_labels_and_codes_of_ones_own_may_be_measured():
    two = credo.exact(measured, pd.Series(["no", "yes", "yes"]))  # a linear probability model
    assert abs(two.marginals["m"].mean - 2 / 4) < 1e-6
    assert credo.exact(measured, G.astype("category").cat.codes).codes == {}
    same = credo.exact(groups, G, pd.Series([2.0, 0.0, 1.0, 2.0, 2.0, 1.0]))  # an index beside other measurements
    assert same.codes == {"g": ["a", "b", "c"]}


@pytest.mark.filterwarnings("ignore:.*labels became")
def test_a_dataset_of_text_is_coded():
    rows = torch.utils.data.DataLoader(list(zip(G, Y, strict=True)), batch_size=6)
    found, wanted = credo.exact(groups, rows), credo.exact(groups, G, Y)
    assert found.codes == {"g": ["a", "b", "c"]}
    assert torch.allclose(found.marginals["a"].mean, wanted.marginals["a"].mean, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*became the codes")
def test_a_new_group_is_drawn_from_the_model_by_the_code_that_the_error_names():
    def model(g, y=None):
        mu = pyro.sample("mu", dist.Normal(0.0, 0.1))
        with pyro.plate("groups", int(g.max()) + 1):
            a = pyro.sample("a", dist.Normal(mu, 3.0))
        with pyro.plate("N", len(g)):
            pyro.sample("y", dist.Normal(a[g], 0.1), obs=y)

    fit = credo.fit(model, "mean_field", pd.Series(list("abca")), torch.zeros(4), steps=0, progress=False)
    with pytest.raises(ValueError, match=r"has not seen the label 'z'.*may have 3 for a new group"):
        fit.predict(pd.Series(["a", "z"]))
    sds = fit.predict(4000, torch.tensor([0, 3]))["y"].std(0)
    assert abs(sds[1] - (9 + 0.01 + 0.01) ** 0.5) < 0.3  # the prior of a group, whatever the guide says of the others


@pytest.mark.filterwarnings("ignore:.*became the codes")
@pytest.mark.parametrize("kind", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_lists_of_labels_are_labels(kind):
    fit = credo.fit(groups, "mean_field", kind(list("abca")), Y[:4], steps=0, progress=False)
    assert fit.codes == {"g": ["a", "b", "c"]} and fit.data[0].tolist() == [0, 1, 2, 0]
    assert torch.equal(fit.predict(9, kind(["c", "a"]))["y"], fit.predict(9, torch.tensor([2, 0]))["y"])
    with pytest.raises(ValueError, match="has not seen the label 'z'"):
        fit.predict(kind(["c", "z"]))


def test_other_lists_of_text_stay_as_they_are():
    def model(names, y, words=("a", "b", "c")): ...

    for names in (["u", "v"], ["u", "v", 3.0], [], [["u"], ["v"], ["w"]]):
        assert lists_as_arrays(["names", "y"], (names, np.zeros(3)), ())[0] is names
    words = ["a", "b", "c"]
    assert lists_as_arrays(["y", "words"], (np.zeros(3), words), {"words"})[1] is words
    assert lists_as_arrays(["names", "y"], (words, np.zeros(3)), ())[0].tolist() == words
    assert lists_as_arrays(["names", "y"], (words, [1.0, 2.0, 3.0]), ())[0].tolist() == words
    assert lists_as_arrays(["names"], (words,), (), {"other": ["a"]})[0] is words


def test_lists_of_numbers_that_are_labels_of_the_fit_get_its_codes():
    years = lists_as_arrays(["year"], ([1990, 1992],), (), {"year": [1990, 1991, 1992]})
    assert coded(["year"], years, {"year": [1990, 1991, 1992]}).values[0].tolist() == [0, 2]
