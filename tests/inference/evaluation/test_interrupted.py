"""Ctrl-C at any moment of `credo.fit`: a fit comes back, and the process is as it was.

A subprocess fits again and again; a thread of it sends the signal at a random moment after each call has begun.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import os, random, signal, sys, threading, time
import torch, pyro, pyro.distributions as dist
import credo
from torch.distributions import constraints

torch.set_num_threads(1)
credo.fit

def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

def guide(y):
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), scale))

def press(seconds):
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGINT)

kind, times, longest = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
y, moments = torch.randn(20), random.Random(times)
options = {"steps": 300, "plan": "fast"} if kind == "own guide" else {"batch_size": 5}
for i in range(times):
    fit = None
    thread = threading.Thread(target=press, args=(longest * (i + moments.random()) / times,))
    begun = time.monotonic()
    try:
        thread.start()
        fit = credo.fit(model, guide if kind == "own guide" else None, y, progress=False, **options)
        longest = min(longest, max(0.2, time.monotonic() - begun))
        thread.join()  # one that comes too late
    except KeyboardInterrupt:
        pass
    thread.join()
    assert fit is not None, f"lost after {time.monotonic() - begun:.4f} seconds"
    assert fit.sample(3)["z"].shape == (3,) and len(fit.predict(2)["y"]) == 2
    assert not list(pyro.get_param_store().keys()) and not pyro.poutine.runtime._PYRO_STACK
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print(len(fit.losses), fit.stopped, flush=True)
"""
KINDS = ["own guide", "no guide, batches"]


def said(kind, times, seconds):
    """What the program says of so many fits, interrupted at moments spread over so many seconds."""
    command = [sys.executable, "-c", PROGRAM, kind, str(times), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == times
    return lines


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_fit_is_a_fit(kind):
    lines = said(kind, 8, 4.0)
    assert lines[0] == "0 interrupted after 0 steps (Ctrl-C)"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_interrupted_fits_are_fits(kind):
    """The first fits of a process import what later ones have: so some come from processes of their own."""
    said(kind, 40, 4.0)
    for i in range(10):
        assert said(kind, 1, 0.1 + 0.3 * i)
