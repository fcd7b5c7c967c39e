"""A fit as data: what the description of a fit says, and what it leaves out."""

import copy
import json
import pickle

import cloudpickle
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoIAFNormal, AutoNormalMessenger, AutoStructured
from torch import nn

import credo
from credo.inference.variational.saved import fit_as_data

X = torch.full((8,), 1.2345)


def model(x, settings=None):
    m = pyro.sample("m", dist.Normal(0.0, 2.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(m, 1.0), obs=x)


def guide(x, settings=None):
    pyro.sample("m", dist.Normal(pyro.param("loc", torch.zeros(())), 0.5))


def fitted(*data):
    return credo.fit(model, guide, *data, steps=5, progress=False, compile=False)


def test_a_description_is_json_and_tensors_of_their_own():
    tensors = {}
    described = fit_as_data(fitted(X), tensors, False)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert "parts.tensors.loc" in tensors and all(t.is_contiguous() for t in tensors.values())
    assert not any(torch.equal(t, X) for t in tensors.values())
    fit_as_data(fitted(X), with_data := {}, True)
    assert any(torch.equal(t, X) for t in with_data.values())


class Graph:
    """An object of the user's, which the model takes."""


def test_an_object_among_the_data_is_passed_again(tmp_path):
    fit = fitted(X, Graph())
    fit.save(tmp_path / "fit", with_data=True)
    with pytest.raises(ValueError, match="settings: no file holds the Graph of the fit; pass one of the same kind"):
        credo.load_fit(tmp_path / "fit", model, guide)
    with pytest.raises(ValueError, match=r"settings: got Linear, wanted an object \(Graph\), as in the fit"):
        credo.load_fit(tmp_path / "fit", model, guide, X, nn.Linear(1, 1))
    again = credo.load_fit(tmp_path / "fit", model, guide, X, Graph())
    assert torch.equal(again.predict(3)["x"], fit.predict(3)["x"])
    assert credo.load_fit(tmp_path / "fit", model, guide, settings=Graph(), x=X).data[0].shape == (8,)


def line(x, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 2.0))
    s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(b * x, s), obs=y)


LINE = torch.tensor([-2.1, -1.2, -0.9, -0.1, 0.4, 0.7, 1.6, 1.9])
COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda fit: pickle.loads(pickle.dumps(fit)),
    "cloudpickle": lambda fit: pickle.loads(cloudpickle.dumps(fit)),
}
GUIDES = {
    "None": lambda: None,
    "iaf": lambda: AutoIAFNormal(line),  # a transform keeps what it saw under vmap
    "messenger": lambda: AutoNormalMessenger(line),  # it keeps the last trace
    "structured": lambda: AutoStructured(line, conditionals="normal", dependencies={}),
}


@pytest.mark.filterwarnings("ignore")  # of a short run, or a posterior that is no normal
@pytest.mark.parametrize("guide", GUIDES)
def test_a_fit_is_copied_and_pickled(guide):
    options = {} if guide == "None" else {"steps": 10, "compile": False}
    fit = credo.fit(line, GUIDES[guide](), torch.linspace(-1.0, 1.0, 8), LINE, progress=False, **options)
    for how, copied in COPIES.items():
        again = copied(fit)
        assert torch.equal(again.sample(3)["b"], fit.sample(3)["b"]), how
        assert torch.equal(again.predict(3)["y"], fit.predict(3)["y"]) and repr(again.plan) == repr(fit.plan), how


def test_a_fit_of_a_lambda_is_cloudpickled():
    fit = credo.fit(lambda x: model(x), None, X, progress=False)
    assert torch.equal(COPIES["cloudpickle"](fit).sample(3)["m"], fit.sample(3)["m"])
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(fit)
