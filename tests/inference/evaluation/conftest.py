"""A fit that is known without training, and a stand-in for `credo.exact`."""

from types import SimpleNamespace

import pytest

import credo
from credo.inference.evaluation import oracle
from tests.cases.normal_mean import Y, answer, guide, model


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    """Not trained: q is known."""
    return credo.fit(model, guide, Y, steps=0)


@pytest.fixture
def derived(monkeypatch):
    """What stands in for `credo.exact`: the answer it is given, or a refusal."""
    calls = []

    def exact(model, *data):
        calls.append((model, data))
        if isinstance(found := stub.answer, Exception):
            raise found
        return found(*data) if callable(found) else found

    stub = SimpleNamespace(answer=answer, calls=calls)
    monkeypatch.setattr(oracle, "exact", exact)
    return stub
