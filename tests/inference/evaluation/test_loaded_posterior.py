"""Closed forms and draws of references, loaded: the same answers, with their data and without."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.storage.container import read, write

X = torch.linspace(-1.0, 1.0, 12)
Y = 2 * X + torch.tensor([0.1, -0.2, 0.3, 0.0, -0.1, 0.2] * 2)


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


def conjugate(x, y=None, sd=2.0):
    b = pyro.sample("b", dist.Normal(0.0, sd))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(b * x, 1.0), obs=y)


def test_a_closed_form_comes_back_with_and_without_data(tmp_path):
    exact = credo.exact(conjugate, X, Y)
    exact.save(tmp_path / "exact")
    for data in ((X, Y), ()):
        again = credo.load_fit(tmp_path / "exact", conjugate, None, *data)
        assert same(again.sample(4), exact.sample(4)) and repr(again) == repr(exact)
        assert same(again.predict(3, X[:2]), exact.predict(3, X[:2]))
    updated = exact.update(X, Y)
    updated.save(tmp_path / "updated")
    again = credo.load_fit(tmp_path / "updated", conjugate, None, X, Y)
    assert same(again.sample(4), updated.sample(4)) and again.updated


def test_draws_of_a_reference_come_back_also_without_a_model(tmp_path):
    reference = credo.reference(conjugate, X, Y, draws=400, warmup=100, progress=False)
    reference.save(tmp_path / "draws")
    alone, again = (credo.load_fit(tmp_path / "draws", *given) for given in ((), (conjugate, None, X, Y)))
    assert same(alone.sample(9), reference.sample(9)) and alone.summary().equals(reference.summary())
    assert same(again.predict(3), reference.predict(3)) and repr(again) == repr(reference)
    with pytest.raises(ValueError, match="come without their model"):
        alone.predict(3)


def test_another_model_is_refused(tmp_path):
    credo.exact(conjugate, X, Y).save(tmp_path / "exact")
    for data in ((X, Y), ()):
        with pytest.raises(
            ValueError, match=r"these are not the model and the guide of the fit: site 'b' of the model"
        ):
            credo.load_fit(tmp_path / "exact", lambda x, y=None: conjugate(x, y, 3.0), None, *data)


@pytest.mark.parametrize("kind", ["fit", "exact", "reference"])
def test_what_was_loaded_without_data_is_saved_without_them_or_not_at_all(kind, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    made = {
        "fit": lambda: credo.fit(conjugate, None, X, Y, progress=False),
        "exact": lambda: credo.exact(conjugate, X, Y),
        "reference": lambda: credo.reference(conjugate, X, Y, draws=400, warmup=100, progress=False),
    }[kind]()
    made.save(first)
    loaded = credo.load_fit(first, conjugate)
    with pytest.raises(ValueError, match="with_data: this fit was loaded without its data"):
        loaded.save(second, with_data=True)
    loaded.save(second)
    assert same(credo.load_fit(second, conjugate).sample(3), made.sample(3))
    whole = credo.load_fit(second, conjugate, None, X, Y)
    whole.save(second, with_data=True)
    assert same(credo.load_fit(second, conjugate).predict(3), made.predict(3))


def test_a_file_of_another_version_is_refused_by_its_path(tmp_path):
    credo.exact(conjugate, X, Y).save(tmp_path / "exact")
    described, tensors = read(tmp_path / "exact", "exact")
    for other, words in (({"fields": 1}, "without"), ({"kind": "table"}, "of kind 'table'")):
        kept = {k: v for k, v in described.items() if k not in other}
        write(tmp_path / "other", "exact", kept | {"kind": other.get("kind", "exact")}, tensors)
        with pytest.raises(ValueError, match=f"other: another version of credo wrote this file .{words}"):
            credo.load_fit(tmp_path / "other", conjugate)
