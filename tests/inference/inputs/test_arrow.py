"""Tables of polars are read through their buffers: the same values as pandas would hold, chunk by chunk."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
import torch

import credo
from credo.inference.inputs.arguments import arguments
from credo.inference.inputs.arrow import from_arrow
from tests.cases.labelled import COUNTIES, houses, inputs, outputs, radon, regression

pl = pytest.importorskip("polars")

LONG = "a text of more than twelve bytes, ä and 水"
DAY, TIME = datetime.date(2020, 2, 29), datetime.datetime(1969, 12, 31, 23, 59, 59, 250)
COLUMNS = {
    "int64": ([1, -(2**62), 3], pl.Int64),
    "int8": ([1, -128, 3], pl.Int8),
    "uint64": ([1, 2**64 - 1, 3], pl.UInt64),
    "uint16": ([1, 2**16 - 1, 3], pl.UInt16),
    "float64": ([1.5, -0.0, float("inf")], pl.Float64),
    "float32": ([1.5, 2.5, -3.0], pl.Float32),
    "bool": ([True, False, True], pl.Boolean),
    "text": (["x", "", LONG], pl.String),
    "date": ([DAY] * 3, pl.Date),
    "datetime": ([TIME] * 3, pl.Datetime("us")),
    "milliseconds": ([TIME.replace(microsecond=7000)] * 3, pl.Datetime("ms")),
    "duration": ([datetime.timedelta(days=-1, seconds=3)] * 3, pl.Duration("us")),
    "decimal": ([decimal.Decimal("1.25"), decimal.Decimal("-3.50"), decimal.Decimal("0.01")], pl.Decimal(10, 2)),
    "categorical": (["b", "a", "b"], pl.Categorical),
    "enum": (["b", "a", "b"], pl.Enum(["z", "b", "a"])),
}


@pytest.mark.parametrize(("values", "kind"), COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("gap", [False, True], ids=["whole", "with a gap"])
def test_values_and_gaps_are_those_of_the_column(values, kind, gap):
    values = [values[0], None, *values[2:]] if gap else list(values)
    long = values * 7  # more than a byte of bits
    whole = pl.Series("name", long, dtype=kind)
    parts = pl.concat([whole[:5], whole[5:]], rechunk=False)
    for series, expected in ((whole, long), (whole[3:17], long[3:17]), (parts, long), (whole[:0], [])):
        found = from_arrow(series)
        assert found.name == "name" and len(found) == len(expected)
        assert found.isna().tolist() == [v is None for v in expected]
        for one, other in zip(found, expected, strict=True):
            if other is not None:
                assert one == (pd.Timestamp(other) if isinstance(other, datetime.date) else other)


def test_the_order_of_declared_labels_is_kept():
    labels = from_arrow(pl.Series(["b", "a"], dtype=pl.Enum(["z", "b", "a"])))
    assert labels.cat.categories.tolist() == ["z", "b", "a"]


def test_times_with_a_zone_are_the_same_moments():
    series = pl.Series([TIME, None]).dt.replace_time_zone("Europe/Berlin")
    assert from_arrow(series)[0] == pd.Timestamp(TIME, tz="Europe/Berlin")


def test_tables_have_their_columns_in_order():
    frame = pl.DataFrame({"b": [1, 2], "a": ["x", None], "nothing": [None, None]})
    found = from_arrow(frame)
    assert list(found.columns) == ["b", "a", "nothing"] and found["b"].dtype == np.int64
    assert found["a"].tolist() == ["x", None] and found["nothing"].isna().all()
    assert from_arrow(frame.head(0)).shape == (0, 3) and from_arrow(frame[1:])["b"].tolist() == [2]


def test_what_holds_no_numbers_is_refused_by_name():
    with pytest.raises(ValueError, match=r"column 'l' has Arrow's type '\+L', wanted numbers"):
        from_arrow(pl.DataFrame({"l": [[1, 2], [3]]}))


def test_they_are_data_like_those_of_pandas():
    def model(x, y=None): ...

    frame = pl.DataFrame({"x": [1, 2, 3], "y": [0.5, 1.5, 2.5]})
    for data in ((frame,), (frame["x"], frame["y"]), (frame["x"].to_list(), frame["y"])):
        x, y = arguments(model, data, torch.float32, torch.device("cpu")).values
        assert x.tolist() == [1, 2, 3] and y.tolist() == [0.5, 1.5, 2.5] and x.dtype == torch.int64
    with pytest.raises(ValueError, match=r"got a LazyFrame, .*collect"):
        arguments(model, (frame.lazy(),), torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"x: 1 of 2 values are not finite"):
        arguments(model, (pl.Series("x", [1.0, None]),), torch.float32, torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:.*became the codes")
def test_fits_and_predictions_are_those_of_pandas():
    table = houses()
    frame = pl.DataFrame(table.to_dict("list"))
    one, two = (credo.fit(radon, "mean_field", data, steps=0, progress=False) for data in (table, frame))
    assert two.codes == one.codes == {"county": COUNTIES}
    pd.testing.assert_frame_equal(one.summary(200), two.summary(200))
    new = table.iloc[:3].drop(columns="y")
    pd.testing.assert_frame_equal(one.intervals(new), two.intervals(pl.DataFrame(new.to_dict("list"))))
    with pytest.raises(ValueError, match="has not seen the label 'COOK'"):
        two.predict(pl.DataFrame({"county": ["COOK"], "floor": [0]}))
    x = pl.DataFrame(inputs(["bmi", "bp"]).to_dict("list"))
    fit = credo.fit(regression, None, x, pl.Series(outputs().numpy()))
    assert list(fit.summary(100).index) == ["a", "b[bmi]", "b[bp]"]
    assert torch.equal(fit.predict(9, x)["y"], fit.predict(9, x.select("bp", "bmi"))["y"])
