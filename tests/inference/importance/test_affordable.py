"""What is too much work by counting, whatever a clock says, and what a time pays for."""

import time

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.importance.affordable import DRAWS, FEWEST, OPERATOR, affordable, counted, heavy
from credo.inference.importance.budget import OutOfTime, deadline
from credo.inference.pair.work import NUMBER
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered

CPU = torch.device("cpu")


def of_rows(rows):
    def model(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(a, 1.0).expand([rows]).to_event(1), obs=y)

    return prepared(model, (torch.zeros(rows),), CPU, 0)[:2]


def test_the_operators_of_points_taken_at_once_are_shared_and_their_arithmetic_is_not():
    x = torch.zeros(10_000)
    assert counted(lambda: (x + 1).exp(), 1, CPU) == pytest.approx(1e-6 * (2 * OPERATOR + 20_000 * NUMBER))
    assert counted(lambda: (x + 1).exp(), 50, CPU) == pytest.approx(1e-6 * (2 * OPERATOR / 50 + 20_000 * NUMBER))
    assert counted(lambda: (x + 1).exp(), 50, torch.device("cuda")) == pytest.approx(2e-6 * OPERATOR / 50)


@pytest.mark.parametrize(("rows", "much"), [(10, False), (2_000_000, True)])
def test_what_is_too_much_work_is_the_same_on_every_machine(rows, much, monkeypatch):
    real = time.process_time
    density, state = of_rows(rows)
    with entered(state), default_dtype(torch.float64):
        for slowness in (1e-3, 1e3):
            monkeypatch.setattr(time, "process_time", lambda slowness=slowness: slowness * real())
            assert heavy(density._replace(chunk=1, vectorised=False)) is much


def test_much_time_pays_for_all_draws_and_a_search_and_none_for_nothing():
    density, state = of_rows(3)
    with entered(state), default_dtype(torch.float64):
        assert affordable(density, deadline(600.0, CPU)) == (DRAWS, True)
        draws, search = affordable(density, deadline(0.02, CPU))
        assert draws < FEWEST and not search
        with pytest.raises(OutOfTime):
            affordable(density, deadline(-1.0, CPU))
