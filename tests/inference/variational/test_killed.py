"""SIGKILL at any moment of a run with a checkpoint: the file can be read, and the same call ends as if undisturbed.

A subprocess imports credo once and forks a process for each try, which it kills at a random moment.
"""

import subprocess
import sys

import pytest

from credo.inference.capture import compiler

PROGRAM = """
import os, pickle, random, signal, sys, time
import torch, pyro, pyro.distributions as dist
import credo
from credo.inference.capture import native
from credo.inference.storage.container import read
from torch.distributions import constraints

credo.fit
torch.set_num_threads(1)
random.seed(int(sys.argv[1]))
kills, folder, kinds = int(sys.argv[2]), sys.argv[3], sys.argv[4].split(",")

def model(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    k = pyro.sample("k", dist.Poisson(2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(x @ w + 0.1 * k, 0.5), obs=y)

def guide(x, y):
    scale = pyro.param("scale", torch.full((3,), 0.5), constraint=constraints.positive)
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(3)), scale).to_event(1))
    pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(1.0), constraint=constraints.positive)))

def normals(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

def net_model(net, x, y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(net(x).squeeze(-1) + z, 0.5), obs=y)

def net_guide(net, x, y):
    pyro.module("net", net)
    with pyro.plate("N", len(y)):
        pyro.sample("z", dist.Normal(0.5 * (y - net(x).squeeze(-1)), 0.3))

x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
y = x @ torch.tensor([1.0, -1.0, 0.5]) + torch.randn(40, generator=torch.Generator().manual_seed(1))
RUNS = {  # options, steps from one writing to the next, how near the losses are
    "eager": ({"steps": 150, "compile": False}, 7, 0.0),
    "until converged": ({"compile": False, "lr": 0.05, "plan": "fast", "particles": 2}, 150, 0.0),
    "batches": ({"steps": 160, "compile": False, "batch_size": 15}, 9, 0.0),
    "dropout": ({"steps": 120, "compile": False, "batch_size": 10, "optim": torch.optim.AdamW}, 7, 0.0),
    "replayed": ({"steps": 600}, 30, 1e-5),
    "replayed batches": ({"steps": 1500, "batch_size": 15}, 60, 1e-5),
    "compiled": ({"steps": 30_000}, 800, 1e-5),
    "compiled batches": ({"steps": 30_000, "batch_size": 15}, 800, 1e-5),
}

def fitted(kind, **more):
    options, every, _ = RUNS[kind]
    every = {"every": every} if "checkpoint" in more else {}
    if kind == "dropout":
        layers = torch.nn.Linear(3, 8), torch.nn.Dropout(0.2), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        pair = net_model, net_guide, torch.nn.Sequential(*layers)
    elif kind.startswith("compiled"):
        pair = normals, "mean_field"
    else:
        pair = model, guide
    return credo.fit(*pair, x, y, progress=False, **{**options, **every, **more})

def forked(kind, result, **more):
    child = os.fork()
    if child:
        return child
    try:
        if not os.path.exists(more.get("checkpoint", "")):
            torch.manual_seed(0)  # later processes make the network with other weights, which the file replaces
        fit = fitted(kind, **more)
        found = list(fit.losses), {name: value.tolist() for name, value in fit.params.items()}, fit.stopped
        with open(result + ".part", "wb") as file:
            pickle.dump((*found, fit.plan.compiled), file)
        os.rename(result + ".part", result)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def ended(child):
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, "a process failed"
    return not os.WIFSIGNALED(status)

def far(kind, one, two):
    return max(abs(a - b) / max(abs(b), 1.0) for a, b in zip(one, two, strict=True))

for kind in kinds:
    path, result = (os.path.join(folder, kind.replace(" ", "-") + end) for end in (".credo", ".result"))
    seconds = float("inf")
    if kind.startswith("compiled"):  # a run that goes on until the library is there
        native.PATIENCE, native.LONGER = 0.0, 0.0
        done = lambda svi, step, loss: svi.plan.compiled == "captured once, compiled"
        assert ended(forked(kind, result, steps=300_000, callback=done, callback_every=1000))
    for warm in range(2 if kills > 10 else 1):  # the first call of a machine is slower
        begun = time.monotonic()
        assert ended(forked(kind, result))
        wanted, seconds = pickle.load(open(result, "rb")), min(seconds, time.monotonic() - begun)
    done = finished = 0
    while done < kills or not finished:
        os.path.exists(result) and os.unlink(result)
        os.path.exists(path) and os.unlink(path)
        while not os.path.exists(result):
            child = forked(kind, result, checkpoint=path)
            if done < kills:
                time.sleep(random.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
            done += not ended(child)
            if os.path.exists(path):
                read(path, "checkpoint")
        losses, params, stopped, how = pickle.load(open(result, "rb"))
        finished += 1
        error = far(kind, losses, wanted[0])
        assert error <= RUNS[kind][2] and len(losses) == len(wanted[0]), (kind, error, stopped)
        assert stopped == wanted[2], (stopped, wanted[2])
        if RUNS[kind][2] == 0.0:
            assert params == wanted[1], (params, wanted[1])
    print(kind, done, finished, error, how, flush=True)
"""


def killed(seed, kills, folder, kinds, seconds):
    """What the program says of so many kills of each kind: {kind: (kills, runs that ended)}."""
    command = [sys.executable, "-c", PROGRAM, str(seed), str(kills), str(folder), ",".join(kinds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_a_run_that_is_killed_goes_on_exactly(tmp_path):
    said = killed(1, 1, tmp_path, ["dropout", "replayed"], 100)
    assert len(said) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eager", "until converged", "batches", "dropout", "replayed", "replayed batches"])
def test_twenty_kills_of_each_kind_of_run(tmp_path, kind):
    killed(2, 20, tmp_path, [kind], 900)


@pytest.mark.slow
@pytest.mark.skipif(not compiler.has_compiler(), reason="no C++ compiler here")
@pytest.mark.parametrize("kind", ["compiled", "compiled batches"])
def test_twenty_kills_of_a_compiled_run(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("CREDO_CACHE", str(tmp_path / "cache"))
    (said,) = killed(3, 20, tmp_path, [kind], 900)
    assert "captured once, compiled" in said
