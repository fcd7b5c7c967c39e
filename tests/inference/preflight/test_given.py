"""No run changes the data, and arguments of other lengths are named."""

import collections
import dataclasses

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo


def mean_guide(y, *_):
    m = pyro.param("m", torch.tensor(0.0))
    s = pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("mu", dist.Normal(m, s))


def plain(y, *_):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def shifts(y):
    y -= 0.01
    plain(y)


def fills(y):
    y[y < 1.5] = 1.5
    plain(y)


def guide_that_shifts(y):
    y.sub_(0.01)
    mean_guide(y)


@pytest.mark.parametrize(
    ("model", "guide"), [(shifts, mean_guide), (shifts, None), (fills, mean_guide), (plain, guide_that_shifts)]
)
def test_a_pair_that_changes_its_data_is_refused_and_the_users_tensor_is_unchanged(model, guide):
    y = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"y: the model or the guide changes this argument in place.*y = y.clone\(\)"):
        credo.fit(model, guide, y, progress=False)
    assert y.tolist() == [1.0, 2.0, 3.0]


def test_a_copy_may_be_changed():
    def model(y):
        y = y.clone()
        y -= 1.0
        plain(y)

    y = torch.tensor([1.0, 2.0, 3.0])
    fit = credo.fit(model, mean_guide, y, steps=2, progress=False)
    assert y.tolist() == fit.data[0].tolist() == [1.0, 2.0, 3.0]


def test_a_fit_keeps_its_data_when_the_user_changes_theirs():
    y = torch.tensor([1.0, 2.0, 3.0])
    fit = credo.fit(plain, mean_guide, y, steps=2, progress=False)
    y.zero_()
    assert fit.data[0].tolist() == [1.0, 2.0, 3.0]


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def free(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("y", -((y - w * x) ** 2).sum())


@pytest.mark.parametrize("model", [line, free])
@pytest.mark.parametrize("call", [lambda *a: credo.fit(a[0], None, *a[1:], progress=False), credo.exact])
def test_arguments_of_other_lengths_are_named(model, call):
    with pytest.raises(ValueError, match="x has 5 rows and y has 4, and the pair cannot use them together"):
        call(model, torch.ones(5), torch.ones(4))


def test_other_errors_about_sizes_are_left_as_they_are():
    def model(x, groups):
        torch.ones(2) + torch.ones(3)

    with pytest.raises(RuntimeError, match=r"^The size of tensor a \(2\)"):
        credo.fit(model, None, torch.ones(5), torch.ones(2), progress=False)


def test_lengths_that_differ_on_purpose_are_fine():
    """A row for each observation beside one for each group."""

    def model(group, mean, y):
        with pyro.plate("groups", len(mean)):
            a = pyro.sample("a", dist.Normal(mean, 1.0))
        with pyro.plate("N", len(group)):
            pyro.sample("y", dist.Normal(a[group], 1.0), obs=y)

    group = torch.tensor([0, 1, 0, 1, 1])
    assert credo.fit(model, None, group, torch.ones(2), torch.ones(5), steps=2, progress=False).losses


@dataclasses.dataclass(frozen=True)
class Rows:
    y: torch.Tensor


Named = collections.namedtuple("Named", "x y")


def three():
    return torch.tensor([1.0, 2.0, 3.0])


def takes_out(d):
    plain(d.pop("y"))


def replaces(d):
    d["y"] = d["y"] - 1.0
    plain(d["y"])


def grows(d):
    d.append(d[0].mean()[None])
    plain(torch.cat(d))


def in_numpy(d):
    d["y"] += 1.0
    plain(torch.as_tensor(np.asarray(d["y"])))


# (how the model gets at its rows, data, the place in the message)
NESTED = {
    "dictionary": (lambda d: plain(d["y"].sub_(0.1)), {"y": three()}, r"d\['y'\]"),
    "list": (lambda d: plain(d[1].sub_(0.1)), [three(), three()], r"d\[1\]"),
    "named tuple": (lambda d: plain(d.y.sub_(0.1)), Named(three(), three()), "d.y"),
    "dataclass": (lambda d: plain(d.y.sub_(0.1)), Rows(three()), "d.y"),
    "deep": (lambda d: plain(d["a"]["b"][0].sub_(0.1)), {"a": {"b": (three(),)}}, r"d\['a'\]\['b'\]\[0\]"),
    "another tensor": (replaces, {"y": three()}, r"d\['y'\]"),
    "taken out": (takes_out, {"y": three()}, r"d\['y'\]"),
    "a list that grows": (grows, [three(), three()], r"d\[\d\]"),
    "pandas": (in_numpy, {"y": pd.Series([1.0, 2.0])}, r"d\['y'\]"),
    "NumPy": (in_numpy, {"y": np.array([1.0, 2.0])}, r"d\['y'\]"),
}


@pytest.mark.parametrize(("model", "data", "place"), NESTED.values(), ids=NESTED)
@pytest.mark.parametrize(
    "call",
    [
        lambda model, data: credo.fit(model, mean_guide_of_any, data, progress=False),
        lambda model, data: credo.SVI(model, mean_guide_of_any).step(data),
        credo.exact,
    ],
    ids=["fit", "step", "exact"],
)
def test_changes_inside_of_a_container_are_refused_and_the_users_is_unchanged(model, data, place, call):
    before = repr(data)
    with pytest.raises(ValueError, match=f"{place}: the model or the guide changes {place} in place"):
        call(model, data)
    assert repr(data) == before


def mean_guide_of_any(d):
    mean_guide(None)


def converts(d):
    d["y"] = d["y"].float()
    plain(d["y"])


def adds(d):
    d["n"] = torch.tensor(len(d["y"]))
    plain(d["y"])


def logs(d):
    d["seen"].append(len(d["y"]))
    plain(d["y"])


def codes(d):
    d["y"] = torch.as_tensor(np.unique(d["g"], return_inverse=True)[1]).float()
    d["g"] = np.asarray(d["g"], dtype=object)
    plain(d["y"] * 0 + torch.tensor([1.0, 2.0, 3.0]))


KEPT = {
    "text": (codes, {"g": np.array(["a", "b", "c"])}),
    "converted": (converts, {"y": three().double()}),
    "an entry more": (adds, {"y": three()}),
    "a log": (logs, {"y": three(), "seen": []}),
    "a copy": (lambda d: plain(d[0].clone().sub_(0.0)), [three()]),
    "read only": (lambda d: plain(d.y), Rows(three())),
}


@pytest.mark.parametrize(("model", "data"), KEPT.values(), ids=KEPT)
def test_containers_that_keep_their_numbers_are_taken_and_the_users_is_unchanged(model, data):
    before = repr(data)
    fit = credo.fit(model, mean_guide_of_any, data, steps=3, progress=False, compile=False)
    assert len(fit.losses) == 3 and repr(data) == before
    assert abs(credo.exact(model, data).marginals["mu"].mean - 6 / (3 + 1 / 100)) < 1e-6
    assert repr(data) == before


def line(x, y):
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(b * x, 0.5), obs=y)


def products(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[-1]), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(x.float() @ w, 0.5), obs=y)


@pytest.mark.parametrize("columns", [("xx",), ("xs", "z")], ids=["one", "two"])
def test_columns_that_became_a_matrix_are_listed_where_the_model_wants_one(columns):
    table = pd.DataFrame({name: np.arange(6.0) for name in (*columns, "y")})
    with pytest.raises(
        ValueError, match=rf"^x is a matrix of shape \(6, {len(columns)}\), of the columns \['{columns[0]}'"
    ):
        credo.fit(line, None, table, steps=2, progress=False)
    assert len(credo.fit(products, None, table, steps=2, progress=False, compile=False).losses) == 2


def test_one_row_of_data_is_named():
    x = np.arange(6.0)
    with pytest.raises(ValueError, match=r"^x has shape \(1, 6\), one row; pass x.reshape\(-1\) if these are 6 rows"):
        credo.fit(line, None, x[None], x[None], steps=2, progress=False)
    with pytest.raises(ValueError, match=r"^x has 6 rows and y has 1, and the pair cannot use them together"):
        credo.fit(line, None, x, x[None], steps=2, progress=False)
    one = np.ones((1, 6))
    assert len(credo.fit(products, None, one, np.ones(1), steps=2, progress=False, compile=False).losses) == 2
