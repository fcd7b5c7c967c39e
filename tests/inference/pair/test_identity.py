"""What tells a pair on its data from another. Each difference is found, and the same written anew is the same."""

import functools
from fractions import Fraction

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

from credo.inference.pair.identity import data_identity, differences, pair_identity, settings_identity
from credo.inference.pair.pair import Pair

X = torch.tensor([0.5, 1.5, -1.0])


def pair(sd=1.0, start=0.3, site="y", data=X, family=dist.Normal):
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, sd))
        with pyro.plate("N", len(x)):
            pyro.sample(site, family(z, 1.0), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(start)), scale))

    return Pair(model, guide, (data,))


def identity(*args, **options):
    made = pair(*args, **options)
    with pyro.get_param_store().scope():
        return data_identity(made.data, ["x"]) | pair_identity(made, None)


def test_a_pair_defined_anew_is_the_same():
    assert identity() == identity() and not differences(identity(), identity())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sd": 2.0}, "site 'z' of the model (Normal of shape ()) has log density"),
        ({"start": 0.4}, "site 'z' of the model (Normal of shape ()) has log density"),
        ({"site": "x"}, "site 'x' of the model (Normal of shape (3,)) is new"),
        ({"family": dist.Laplace}, "site 'y' of the model is Laplace of shape (3,), and was Normal of shape (3,)"),
        ({"data": X + 1}, "argument 'x' (float32 of shape (3,)) has other values"),
        ({"data": X[:2]}, "argument 'x' is float32 of shape (2,), and was float32 of shape (3,)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_difference_is_named(options, words):
    assert any(found.startswith(words) for found in differences(identity(**options), identity()))


def test_a_smaller_change_than_rounding_is_none():
    assert not differences(identity(sd=1.0 + 1e-6), identity())


def test_rows_that_change_places_and_changes_that_cancel_show():
    there = identity()
    (found,) = differences(pair_of_rows(identity(data=X.flip(0))), pair_of_rows(there))
    assert found.startswith("site 'y' of the model") and found.endswith("in other rows")
    assert differences(identity(sd=1.001), there)


def pair_of_rows(found):
    return {what: value for what, value in found.items() if what.startswith("site")}


def test_a_program_that_fails_tells_nothing():
    def failing(x):
        raise RuntimeError("at this draw")

    assert pair_identity(Pair(failing, failing, (X,)), None) == {}


def test_nothing_of_the_run_changes():
    pyro.get_param_store().clear()
    with pyro.get_param_store().scope():
        made = pair()
        made.guide(X)
        state, before = torch.get_rng_state(), pyro.param("loc").item()
        pair_identity(made, None)
        assert torch.equal(torch.get_rng_state(), state) and pyro.param("loc").item() == before
        assert list(pyro.get_param_store().keys()) == ["scale", "loc"]


SETTINGS = {
    "number": (0.1, 0.2),
    "none": (None, 3),
    "class": (torch.optim.Adam, torch.optim.SGD),
    "partial": (functools.partial(torch.optim.Adam, eps=1e-8), functools.partial(torch.optim.Adam, eps=1e-7)),
    "mapping": ({"z": "score"}, {"z": "pathwise"}),
    "data": ([(np.ones(3), np.zeros(3)), 5], [(np.ones(3), np.ones(3)), 5]),
    "tensor": (torch.ones(2), torch.zeros(2)),
    "set": ({"b", "a"}, {"b"}),
    "NumPy integer": (np.int64(1), np.int64(2)),
    "NumPy float": (np.float32(0.1), np.float32(0.2)),
    "NumPy bool": (np.bool_(True), np.bool_(False)),
    "number in a list": ([np.int64(1)], [np.int64(2)]),
    "table": (pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [1.0, 3.0]})),
    "column": (pd.Series(["a", "b"]), pd.Series(["a", "c"])),
    "array of text": (np.array(["a", "b"]), np.array(["a", "c"])),
    "array of objects": (np.array(["a", None], object), np.array(["b", None], object)),
    "dates": (np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-02"], "M8[D]")),
    "object that shows its value": (Fraction(1, 3), Fraction(2, 3)),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_are_compared_by_value(kind):
    one, other = ({"option": value} for value in SETTINGS[kind])
    assert not differences(settings_identity(one), settings_identity(dict(one)))
    (found,) = differences(settings_identity(one), settings_identity(other))
    assert found.startswith("option=")


@pytest.mark.parametrize(
    "same",
    [(1, 1.0, np.int64(1), np.float32(1), torch.tensor(1), np.array(1.0)), (0.5, np.float64(0.5), np.float32(0.5))],
    ids=["whole", "half"],
)
def test_a_number_is_the_same_in_every_type(same):
    first, *others = ({"option": number} for number in same)
    assert not any(differences(settings_identity(first), settings_identity(other)) for other in others)
    assert differences(settings_identity(first), settings_identity({"option": True}))


def test_networks_and_functions_are_not_compared_by_value():
    assert data_identity([nn.Linear(2, 1)], ["net"]) == data_identity([nn.Linear(2, 1)], ["net"])
    one, other = settings_identity({"lr": lambda t: 0.1}), settings_identity({"lr": lambda t: 0.1})
    assert not differences(one, other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64, torch.bool, torch.uint8])
def test_every_type_of_tensor_has_a_digest(dtype):
    x = torch.ones(2, 3).to(dtype)
    assert data_identity([x], ["x"]) == data_identity([x.t().contiguous().t()], ["x"])
    sparse = torch.eye(3).to_sparse()
    assert differences(data_identity([sparse], ["x"]), data_identity([2 * sparse], ["x"]))
