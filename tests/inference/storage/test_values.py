"""Values as JSON and tensors: each comes back with its type and its bits; anything else is refused by its place."""

import datetime
import decimal
import json
import math
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from credo.inference.storage.values import described, restored

Point = namedtuple("Point", "x y", defaults=[3])
VALUES = {
    "None": None,
    "True": True,
    "int": 2**70,
    "float": 0.1,
    "minus-zero": -0.0,
    "inf": float("-inf"),
    "nan": float("nan"),
    "complex": 1 - 0.1j,
    "text": "ü\ud800\x00",
    "bytes": b"\x00a",
    "tuple": (1, (2.0,), [None]),
    "empty": [(), [], {}, set()],
    "dict": {1: 2, (1, 2): [3], None: 4, "a": {"tensor": "b"}, False: 0.5, 2.5: ()},
    "ordered": OrderedDict(b=1, a=2),
    "set": {(1, 2)},
    "frozenset": frozenset("a"),
    "range": range(1, 9, 2),
    "slice": slice(None, 3),
    "floats": tuple(i / 7 for i in range(300)),
    "floats-inf": [math.inf, math.nan] * 100,
    "named": Point(1, {"a": 2}),
    "timestamp": pd.Timestamp("2020-01-01 10:00:00.123456789", tz="Europe/Berlin"),
    "timedelta": pd.Timedelta("3D 1ns"),
    "period": pd.Period("2020-03", "M"),
    "interval": pd.Interval(0, 1.5, "left"),
    "no-time": pd.NaT,
    "missing": pd.NA,
    "datetime": datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC),
    "date": datetime.date(2020, 1, 1),
    "decimal": decimal.Decimal("1.10"),
    "path": Path("a/b"),
    "size": torch.Size([1, 2]),
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
    "array-text": np.array(["a", "bcd"]),
    "array-object": np.array([1, "a", None, (2, 3)], dtype=object),
    "array-dates": np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "array-big-endian": np.array([1.5], ">f8"),
    "array-transposed": np.arange(6).reshape(2, 3).T,
    "array-empty": np.zeros((0, 2), np.float32),
    "array-0d": np.array(3, np.uint16),
    "np-float": np.float64(0.1),
    "np-bool": np.bool_(True),
    "np-date": np.datetime64("2020-01-01"),
    "np-complex": np.complex64(1 + 2j),
}
TENSORS = {
    "scalar": torch.tensor(3.0),
    "empty": torch.empty(0, 3),
    "bool": torch.tensor([True, False]),
    "half": torch.arange(5).bfloat16(),
    "double": torch.arange(5.0).double() / 7,
    "complex": torch.randn(2, 3).to(torch.complex128),
    "conjugate": torch.randn(2, dtype=torch.cfloat).conj(),
    "transposed": torch.randn(2, 3, 4).permute(2, 0, 1),
    "view": torch.randn(100)[::2],
    "expanded": torch.randn(1).expand(4),
    "gradient": torch.randn(2, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.randn(3)),
    "frozen": torch.nn.Parameter(torch.randn(3), requires_grad=False),
    "one-of-a-column": torch.randn(1, 2)[:, :1],
    "nan": torch.tensor([math.nan, math.inf, -0.0]),
    "sparse": torch.eye(3).to_sparse(),
}


def there_and_back(value):
    tensors = {}
    text = json.dumps(described(value, tensors, [Point], "value"), allow_nan=False)
    return restored(json.loads(text), {name: tensor.clone() for name, tensor in tensors.items()}, [Point])


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back(name):
    value, again = VALUES[name], there_and_back(VALUES[name])
    assert type(again) is type(value) and repr(again) == repr(value)
    if isinstance(value, np.ndarray):
        assert again.dtype == value.dtype and again.shape == value.shape


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back_bit_for_bit(name):
    value, again = TENSORS[name], there_and_back(TENSORS[name])
    assert type(again) is type(value) and again.requires_grad == value.requires_grad
    torch.testing.assert_close(again, value, rtol=0, atol=0, equal_nan=True)
    if name not in ("view", "expanded", "sparse", "one-of-a-column"):
        assert again.stride() == value.stride()


def test_a_tensor_shares_no_memory_with_what_is_kept():
    big, tensors = torch.zeros(1000, 1000), {}
    described([big[0], big[0]], tensors)
    assert sorted(tensors) == ["0", "1"] and all(t.untyped_storage().nbytes() == 4000 for t in tensors.values())
    big.fill_(1.0)
    assert not tensors["0"].any()


def test_names_tell_the_place_of_a_tensor():
    tensors = {}
    described({"params": {"loc": torch.ones(2)}, "params.loc": torch.zeros(1)}, tensors, at="fit")
    assert {name: len(tensor) for name, tensor in tensors.items()} == {"fit.params.loc": 2, "fit.params.loc (1)": 1}


@pytest.mark.parametrize("value", [object(), print, torch.nn.Linear(1, 1), pd.DataFrame(), namedtuple("Q", "a")(1)])
def test_an_object_is_refused_by_its_place_and_type(value):
    with pytest.raises(TypeError, match=rf"params\.loc: got an object of .*{type(value).__name__}"):
        described({"loc": value}, {}, [Point], "params")


def test_an_array_that_no_tensor_holds_is_refused():
    with pytest.raises(TypeError, match="got an array of"):
        described(np.zeros(2, [("a", "f4")]), {}, at="x")
    with pytest.raises(TypeError, match="MaskedArray"):
        described(np.ma.masked_array([1.0], [True]), {}, at="x")


def test_a_field_that_a_file_lacks_has_its_default():
    assert restored({"named": ["Point", {"dict": [["x", 1]]}]}, {}, [Point]) == Point(1, 3)


@pytest.mark.parametrize(
    "text",
    [
        '{"tensor": "none"}',
        '{"tuple": 3}',
        '{"named": ["os", {"dict": []}]}',
        '{"what": []}',
        '{"dict": [[1]]}',
        "{}",
        '{"dtype": "float7"}',
        '{"dict": [[[1], 2]]}',
        '{"float": "x"}',
    ],
)
def test_json_that_describes_no_value_is_a_value_error(text):
    with pytest.raises(ValueError):
        restored(json.loads(text), {}, [Point])
