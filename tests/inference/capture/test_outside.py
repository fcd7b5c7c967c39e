"""What a program reads from outside of itself."""

import functools
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch

from credo.inference.capture.outside import (
    current_values,
    definition_line,
    outside_readers,
    outside_scalars,
    present_objects,
    replaced,
    tensors_of,
)

beside = 1.0
unread = 2.0


class Holder:
    def __init__(self):
        self.kept = 3
        self.calls = 0

    def model(self):
        self.calls += 1
        return self.kept + self.calls


def make():
    inner, table, series, text = 0.5, {"heat": 0.1, "other": "a"}, [1, 2], "word"

    def model(x):
        return beside * inner * table["heat"] * series[0] * len(text)

    def change(**new):
        nonlocal inner
        inner = new.get("inner", inner)
        table["heat"] = new.get("heat", table["heat"])
        series[1] = new.get("last", series[1])

    return model, change


@pytest.mark.parametrize("new", [{"inner": 2.0}, {"heat": 0.2}, {"last": 7}])
def test_a_number_that_changes_is_seen(new):
    model, change = make()
    found = outside_scalars((model, functools.partial(model, 1)))
    before = current_values(found)
    assert current_values(found) == before
    change(**new)
    after = current_values(found)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_a_global_of_the_same_file_counts_and_others_do_not(monkeypatch):
    model, _ = make()
    found = outside_scalars((model,))
    before = current_values(found)
    monkeypatch.setitem(globals(), "unread", 5.0)
    assert current_values(found) == before
    monkeypatch.setitem(globals(), "beside", 5.0)
    assert current_values(found) != before


def test_attributes_of_the_users_objects_count():
    holder = Holder()
    found = outside_scalars((holder.model,))
    before = current_values(found)
    holder.model()
    assert current_values(found) != before
    assert {name.split(".")[-1] for name in found} >= {"kept", "calls"}


@pytest.mark.parametrize("kind", [Namespace, SimpleNamespace])
def test_attributes_of_a_namespace_count(kind):
    settings = kind(heat=0.5)

    def model(x):
        return x * settings.heat

    scalars = outside_scalars(model)
    before, objects = current_values(scalars), present_objects(scalars)
    assert current_values(scalars) == before and present_objects(scalars)[-1] is objects[-1]
    settings.heat = 0.25
    assert current_values(scalars) != before and present_objects(scalars)[-1] is not objects[-1]


def test_what_holds_no_number_is_left_out_and_what_goes_away_is_borne():
    class Model:
        def __init__(self):
            self.tensor, self.number = object(), 1

        def __call__(self):
            return self.number

    model = Model()
    found = outside_scalars((model,))
    assert {name.split(".")[-1] for name in found} == {"number"}
    del model.number
    assert current_values(found) == (None,)


def test_the_place_of_a_program_is_its_first_line():
    model, _ = make()
    assert definition_line(functools.partial(model, 1)).startswith(" at test_outside.py:")
    assert definition_line(model).endswith(": `def model(x):`")
    assert definition_line(3) == definition_line(Holder()) == ""


def test_tensors_that_a_recording_holds_are_watched_and_others_are_not():
    held, other, holder = torch.ones(2), torch.zeros(2), SimpleNamespace(t=torch.ones(3), unused=torch.ones(1))

    def model(x):
        return held * x + holder.t.sum() + other * holder.unused

    def change(**new):
        nonlocal held, other
        held, other = new.get("held", held), new.get("other", other)

    found = tensors_of(outside_readers(model), [held.detach(), holder.t.detach(), torch.ones(5)])
    assert sorted(one.name.split(".")[-1] for one in found) == ["held", "t"] and replaced(found) is None
    held.add_(1)
    change(other=torch.ones(2))
    holder.unused = None
    assert replaced(found) is None
    change(held=held.clone())
    assert replaced(found) == "held"
