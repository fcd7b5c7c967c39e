"""A fit as data: what the description of a fit says, and what it leaves out."""

import json

import pyro
import pyro.distributions as dist
import pytest
import torch
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
