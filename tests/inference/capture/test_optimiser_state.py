"""The state of an optimiser that compiled steps read and write. Oracle: the optimiser's own state."""

from functools import partial

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from credo.inference.capture.optimiser_state import is_evenly_updated, read_state, unsupported, write_state
from credo.inference.capture.record import Recording
from credo.inference.capture.replay import RecordedStep, Replay, StepInputs

OPTIMISERS = {
    "Adam": partial(torch.optim.Adam, lr=0.02),
    "ClippedAdam": partial(ClippedAdam, lr=0.02, lrd=0.5),
    "SGD": partial(torch.optim.SGD, lr=0.02),
    "SGD with momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9),
}


def replay_of(make):
    """Two updated leaves and one between them that has no gradient, after three steps."""
    leaves = [
        torch.randn(2, 3, requires_grad=True),
        torch.randn(4, requires_grad=True),
        torch.randn((), requires_grad=True),
    ]
    optimiser = make(leaves)
    for _ in range(3):
        for i in (0, 2):
            leaves[i].grad = torch.randn_like(leaves[i])
        optimiser.step()
    recorded = RecordedStep(Recording("", lambda *_: (), []), [0, 2])
    return Replay(recorded, StepInputs(leaves, {}, [], [], []), optimiser)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("flat", [True, False])
def test_what_is_written_is_what_is_read_afterwards(name, flat):
    replay = replay_of(OPTIMISERS[name])
    before = replay.inputs.leaves[1].detach().clone()
    rate = replay.optimiser.param_groups[0]["lr"]
    x = read_state(replay, flat)
    assert sum(t.numel() for t in x.leaves) == 7 and [t.numel() for t in x.others] == [4]
    changed = [*x.leaves, *x.first, *x.second]
    for t in changed:
        t.add_(1.0)
    wanted = [t.clone() for t in changed]
    write_state(replay, x, flat, steps=5)
    after = read_state(replay, flat)
    for a, b in zip((*after.leaves, *after.first, *after.second), wanted, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(replay.inputs.leaves[1], before)
    group = replay.optimiser.param_groups[0]
    assert group["lr"] == pytest.approx(rate * group.get("lrd", 1.0) ** 5)
    betas = group.get("betas", (1.0, 1.0))
    assert after.clock[0].tolist() == pytest.approx([*(beta**8 for beta in betas), group["lr"]])


def test_parameters_that_were_updated_unequally_often_are_not_compiled():
    replay = replay_of(OPTIMISERS["Adam"])
    assert is_evenly_updated(replay)
    replay.inputs.leaves[2].grad = None
    replay.optimiser.step()
    assert not is_evenly_updated(replay)
    fresh = [torch.zeros(2, requires_grad=True) for _ in range(3)]
    assert not is_evenly_updated(Replay(replay.recorded, StepInputs(fresh, {}, [], [], []), torch.optim.Adam(fresh)))


def test_what_no_rule_knows_is_refused_by_name():
    leaf, other = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    assert "RMSprop" in unsupported(torch.optim.RMSprop([leaf]))
    assert "amsgrad" in unsupported(torch.optim.Adam([leaf], amsgrad=True))
    assert "several" in unsupported(torch.optim.Adam([{"params": [leaf], "lr": 0.1}, {"params": [other], "lr": 0.2}]))
