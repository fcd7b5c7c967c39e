"""New rows of a file: prepared as those of the fit, predicted in the units of the file, or refused."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.pairs import Pair
from credo.report.new_rows import NewRows, new_rows, predictions

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"a": RNG.normal(5, 2, 60), "b": RNG.normal(0, 100, 60)})
TABLE["y"] = 3 * TABLE["a"] - TABLE["b"] / 50 + 1000 + RNG.normal(0, 0.5, 60)
NEW = TABLE[["b", "a"]].iloc[:5] * 1.1  # in another order


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    TABLE.to_csv(tmp_path / "known.csv", index=False)
    NEW.to_csv(tmp_path / "new.csv", index=False)
    return tmp_path / "known.csv", tmp_path / "new.csv"


def test_standardised_rows_are_prepared_by_those_of_the_fit_and_predicted_in_their_units(files) -> None:
    """Oracle: the exact predictive distribution at rows that are standardised by hand."""
    pair = credo.load("linear_regression")
    assert pair.data is not None and pair.posterior is not None
    rows = new_rows(pair, *files)
    inputs = TABLE[["a", "b"]]
    by_hand = ((NEW[["a", "b"]] - inputs.mean()) / inputs.std()).to_numpy()
    assert np.allclose(rows.arguments[0], by_hand, atol=1e-5)
    data = pair.data(table=TABLE)
    exact = pair.posterior(*data).predictive(torch.tensor(by_hand))
    mean, sd = TABLE["y"].mean(), TABLE["y"].std()
    found = predictions(credo.fit(pair.model, None, *data), rows, 0)
    assert np.allclose(found["mean"], mean + sd * exact.mean.numpy(), atol=0.1 * sd)
    assert np.allclose(found["sd"], sd * exact.stddev.numpy(), rtol=0.1)
    assert (found["low"] < found["mean"]).all() and (found["mean"] < found["high"]).all()


def pair_with(data) -> Pair:
    return credo.load("linear_regression")._replace(data=data)


def tensors(x: pd.DataFrame, y: pd.Series) -> tuple:
    return torch.tensor(x.to_numpy()), torch.tensor(y.to_numpy())


def test_rows_that_stand_alone_are_as_they_are(files) -> None:
    pair = pair_with(lambda table: tensors(table[["b", "a"]], table["y"]))
    rows = new_rows(pair, *files)
    assert np.allclose(rows.arguments[0], NEW) and (rows.scale, rows.shift, rows.doubt) == (1, 0, "")


def test_rows_that_depend_on_each_other_are_refused(files) -> None:
    ranked = pair_with(lambda table: tensors(table[["a", "b"]].rank(), table["y"]))
    with pytest.raises(ValueError, match="prepares its rows together, and not by a shift and a scale"):
        new_rows(ranked, *files)


def test_observations_that_are_turned_round_are_turned_back(files) -> None:
    """y' = -2 y: the units of the file are -y' / 2, and the bounds change places."""
    rows = new_rows(pair_with(lambda table: tensors(table[["a", "b"]], -2 * table["y"])), *files)
    assert np.allclose((rows.scale, rows.shift), (-0.5, 0), atol=1e-6)
    pair = credo.load("linear_regression")
    fit = credo.fit(pair.model, None, torch.ones(3, 1), torch.ones(3))
    plain, turned = (predictions(fit, NewRows((torch.ones(2, 1),), scale), 0) for scale in (1.0, -0.5))
    assert np.allclose(turned["low"], -plain["high"] / 2) and np.allclose(turned["sd"], plain["sd"] / 2)


def test_a_pair_without_tables_gets_the_rows_as_they_are(files) -> None:
    (table,) = new_rows(pair_with(None), *files).arguments
    pd.testing.assert_frame_equal(table, NEW.reset_index(drop=True))
    with pytest.raises(ValueError, match="no columns to read new rows by"):
        new_rows(credo.load("linear_regression"), None, files[1])


def written(folder: Path, known: pd.DataFrame, new: pd.DataFrame) -> tuple[Path, Path]:
    known.to_csv(folder / "known.csv", index=False)
    new.to_csv(folder / "new.csv", index=False)
    return folder / "known.csv", folder / "new.csv"


def by_name(a, b, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(a)):
        pyro.sample("y", dist.Normal(w[0] * a + w[1] * b, 1.0), obs=y)


def required(a, y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(a)):
        pyro.sample("y", dist.Normal(w * a, 1.0), obs=y)


def indexed(county, y=None):
    with pyro.plate("G", 5):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(county)):
        pyro.sample("y", dist.Normal(a[county.long()], 1.0), obs=y)


PAIRS = {"columns": Pair("columns", by_name, by_name, None, None), "table": credo.load("linear_regression")}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize(
    ("new", "words"),
    [
        (NEW[["a"]], "new.csv: has no column 'b', which the fit was given"),
        (NEW.rename(columns={"b": "B"}), "has no column 'b'.*did you mean 'B'"),
        (NEW.assign(b=[1.0, np.nan, 2, 3, 4]), "new.csv: column 'b' has 1 of 5 values missing"),
    ],
    ids=["missing", "capital", "gap"],
)
def test_a_column_that_is_not_predicted_is_never_made_up(pair: Pair, new, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        new_rows(pair, *written(tmp_path, TABLE, new))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("y", [math.nan, 1e6, "?"], ids=str)
def test_whatever_stands_in_the_column_that_is_predicted_does_not_matter(pair: Pair, y, tmp_path: Path) -> None:
    rows, without = (new_rows(pair, *written(tmp_path, TABLE, new)) for new in (NEW.assign(y=y), NEW))
    assert np.allclose(rows.arguments[0], without.arguments[0], atol=1e-5) and rows[1:] == without[1:]


def test_a_column_that_nothing_is_made_of_may_be_missing(tmp_path: Path) -> None:
    data = lambda table: tensors(table[["a", "b"]], table["y"])  # noqa: E731
    known = TABLE.assign(name=[f"row {i}" for i in range(60)])
    for new in (NEW, NEW.assign(name="another")):
        assert np.allclose(new_rows(pair_with(data), *written(tmp_path, known, new)).arguments[0], NEW[["a", "b"]])


@pytest.mark.parametrize("sign", [1, -2])
def test_units_are_those_of_the_file_whatever_the_default_of_y(sign: int, tmp_path: Path) -> None:
    """y has no default, and another column is a shift and a scale of it."""
    known = TABLE[["a", "y"]].assign(twice=2 * TABLE["y"])

    def data(table):
        y = sign * (table["y"] - table["y"].mean()) / table["y"].std()
        return torch.tensor(table["a"].to_numpy()), torch.tensor(y.to_numpy())

    for model in (required, lambda a, y=None: required(a, y)):
        rows = new_rows(Pair("mine", model, model, None, data), *written(tmp_path, known, NEW.assign(twice=0)))
        assert len(rows.arguments) == 1 and not rows.doubt
        assert np.allclose((rows.scale, rows.shift), (TABLE["y"].std() / sign, TABLE["y"].mean()), rtol=1e-3)


def test_units_that_are_not_known_are_said_to_be(tmp_path: Path) -> None:
    pair = Pair("mine", required, required, None, lambda table: tensors(table["a"], table["y"].map(math.log)))
    rows = new_rows(pair, *written(tmp_path, TABLE, NEW))
    assert (rows.scale, rows.shift) == (1, 0)
    with pytest.warns(UserWarning, match="in the units of y in data.table. of mine, not of the file"):
        predictions(credo.fit(required, None, torch.ones(3), torch.ones(3)), rows, 0)


def codes(column: pd.Series, dtype=torch.int64) -> torch.Tensor:
    return torch.tensor(pd.Categorical(column).codes, dtype=dtype)


CODED = {
    "codes": lambda table: codes(table["county"]),
    "codes as floats": lambda table: codes(table["county"], torch.float32),
    "standardised codes": lambda table: (c := codes(table["county"], torch.float64)).sub(c.mean()) / c.std(),
    "one column each": lambda table: torch.tensor(pd.get_dummies(table["county"]).to_numpy(dtype=float)),
}


@pytest.mark.parametrize("text", [True, False], ids=["text", "numbers"])
@pytest.mark.parametrize("make", CODED.values(), ids=CODED)
def test_categories_are_never_interpolated(make, text: bool, tmp_path: Path) -> None:
    known = pd.DataFrame({"county": ["A", "C", "D", "A"] if text else [2000, 2010, 2011, 2000], "y": [0.0, 1, 2, 1]})
    data = lambda table: (make(table), torch.tensor(table["y"].to_numpy()))  # noqa: E731
    pair = Pair("mine", indexed, indexed, None, data)
    seen = pd.DataFrame({"county": known["county"].iloc[[2, 0]]})
    assert torch.allclose(new_rows(pair, *written(tmp_path, known, seen)).arguments[0], data(known)[0][[2, 0]])
    for strange in ("B", "0", "Z") if text else (2005, 1990, 2030):
        with pytest.raises(ValueError, match=r"new.csv: .*(no row of the fit has|other codes|not seen|together)"):
            new_rows(pair, *written(tmp_path, known, pd.DataFrame({"county": [strange, known["county"][0]]})))


def test_whole_numbers_of_the_file_are_no_codes(tmp_path: Path) -> None:
    """Counts that no row of the fit has are taken as they are, squared too."""
    known = pd.DataFrame({"county": [0, 1, 2, 4], "y": [0.0, 1, 2, 1]})
    for power in (1, 2):

        def data(table, k=power):
            return torch.tensor(table["county"].to_numpy()) ** k, torch.tensor(table["y"].to_numpy())

        pair = Pair("mine", required, required, None, data)
        (found,) = new_rows(pair, *written(tmp_path, known, pd.DataFrame({"county": [3, 7]}))).arguments
        assert found.tolist() == [3**power, 7**power] and not found.is_floating_point()


def test_arguments_of_other_kinds_are_prepared_too(tmp_path: Path) -> None:
    """A frame, an array and the number of rows; what describes no rows is that of the fit."""

    def data(table):
        x = table[["a", "b"]]
        return (x - x.mean()) / x.std(), table["a"].to_numpy(), len(table), torch.zeros(3), table["y"]

    def model(X, a, n, w, y=None):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", n):
            pyro.sample("y", dist.Normal(X[:, 0] + b * a, 1.0), obs=y)

    X, a, n, w = new_rows(Pair("mine", model, model, None, data), *written(tmp_path, TABLE, NEW)).arguments
    inputs = TABLE[["a", "b"]]
    assert np.allclose(X, (NEW[["a", "b"]] - inputs.mean()) / inputs.std(), atol=1e-4) and list(X.columns) == ["a", "b"]
    assert np.allclose(a, NEW["a"]) and n == 5 and w is ...


@pytest.mark.parametrize("kind", ["threshold", "clip", "sideways", "nothing"])
def test_what_is_not_proven_is_refused(kind: str, tmp_path: Path) -> None:
    def data(table):
        a, y = torch.tensor(table["a"].to_numpy()), torch.tensor(table["y"].to_numpy())
        x = {"threshold": (a > a.median()).double(), "clip": a.clamp(max=a.mean() + 1e3), "sideways": a[None]}
        return (x[kind], y) if kind in x else (torch.nn.Linear(1, 1), y[:1].mean())

    def model(x, y=None):
        pyro.sample("y", dist.Normal(pyro.sample("b", dist.Normal(0.0, 1.0)), 1.0).expand(y.shape), obs=y)

    new = pd.DataFrame({"a": [1e6] * 30, "b": 0.0})
    pair = Pair("mine", required if kind in ("threshold", "clip") else model, required, None, data)
    with pytest.raises(ValueError, match=r"cannot be prepared|returns no array|has no column"):
        new_rows(pair, *written(tmp_path, TABLE, new))


def test_dates_go_on_behind_those_of_the_fit(tmp_path: Path) -> None:
    def data(table):
        time = pd.to_datetime(table["day"])
        return torch.tensor(((time - time.iloc[0]).dt.days / 7).to_numpy()), torch.tensor(table["y"].to_numpy())

    days = pd.date_range("2020-01-01", periods=20).astype(str)
    files = written(
        tmp_path, pd.DataFrame({"day": days, "y": RNG.normal(size=20)}), pd.DataFrame({"day": ["2020-02-05"]})
    )
    (time,) = new_rows(Pair("mine", required, required, None, data), *files).arguments
    assert time.tolist() == pytest.approx([5.0])


def before(y, a):
    required(a, y)


@pytest.mark.parametrize("data", [None, lambda table: (table["y"], table["a"])], ids=["columns", "series"])
def test_observations_may_come_first(data, tmp_path: Path) -> None:
    """They are drawn anew: y ~ a."""
    pair = Pair("mine", before, before, None, data)
    known = TABLE[["a"]].assign(y=TABLE["a"])
    rows = new_rows(pair, *written(tmp_path, known, NEW[["a"]]))
    found = predictions(credo.fit(before, None, torch.tensor(known["y"]), torch.tensor(known["a"])), rows, 0)
    assert np.allclose(found["mean"], NEW["a"], atol=0.5)
