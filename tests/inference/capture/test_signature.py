"""The signature of a step: what its recording depends on."""

from argparse import Namespace
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from credo.inference.capture.record import NotCaptured
from credo.inference.capture.replay import StepInputs
from credo.inference.capture.signature import signature_of
from tests.cases.elbo.expectations import observe, param
from tests.cases.replay.compared import check_equal_runs

X = torch.tensor([1.0, 2.0, 3.0])
NET = nn.Linear(3, 1)
LEAF = torch.zeros(2, requires_grad=True)


def of(*data, choices=(), settings=(), outside=(), leaves=(LEAF,), per_step=(), modules=(NET,)):
    inputs = StepInputs(list(leaves), {}, list(per_step), [], [])
    return signature_of(choices, settings, outside, inputs, data, modules)


def test_other_values_in_tensors_have_the_same_signature():
    assert of(X, 1.5, [NET, None]) == of(X + 1, 1.5, [NET, None])
    assert of(X, per_step=[torch.tensor([0, 1])]) == of(X, per_step=[torch.tensor([2, 0])])


@pytest.mark.parametrize(
    "other",
    [
        lambda: of(X[:2], 1.5),
        lambda: of(torch.zeros(3, 2)[:, 0], 1.5),  # strides
        lambda: of(X.double(), 1.5),
        lambda: of(X, 2.5),
        lambda: of(X, 2),
        lambda: of(X, X),
        lambda: of([X, 1.5]),
        lambda: of(X, 1.5, choices=("score",)),
        lambda: of(X, 1.5, settings=(8,)),
        lambda: of(X, 1.5, outside=(1,)),
        lambda: of(X, 1.5, leaves=[torch.zeros(2)]),
        lambda: of(X, 1.5, per_step=[torch.zeros(4)]),
        lambda: of(X, 1.5, modules=[nn.Linear(3, 1).eval()]),
    ],
)
def test_what_a_recording_depends_on_has_another_signature(other):
    assert other() != of(X, 1.5)


class Sizes(NamedTuple):
    hidden: int = 3


@dataclass
class Settings:
    sd: float = 1.0
    sizes: tuple[int, ...] = (3, 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: Namespace(sd=n, sizes=(3, 4)),
        lambda n: SimpleNamespace(sd=1.0, inner={"n": n}),
        lambda n: Settings(sizes=(n,)),
        lambda n: Sizes(n),
        lambda n: range(n),
        lambda n: slice(0, n),
        lambda n: {1, n},
    ],
    ids=["Namespace", "SimpleNamespace", "dataclass", "NamedTuple", "range", "slice", "set"],
)
def test_settings_count_by_their_values(make):
    assert of(X, make(2)) == of(X, make(2))
    assert of(X, make(2)) != of(X, make(3))


def test_a_tensor_in_an_object_of_settings_is_refused():
    with pytest.raises(NotCaptured, match="holds a Tensor in an object"):
        of(X, Namespace(prior=X))


def test_one_tensor_passed_twice_differs_from_two_equal_ones():
    assert of(X, X) != of(X, X.clone())


def test_a_sparse_argument_is_refused():
    with pytest.raises(NotCaptured, match="sparse"):
        of(torch.eye(3).to_sparse())


def test_an_argument_that_cannot_be_compared_is_not_replayed():
    class Settings:
        heat = 1.0

    settings = Settings()

    def model(y, settings):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        observe(y, z * settings.heat)

    def guide(y, settings):
        pyro.sample("z", dist.Normal(param("loc", 0.0), 1.0))

    assert "Settings, which cannot be compared" in check_equal_runs(model, guide, (X, settings)).plan.compiled


def test_handlers_around_a_step_are_part_of_it():
    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        observe(y, z)

    def guide(y):
        pyro.sample("z", dist.Normal(param("loc", 0.0), 1.0))

    losses = []
    for compile in (True, False):
        svi = credo.SVI(model, guide, compile=compile, progress=False)
        for _ in range(40):
            svi.step(X)
        with pyro.poutine.scale(scale=0.1):
            losses.append([svi.step(X) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
