import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

from credo.inference.pair.pair import Pair
from credo.inference.planning.place import best_place, device_of
from credo.inference.runtime.state import entered, new_state

CPU, CUDA = torch.device("cpu"), torch.device("cuda")  # which need not exist: it is only named


def place(n: int, batch_size: int | None = None):
    def model(x):
        w = pyro.sample("w", dist.Normal(torch.zeros(50), 1.0).to_event(1))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(x[:, :50] @ w, 1.0), obs=x[:, 50])

    x = torch.randn(n, 51)
    guide = AutoNormal(model)
    with entered(new_state((), 0, CPU)):
        guide(x)
        return best_place(Pair(model, guide, (x,)), ["x"], batch_size, CUDA)


@pytest.mark.parametrize(
    ("n", "batch_size", "wanted", "word"),
    [(20, None, CPU, "too little"), (400_000, None, CUDA, "enough"), (400_000, 20, CPU, "too little")],
)
def test_the_accelerator_is_taken_where_the_arithmetic_of_a_step_outweighs_its_operators(n, batch_size, wanted, word):
    found = place(n, batch_size)
    assert found.device == wanted
    assert f"{wanted}: one draw has" in found.why
    assert f"{word} for cuda" in found.why


def test_data_and_networks_on_the_cpu_leave_the_device_open():  # tests/test_devices.py has those that do not
    there = torch.zeros(2, device="meta")  # holds no numbers, so it is no place to run
    assert device_of((torch.zeros(2), [there], nn.Linear(2, 2), "a setting")) is None
