"""New rows of a file: prepared as those of the fit, predicted in the units of the file, or refused."""

from pathlib import Path

import numpy as np
import pandas as pd
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
    assert np.allclose(rows.arguments[0], NEW) and np.allclose((rows.scale, rows.shift), (1, 0), atol=1e-6)


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
