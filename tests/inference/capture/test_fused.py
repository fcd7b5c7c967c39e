"""Fused kernels. Oracle: the step that torch carries out operator by operator, from the same state and noise.

On this machine Inductor writes C++ in the place of Triton; the trace, the settings and the order of draws are the same.
"""

import shutil

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from credo.inference.capture import native
from credo.inference.capture.aot import step_function
from credo.inference.capture.fused import fused
from credo.inference.capture.optimiser_state import read_state
from credo.inference.runtime.generators import noise, torch_states


def mean(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def job_of(name, monkeypatch, **options):
    """(the job of a pair's recorded step on 50 rows, its tensors). "": of the mean of a normal."""
    found = []

    def grab(job, replay):
        found.append((job, [t.detach() for part in read_state(replay, job.shapes is not None) for t in part]))

    monkeypatch.setattr(native, "_opened", grab)
    if name == "convolution":  # its signs read no other draw, and its first layer is fused with the rows of the batch
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3))
        pair = credo.load("bnn_classifier")._replace(data=lambda: (net, torch.rand(50, 1, 8, 8), torch.arange(50) % 3))
        options |= {"batch_size": 20}
    else:
        pair = credo.load(name) if name else credo.Pair("", mean, "mean_field", None, lambda: (torch.arange(5.0),))
    data = tuple(d[:50] if isinstance(d, torch.Tensor) else d for d in pair.data())
    runner = credo.SVI(pair.model, pair.guide, plan="fast", progress=False, **options)
    for _ in range(22):
        runner.step(*data)
    return found[0]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.parametrize(
    "name",
    [
        "",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("coin_toss", "bnn_classifier", "bnn_classifier bf16", "vae", "convolution")
        ),
    ],
)
def test_fused_steps_are_the_steps_of_the_run(name, monkeypatch):
    name, _, precision = name.partition(" ")
    options = {"batch_size": 10, "precision": precision or None} if name == "bnn_classifier" else {}
    job, inputs = job_of(name, monkeypatch, **options)
    before, (mine, oracle) = [t.clone() for t in inputs], ([t.clone() for t in inputs] for _ in range(2))
    results = []
    for program, state in ((fused(job, inputs), mine), (step_function(job), oracle)):
        with noise(0), torch.no_grad():
            results.append(([program(*state)[0].item() for _ in range(3)], torch_states()))
    assert all(map(torch.equal, before, inputs))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert all(map(torch.equal, results[0][1], results[1][1]))
    assert not all(map(torch.equal, oracle, before))
    for a, b in zip(mine, oracle, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * (b.abs().max().item() if b.numel() else 0))
