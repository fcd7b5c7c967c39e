"""Data that a model cannot use is refused by the name of its argument; errors of the model's own stay as they are."""

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn import functional as F

import credo

X = torch.linspace(-1.0, 1.0, 12)
Y = 2 * X + torch.tensor([0.3, -0.1, 0.2, -0.4, 0.1, 0.0] * 2)


def line(x, y):
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(b * x, 0.5), obs=y)


def groups(g, y):
    a = pyro.sample("a", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a[g], 0.5), obs=y)


def gathered(g, y):
    a = pyro.sample("a", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a.index_select(-1, g), 0.5), obs=y)


def one_hot(g, y):
    a = pyro.sample("a", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(F.one_hot(g, 3).float() @ a, 0.5), obs=y)


def helped(x, y):
    line(as_it_is(x), y)


def as_it_is(values):
    return values * torch.ones(len(Y))


def iterates(x, y):
    for i, value in enumerate(x):
        pyro.sample(f"z{i}", dist.Normal(value, 1.0), obs=y[i])


def of_table(x, y):
    line(x["dose"], y)


def of_frame(x, y):
    line(x.to_numpy(), y)


def product(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


class Parts(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


def embedded(g, y):
    a = pyro.sample("a", dist.Normal(torch.zeros(3, 1), 1.0).to_event(2))
    line(F.embedding(g, a)[:, 0], y)


def of_fields(d):
    line(d.x, d.y)


def of_values(x, y):
    line(x.values[:, 0], y)


def opposite(x, y):
    line(-x, y)


def counted(k, y):
    line(sum(X**i for i in range(k)), y)


def sized(y):
    line(torch.ones(y.shape[0]), y)


WRONG = [
    (line, ("abc", Y), r"^x: got the text 'abc'.*test_misused.py:\d+.*wanted data with rows"),
    (line, ({1.0, 2.0}, Y), "^x: got a set, .*no order: pass a list"),
    (line, (range(12), Y), r"^x: got range\(0, 12\), .*list\(x\)"),
    (line, (frozenset({1.0}), Y), "^x: got a frozenset, "),
    (line, ([[1.0, 2.0], [3.0]], Y[:2]), "^x: got a list of 2 rows of 1 to 2 numbers.*mask"),
    (line, ([X[:2], X[:3]], Y[:2]), "^x: got a list of 2 rows of 2 to 3 numbers.*mask"),
    (line, (list(X), Y), r"^x: got a list of Tensor.*torch.stack\(x\)"),
    (line, ([X, X], Y), r"^x: got a list of Tensor.*torch.stack\(x\)"),
    (line, (X, None), "^y: got None, .*obs=y"),
    (line, (None, Y), "^x: got None, "),
    (line, ([], []), r"^y is empty: got \[\], .*at least one row"),
    (line, (X, {}), "^y is empty: got {}"),
    (line, (X, 3), "^y: got the number 3, .*wanted data with rows"),
    (line, (X, torch.tensor(3.0)), r"^y: got one number, a tensor of shape \(\)"),
    (line, (torch.sin, Y), "^x: got the function sin, .*call it first"),
    (line, (int, Y), "^x: got the class int, "),
    (line, (object(), Y), "^x: got an object of the type object, "),
    (line, ({"x": X}, Y), r"^x: got the keys \['x'\], .*pass what they hold as arguments"),
    (line, (X.to_sparse(), Y), r"^x: got a sparse tensor, .*x.to_dense\(\)"),
    (line, (X + 0j, Y), "^x: got complex numbers, torch.complex.*x.real"),
    (helped, ("abc", Y), "^x: got the text 'abc'"),
    (iterates, (torch.tensor(1.0), Y), "^x: got one number"),
    (of_table, ({"doses": X}, Y), r"^x: got the keys \['doses'\], .*wanted 'dose'"),
    (of_table, (X[:, None], Y), r"^x: is a tensor here, .*x\[:, 0\]"),
    (of_frame, (X.to_sparse(), Y), r"^x: got a sparse tensor"),
    (
        groups,
        (torch.tensor([1, 2, 3] * 4), Y),
        r"^g: got whole numbers from 1 to 3 as an index into 0 to 2.*pass g - 1",
    ),
    (groups, (torch.tensor([0, 2, 7] * 4), Y), "^g: got whole numbers from 0 to 7.*make room for 8.*factorize"),
    (groups, (torch.tensor([-4, 2, 1] * 4), Y), "^g: got whole numbers from -4 to 2.*missing label"),
    (groups, (torch.tensor([0.0, 2.0, 1.0] * 4), Y), r"^g: got float(32|64) numbers as an index.*g.long\(\)"),
    (gathered, (torch.tensor([1, 2, 3] * 4), Y), "^g: got whole numbers from 1 to 3 as an index.*pass g - 1"),
    (one_hot, (torch.tensor([1, 2, 3] * 4), Y), "^g: got whole numbers from 1 to 3 as an index.*pass g - 1"),
    (line, (X, Y.to_sparse()), r"^y: got a sparse tensor, "),
    (line, (torch.nn.Linear(1, 1), Y), "^x: got the network Linear"),
    (line, (dist.Normal(0.0, 1.0), Y), "^x: got an object of the type Normal"),
    (line, (["1", "2"] * 6, Y), "^x holds str, wanted numbers"),
    (groups, (Y > 0, Y), r"^g: got True and False as an index.*select rows: pass g.long\(\), g.astype\(int\)"),
    (embedded, (Y > 0, Y), r"^g: got True and False as an index.*select rows"),
    (embedded, (torch.tensor([0.0, 1.0, 2.0] * 4), Y), r"^g: got float(32|64) numbers as an index.*g.long\(\)"),
    (embedded, (torch.tensor([1, 2, 3] * 4), Y), "^g: got whole numbers from 1 to 3 as an index.*pass g - 1"),
    (of_fields, (Parts(X, Y),), r"^d: got a Parts with the fields \['a', 'b'\]"),
    (of_values, (X[:, None], Y), r"^x: is a tensor here, .*x\[:, 0\]"),
    (opposite, (X > 0, Y), r"^x: got True and False, .*x.float\(\)"),
    (counted, (3.0, Y), r"^k: got the number 3.0, .*int\(k\)"),
    (counted, (torch.ones(2), Y), "^k: got 2 numbers where one is wanted"),
    (sized, (torch.tensor(1.0),), "^y: got one number"),
    (product, (torch.ones(12, 2, dtype=torch.int64), Y), r"^x: got whole numbers, .*x.float\(\)"),
]


@pytest.mark.parametrize("fitted", [True, False], ids=["fit", "exact"])
@pytest.mark.parametrize(("model", "data", "message"), WRONG)
def test_data_that_the_model_cannot_use_is_refused_by_name(model, data, message, fitted):
    with pytest.raises(ValueError, match=message):
        if fitted:
            credo.fit(model, None, *data, steps=2, progress=False)
        else:
            credo.exact(model, *data)


def test_the_codes_of_another_argument_are_not_blamed():
    def model(g, h, y):
        a = pyro.sample("a", dist.Normal(torch.zeros(3, 2), 1.0).to_event(2))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(a[g, h], 0.5), obs=y)

    g, h = torch.tensor([0, 1, 2] * 4), torch.tensor([1, 2] * 6)
    with pytest.raises(ValueError, match=r"^h: got whole numbers from 1 to 2 as an index into 0 to 1"):
        credo.fit(model, None, g, h, Y, steps=2, progress=False)


def test_what_the_model_refuses_itself_stays_as_it_is():
    def model(y, kind):
        if kind not in ("normal", "student"):
            raise ValueError(f"kind must be normal or student, not {kind}")
        line(X, y)

    with pytest.raises(ValueError, match=r"^kind must be normal or student, not cauchy"):
        credo.fit(model, None, Y, "cauchy", steps=2, progress=False)


@pytest.mark.parametrize("name", ["matmul", torch.matmul])
def test_a_function_by_its_name_is_not_blamed_for_the_shapes_of_tensors(name):
    def model(y, name):
        weights = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        line((getattr(torch, name) if isinstance(name, str) else name)(weights, y), y)

    with pytest.raises(RuntimeError, match="size"):
        credo.fit(model, None, Y, name, steps=2, progress=False)


def test_mistakes_of_the_model_that_read_no_argument_stay_as_they_are():
    def model(y, kind=None):
        line(X, y)
        table = {"a": 1}
        table["b"]

    with pytest.raises(KeyError, match=r"^'b'"):
        credo.fit(model, None, Y, steps=2, progress=False)

    def doubles(y, kind=None):
        line(X, y)
        other = None
        return other * 2

    with pytest.raises(TypeError, match="NoneType"):
        credo.fit(doubles, None, Y, steps=2, progress=False)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (lambda y, kind: line(X if kind == "linear" else X**2, y), (Y, "linear")),
        (lambda y, power: line(X**power, y), (Y, 1)),
        (lambda y, of: line(of(X), y), (Y, lambda x: x)),
        (lambda y, parts: line(sum(part.sum() for part in parts) + X, y), (Y, [torch.zeros(2), torch.zeros(3)])),
        (lambda y, steps: line(sum(0 * X for _ in steps) + X, y), (Y, range(3))),
        (lambda y, names: line(X * len(names), y), (Y, {"a"})),
        (lambda y, scale=None: line(X if scale is None else X / scale, y), (Y,)),
        (lambda y, signal: line(signal.real, y), (Y, X + 0j)),
        (lambda y, x: line(torch.sparse.mm(x, torch.ones(1, 1))[:, 0], y), (Y, X[:, None].to_sparse())),
        (lambda y, x: line(torch.stack(x)[0], y), (Y, [X, X])),
        (groups, (torch.tensor([0, 2, 1] * 4), Y)),
    ],
    ids=["text", "number", "function", "ragged", "range", "set", "None", "complex", "sparse", "list", "codes"],
)
def test_what_the_model_can_use_is_taken(model, data):
    fit = credo.fit(model, None, *data, steps=2, progress=False, compile=False)
    assert len(fit.losses) == 2
