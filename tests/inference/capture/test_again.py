"""A step taken again without its Python: the losses of eager steps, whatever changes between two of them."""

import math
import signal
from argparse import Namespace

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.capture import native, replay
from credo.inference.capture.replay import RecordedStep
from credo.inference.runtime.state import entered
from credo.inference.stepping.steps import Steps
from tests.cases.interpreted import interpreted

Y = torch.tensor([0.5, 1.2, -0.3, 2.0])
SET = Namespace(scale=1.0)


def guide(y, args=None):
    loc = pyro.param("loc", torch.tensor([0.5, 0.1]))
    scale = pyro.param("scale", torch.tensor([0.6, 0.7]), constraint=dist.constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale).to_event(1))


def program(closed=None):
    """A model that reads a number from its closure, one from a global, and one from an argument."""
    noise = 1.0

    def model(y, args=None):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 2.0).to_event(1))
        with pyro.plate("N", len(y)):
            scale = noise * SET.scale * (args.scale if args is not None else 1.0)
            pyro.sample("y", dist.Normal(z.sum(), scale), obs=y)

    def set_noise(value):
        nonlocal noise
        noise = value

    model.set_noise = set_noise
    return model


@pytest.fixture(autouse=True)
def again(monkeypatch):
    """Every step is compiled at once, by Python. Returns a list with an entry for each step: was it taken again?"""
    taken = []
    take_again = Steps.take_again

    def counted(self, *args):
        if self.captures is not None:
            taken.append(take_again(self, *args))
        return self.captures is not None and taken[-1]

    monkeypatch.setattr(native, "open_library", interpreted)
    monkeypatch.setattr(Steps, "take_again", counted)
    return taken


def begun(compile, *data, model=None, steps=23, **options):
    options = {"plan": "fast", "particles": 1, "progress": False} | options
    svi = credo.SVI(model or program(), guide, compile=compile, **options)
    for _ in range(steps):
        svi.step(*data)
    return svi


@pytest.fixture
def twins(again):
    """Two runs of the same program: by a recording, whose last step was taken again, and eager."""
    runs = [begun(compile, Y) for compile in (True, False)]
    assert again[-1] and runs[0].plan.compiled == "captured once, compiled"
    again.clear()
    return runs


def agree(runs, *data, steps=2, **named):
    """Further steps of both runs have the same losses, and lead to the same parameters."""
    one, two = ([svi.step(*data, **named) for _ in range(steps)] for svi in runs)
    assert one == pytest.approx(two, rel=1e-5)
    for name, value in runs[1].params.items():
        torch.testing.assert_close(runs[0].params[name], value, rtol=1e-4, atol=1e-5)


def test_a_step_taken_again_is_the_eager_step(twins, again):
    for _ in range(16):
        agree(twins, Y, steps=1)
    full = [k for k, same in enumerate(again) if not same]
    assert full[1] - full[0] == 8, "after 8 and 16 replays the recording is compared with its program"
    assert twins[0].losses == pytest.approx(twins[1].losses, rel=1e-5) and len(twins[0].losses) == 39
    ages = [float(state["step"]) for state in twins[0]._steps.optimiser.state.values()]
    assert ages == [39, 39] and twins[0]._steps.taken == 39


def unconstrained(svi, name):
    return svi._prepared.state.store["params"][name]


def set_in_place(svi):
    with torch.no_grad():
        unconstrained(svi, "scale").fill_(-0.5)


def set_data(svi):
    unconstrained(svi, "loc").data = torch.tensor([2.0, -1.0])


def set_by_name(svi):
    """A new tensor in the store, which no recording and no optimiser knows."""
    with entered(svi._prepared.state):
        pyro.get_param_store()["loc"] = torch.tensor([0.3, 0.3])


def set_rate(svi, factor):
    for group in svi._steps.optimiser.param_groups:
        group["lr"] *= factor


def load_optimiser(svi):
    """As from a checkpoint, with other moments."""
    optimiser = svi._steps.optimiser
    optimiser.load_state_dict(optimiser.state_dict())
    for state in optimiser.state.values():
        state["exp_avg"].zero_()


@pytest.fixture
def unprobed(monkeypatch):
    """No step is taken in full because it is compared with its program."""
    monkeypatch.setattr(RecordedStep, "is_probed", False)
    monkeypatch.setattr(replay, "PROBES", 1)  # draws in which a new recording is compared: there are tests of these


def test_what_is_changed_between_two_steps_is_noticed(unprobed, twins, again, monkeypatch):
    """Each change, and then two steps of a recording, or eager ones, whichever suits the change."""

    def after(change, *data, restore=lambda svi: None, seen=True, **named):
        again.clear()
        for svi in twins:
            change(svi)
        agree(twins, *(data or (Y,)), **named)
        assert again[0] is not seen
        for svi in twins:
            restore(svi)
        agree(twins, Y)
        agree(twins, Y)
        assert again[-1]

    monkeypatch.setattr(SET, "scale", 1.0)
    nothing = lambda svi: None  # noqa: E731
    after(nothing, seen=False)
    after(lambda svi: svi.model.set_noise(0.5), restore=lambda svi: svi.model.set_noise(1.0))
    after(lambda _: setattr(SET, "scale", 0.5), restore=lambda _: setattr(SET, "scale", 1.0))
    after(lambda _: torch.set_default_dtype(torch.float64), restore=lambda _: torch.set_default_dtype(torch.float32))
    after(lambda svi: set_rate(svi, 10), restore=lambda svi: set_rate(svi, 0.1), seen=False)  # its clock is set
    after(set_in_place, seen=False)  # it lies where the compiled step reads it
    after(load_optimiser)
    after(lambda svi: svi.evaluate_loss(Y))
    after(lambda svi: svi.gradients(Y))
    after(lambda svi: svi.run(Y, steps=2), seen=False)
    after(nothing, Y[:3])
    after(nothing, Y.double())
    after(nothing, Y.numpy())
    after(nothing, Y, Namespace(scale=2.0))
    for move in (set_data, set_by_name):  # from now on each step is taken in full
        again.clear()
        for svi in twins:
            move(svi)
        agree(twins, Y)
        assert not again[0]


def test_what_is_not_of_the_run_changes_nothing_and_is_left_alone(unprobed, twins, again):
    events = [lambda: torch.manual_seed(3), pyro.clear_param_store, lambda: pyro.param("loc", torch.tensor([9.0, 9.0]))]
    for event in events:
        event()
        generators = torch.get_rng_state()
        agree(twins, Y)
        assert torch.equal(torch.get_rng_state(), generators)
    assert pyro.param("loc").tolist() == [9.0, 9.0] and all(again)


def test_data_that_is_not_finite_is_refused_by_its_name(unprobed, twins, again):
    y = Y.clone()
    agree(twins, y, steps=12)
    y[1] = torch.nan
    for svi in twins:
        before = svi.params
        with pytest.raises(ValueError, match="y: 1 of 4 values are not finite"):
            svi.step(y)
        assert all(torch.equal(value, before[name]) for name, value in svi.params.items())
    y.numpy()[1] = 0.5  # torch counts no change of this memory
    agree(twins, y)
    y.numpy()[1] = float("nan")
    with pytest.raises(ValueError, match="y: 1 of 4 values are not finite"):
        twins[0].step(y)


def test_a_step_that_is_not_finite_changes_nothing(unprobed, twins, again):
    far = Y * 1e30
    agree(twins, far.mul(1e-30), steps=12)  # other tensors at each step
    for svi in twins:
        state = svi._prepared.state
        before = svi.params, [float(s["step"]) for s in svi._steps.optimiser.state.values()]
        assert not math.isfinite(svi.step(far)) and math.isfinite(svi.losses[-1])
        assert all(torch.equal(value, before[0][name]) for name, value in svi.params.items())
        assert [float(s["step"]) for s in svi._steps.optimiser.state.values()] == before[1]
        assert state is svi._prepared.state
    agree(twins, Y)
    agree(twins, Y)
    assert again[-1]


def test_batches_come_in_the_order_of_eager_steps(unprobed, again):
    """Also where the rows are shuffled anew."""
    runs = [begun(compile, Y, batch_size=2, steps=24) for compile in (True, False)]
    again.clear()
    agree(runs, Y, steps=7)
    assert again == [True] * 7
    for svi in runs:
        assert not math.isfinite(svi.step(Y * 1e30))
    agree(runs, Y, steps=7)


def test_batches_of_ones_own_and_arguments_by_name(unprobed, again):
    y = torch.cat([Y, Y + 1])
    runs = [begun(compile, Y, steps=0) for compile in (True, False)]
    generator = torch.Generator().manual_seed(0)
    for k in range(34):
        part = y[torch.randperm(8, generator=generator)[:4]]
        one, two = (svi.step(y=part, rows=8) for svi in runs)
        assert one == pytest.approx(two, rel=1e-5), k
    assert all(again[-3:])


def test_ctrl_c_waits_until_the_step_is_taken(unprobed, twins, again, monkeypatch):
    generators = torch.get_rng_state()
    (kept,) = twins[0]._steps.kept

    def interrupted(tensors, stacked, count):
        signal.raise_signal(signal.SIGINT)
        return loop(tensors, stacked, count)

    loop = kept.native.loop
    monkeypatch.setattr(kept.native, "loop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        twins[0].step(Y)
    assert torch.equal(torch.get_rng_state(), generators) and len(twins[0].losses) == 24
    kept.native.loop = loop
    twins[1].step(Y)
    agree(twins, Y)
    assert all(again)


@pytest.mark.filterwarnings("ignore:the steps get different data")  # on purpose
def test_steps_of_two_shapes_take_turns(unprobed, again):
    """As with the last batch of each epoch, which has fewer rows."""
    runs = [begun(compile, Y, steps=22) for compile in (True, False)]
    short = Y[:3].clone()
    agree(runs, short, steps=22)
    for _ in range(4):
        agree(runs, Y)
        agree(runs, short)
    again.clear()
    for _ in range(3):
        agree(runs, Y)
        agree(runs, short, steps=1)
    assert again == [True] * 9


def test_another_tensor_in_the_closure_is_noticed(unprobed, again):
    """It is recorded anew; a program that gets another tensor time and again runs eagerly."""
    runs = [begun(compile, Y, model=shifting()) for compile in (True, False)]
    assert again[-1]
    for k in range(12):
        for svi in runs:
            svi.model.shift(torch.tensor(float(k)))
        again.clear()
        agree(runs, Y)
        assert again == [False, k < 8], k
    assert "'by', a tensor outside of the program, is replaced again and again" in runs[0].plan.compiled


class Setting:
    """Settings of a class, read through an object of it."""

    scale = 1.0


SETTINGS = Setting()
TEMPERATURE = torch.tensor(1.0)
LIMIT = torch.tensor(2.0)


def test_numbers_and_tensors_read_through_objects_and_by_value_are_noticed(unprobed, again, monkeypatch):
    """A number of a class, the value of a tensor outside of the program, a branch on one, and `tensor.data = other`."""
    weights = torch.ones(4)

    def model(y):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 2.0).to_event(1))
        shift = 1.0 if LIMIT > 1 else 3.0
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z.sum() * weights + shift, float(TEMPERATURE) * SETTINGS.scale), obs=y)

    changes = (
        lambda: monkeypatch.setattr(Setting, "scale", 2.0),
        lambda: TEMPERATURE.fill_(0.3),
        lambda: LIMIT.fill_(0.5),
        lambda: setattr(weights, "data", torch.tensor([1.0, 2.0, 3.0, 4.0])),
    )
    try:
        for change in changes:
            runs = [begun(compile, Y, model=model) for compile in (True, False)]
            assert again[-1]
            change()
            agree(runs, Y)
    finally:
        TEMPERATURE.fill_(1.0)
        LIMIT.fill_(2.0)


def test_data_from_which_python_reads_another_number_stay_another_step(unprobed, again):
    """Several steps on each batch of sequences: the second one has seen the data of the first, not the recording."""

    def model(y, lengths):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 2.0).to_event(1))
        longest = int(lengths.max())
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z.sum() + torch.arange(longest).sum() / 10, 1.0), obs=y)

    short, long = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 9, 3, 2])
    runs = [begun(compile, Y, short, model=model) for compile in (True, False)]
    assert again[-1]
    agree(runs, Y, long, steps=5)


def shifting():
    by = torch.tensor(0.5)

    def model(y):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 2.0).to_event(1))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z.sum() + by, 1.0), obs=y)

    def shift(new):
        nonlocal by
        by = new

    model.shift = shift
    return model
