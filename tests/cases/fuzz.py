"""Random arguments of credo's calls: data of every type that people hold, and options of every kind.

The law: a call works, or it raises an error whose words name an argument, and it leaves the process as it was.
"""

import collections
import datetime
import os
import threading
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

import credo
from tests.conftest import unchanged


def mean(x):
    """One argument, observed."""
    m = pyro.sample("m", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(m, 1.0), obs=x)


def line(x, y=None):
    """A covariate and an observation."""
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def groups(g, y, scale=1.0):
    """An index, an observation, and a setting."""
    with pyro.plate("G", 3):
        a = pyro.sample("a", dist.Normal(0.0, 5.0))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(a[g], scale), obs=y)


def coins(x):
    """Whole numbers that must be 0 or 1."""
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Bernoulli(p), obs=x)


MODELS = (mean, line, groups, coins)
N = 4
NUMBERS = st.one_of(
    st.floats(-100, 100, width=32),
    st.integers(-3, 3),
    st.booleans(),
    st.sampled_from([float("nan"), float("inf"), 1e300, 2**63, 10**30, 1.7e9]),
)
OBJECTS = st.one_of(
    *(
        NUMBERS,
        st.none(),
        st.text(max_size=3),
        st.just(Decimal("1.5")),
        st.just(1j),
        st.just(datetime.date(2026, 1, 1)),
    ),
    *(st.just([1.0]), st.just(torch.tensor(2.0)), st.just(np.float32(2)), st.just(pd.NA)),
)
KINDS = [
    *("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f8", "g", "c8", "c16", "U2", "S2"),
    *("M8[s]", "m8[s]", "O"),
]
COLUMNS = [
    *("bool", "boolean", "Int64", "UInt8", "Float64", "int8", "float32", "float64", "category", "string", "object"),
    *("datetime64[ns]", "timedelta64[ns]", "Sparse[float]", "complex128"),
]


LABELS = st.lists(st.sampled_from(["a", "b", "c", "c", "a", "b", "d", " a", "", "nan", "é"]), min_size=N, max_size=N)
HELD = [
    *(lambda v: pd.Series(v), lambda v: pd.Series(v, dtype=object), lambda v: pd.Series(v, dtype="string")),
    *(
        lambda v: pd.Series(v, dtype="category"),
        lambda v: pd.Series(v).astype("category").cat.set_categories(["b", "a", "c"]),
    ),
    *(lambda v: pd.Index(v), np.array, lambda v: np.array(v, object), lambda v: np.array(v).reshape(2, 2), list),
    *(
        lambda v: np.array([x.encode() for x in v]),
        lambda v: pd.Series([*v[:3], None]),
        lambda v: pd.Series([*v[:3], 1]),
    ),
]


def labels() -> st.SearchStrategy[Any]:
    """Text and categories, in every container, with labels that are missing or that no fit has seen."""
    return st.builds(lambda held, values: held(values), st.sampled_from(HELD), LABELS)


@st.composite
def arrays(draw: Any) -> Any:
    """A NumPy array, masked perhaps, of any type and a small shape."""
    shape = draw(st.sampled_from([(N,), (N, 1), (N, 2), (1,), (), (0,), (3,), (2, 2, 2)]))
    kind = draw(st.sampled_from(KINDS))
    values = [draw(st.integers(0, 2)) for _ in range(int(np.prod(shape)))]
    array = np.array(values).astype(kind).reshape(shape)
    if draw(st.booleans()) and array.size and array.dtype.kind in "if":
        array = np.ma.masked_array(array, mask=draw(st.booleans()))
    return array


@st.composite
def columns(draw: Any) -> pd.Series:
    """A Series of any type, with missing values or another index perhaps."""
    rows = draw(st.sampled_from([N, N, N, 0, 1]))
    values = [draw(st.integers(0, 2)) for _ in range(rows)]
    try:
        column = pd.Series(values).astype(draw(st.sampled_from(COLUMNS)))
    except (TypeError, ValueError):
        column = pd.Series(values)
    if draw(st.booleans()) and rows == N:
        column.index = pd.Index(draw(st.sampled_from([[3, 2, 1, 0], list("abcd"), [1, 1, 2, 3], [5, 6, 7, 8]])))
    if draw(st.booleans()) and rows > 1 and "Int" in str(column.dtype) + "Float":
        column = column.mask([True] + [False] * (rows - 1))
    return column


def is_column(value: Any) -> bool:
    return np.ndim(value) == 1


@st.composite
def tables(draw: Any) -> pd.DataFrame:
    """A table with columns of any type, named like the arguments or not."""
    names = draw(st.lists(st.sampled_from(["x", "y", "g", "X", "yy", "a", "b", 0]), max_size=4))
    parts = [pd.Series(draw(st.one_of(columns(), labels().filter(is_column)))).reset_index(drop=True) for _ in names]
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, axis=1)
    table.columns = names
    return table


TENSORS = st.builds(
    lambda kind, shape: torch.ones(shape).to(kind),
    st.sampled_from(
        [torch.bool, torch.uint8, torch.int64, torch.uint64, torch.float16, torch.float64, torch.complex64]
    ),
    st.sampled_from([(N,), (N, 1), (N, 2), (), (0,), (3,)]),
)
DATA = st.one_of(
    *(arrays(), columns(), labels(), tables(), TENSORS, NUMBERS, OBJECTS),
    *(
        st.lists(NUMBERS, max_size=4),
        st.lists(OBJECTS, max_size=4),
        st.lists(st.lists(NUMBERS, max_size=2), max_size=3),
    ),
    st.tuples(NUMBERS, NUMBERS),
    *(
        st.just(range(N)),
        st.sets(NUMBERS, max_size=3),
        st.dictionaries(st.sampled_from(["x", "y", "g", "q"]), st.one_of(arrays(), labels())),
    ),
    st.builds(lambda n: (float(i) for i in range(n)), st.integers(0, N)),
    st.builds(lambda n: collections.deque([1.0] * n), st.integers(0, N)),
    *(st.builds(lambda: TensorDataset(torch.ones(N), torch.zeros(N))),),
    *(st.builds(lambda: DataLoader(TensorDataset(torch.ones(N)), batch_size=2)),),
    *(st.builds(object), st.just(len), st.just(torch.nn.Linear(1, 1)), st.builds(threading.Lock)),
)
SOUND = st.one_of(
    st.builds(lambda v: torch.tensor(v), st.lists(st.floats(-3, 3, width=32), min_size=N, max_size=N)),
    st.builds(lambda v: np.array(v), st.lists(st.floats(-3, 3), min_size=N, max_size=N)),
    st.builds(lambda v: pd.Series(v), st.lists(st.integers(0, 1), min_size=N, max_size=N)),
    st.builds(lambda v: pd.Series(v), st.lists(st.sampled_from("abc"), min_size=N, max_size=N)),
)
ODD = st.one_of(
    NUMBERS, OBJECTS, st.text(max_size=3), st.just([1]), st.just(torch.ones(2)), st.just({}), st.builds(object)
)
OPTIONS = st.one_of(
    st.just({}),
    st.dictionaries(
        st.sampled_from(
            *(["lr", "particles", "batch_size", "seed", "device", "plan", "optim", "stpes", "force", "y", "x", "q"],)
        ),
        ODD,
        max_size=1,
    ),
)
CALLS = st.sampled_from(["fit", "plan", "step", "exact", "predict", "log_likelihood"])


@st.composite
def inputs(draw: Any) -> tuple[str, Any, list[Any], dict[str, Any]]:
    """(the call, the model, its data, options)."""
    data = draw(st.lists(st.one_of(DATA, SOUND), max_size=3))
    return draw(CALLS), draw(st.sampled_from(MODELS)), data, draw(OPTIONS)


WORDS = ("table", "column", "site", "data", "model", "argument", "n:", "plan", "seed", "device", "batch_size", "guide")
RAISES = (ValueError, TypeError, ArithmeticError, IndexError, RuntimeError, credo.NoClosedForm)


def fits() -> dict[Any, credo.Fit]:
    """A fit of each model, to predict from. That of `groups` has seen labels."""
    x = torch.tensor([0.5, -1.0, 2.0, 0.0])
    g, y = pd.Series(list("abca")), torch.tensor([1.0, 0.0, 1.0, 0.0])
    data = {mean: (x,), line: (x, x), groups: (g, x), coins: (y,)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {m: credo.fit(m, None, *data[m], steps=1, plan="fast", compile=False, progress=False) for m in MODELS}


def call(what: str, model: Any, data: list[Any], options: dict[str, Any], known: dict[Any, credo.Fit]) -> None:
    """One call on this input."""
    quick = {"plan": "fast", "device": "cpu"} | options
    if what == "fit":
        credo.fit(model, None, *data, **{"steps": 1, "compile": False, "progress": False, **quick})
    elif what == "plan":
        credo.plan(model, None, *data, **quick)
    elif what == "step":
        credo.SVI(model, None, compile=False, plan="fast", device="cpu").step(*data, **options)
    elif what == "exact":
        credo.exact(model, *data, **options)
    elif what == "predict":
        n, *new = data or [2]
        credo.predict(known[model], n, *new, **options)
    else:
        n, *new = data or [2]
        credo.log_likelihood(known[model], n, *new, **options)


def holds(case: tuple[str, Any, list[Any], dict[str, Any]], known: dict[Any, credo.Fit]) -> None:
    """Fails unless this input works, or is refused by name, and nothing of the process changes."""
    what, model, data, options = case
    if data and what in ("predict", "log_likelihood") and isinstance(data[0], (int, float)) and data[0] > 100:
        return  # so many draws are no mistake, but take long
    before = os.getcwd(), list(warnings.filters), torch.get_num_threads()
    names = (*known[model].model.__code__.co_varnames, *options, *WORDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with unchanged():
            try:
                call(what, model, data, options, known)
            except RAISES as error:
                said = " ".join([str(error), *getattr(error, "__notes__", [])])
                assert any(name in said for name in names), f"{type(error).__name__}: {said!r} names no argument"
    pyro.clear_param_store()
    assert before == (os.getcwd(), list(warnings.filters), torch.get_num_threads())
