"""Kills processes of a job that torchrun started, and compares what comes out with the job that nobody disturbed.

    python benchmarks/_scale_kill.py --kills 20           random processes at random moments, so often over all kinds
    python benchmarks/_scale_kill.py --only checkpoint    killed while the checkpoint is written

torchrun (--max-restarts) starts all processes anew when one has died, and credo.fit goes on from its checkpoint. Part
"kill" of scale.py.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROCESSES = 2
RUNS = {  # options of credo.fit, and how near losses must come: compiled and replayed steps round differently
    "shared noise": ({"steps": 300, "compile": False, "batch_size": 16, "every": 9}, 0.0),
    "own noise": ({"steps": 200, "compile": False, "batch_size": 16, "every": 9}, 0.0),
    "until converged": ({"compile": False, "lr": 0.05, "plan": "fast", "particles": 2, "every": 150}, 0.0),
    "replayed": ({"steps": 1500, "batch_size": 16, "every": 50}, 1e-5),
    "compiled": ({"steps": 4000, "batch_size": 16, "every": 400}, 1e-5),
}
MOMENTS = {"checkpoint": "shared noise", "full disk": "own noise", "compile": "compiled"}  # and the kind of run
LONGEST = 600  # seconds of one job


def fitted(kind, **more):
    """The fit of one kind of run, in each process of the job."""
    import pyro
    import pyro.distributions as dist
    import torch

    import credo
    from credo.inference.capture import native

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("N", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0)) if kind == "own noise" else 0.0
            pyro.sample("y", dist.Normal(x @ w + 0.1 * z, 0.5), obs=y)

    def guide(x, y):
        scale = pyro.param("scale", torch.full((3,), 0.5), constraint=dist.constraints.positive)
        w = pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(3)), scale).to_event(1))
        if kind == "own noise":
            with pyro.plate("N", len(y)):
                pyro.sample("z", dist.Normal(0.3 * (y - x @ w), 0.9))

    if kind == "compiled":
        native.PATIENCE = 0.0
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([1.0, -1.0, 0.5]) + torch.randn(64, generator=torch.Generator().manual_seed(1))
    return credo.fit(model, guide, x, y, progress=False, **{**RUNS[kind][0], **more})


def worker(kind, moment, folder):
    """What each process of the job does: the fit, whose result it writes."""
    rank, first = int(os.environ["RANK"]), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    import torch

    from credo.inference.capture import compiler, native

    torch.set_num_threads(1)

    def killed_here():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "compile" and first:
        begin = compiler.begin_compiling

        def killed_then(job):
            begin(job)
            time.sleep(1.0)
            killed_here()

        native.begin_compiling = killed_then
    if moment in ("checkpoint", "full disk") and (first or moment == "full disk"):
        fsync, calls = os.fsync, []

        def disturbed(file):
            calls.append(file)
            if moment == "checkpoint" and len(calls) == 7:
                killed_here()
            if moment == "full disk" and len(calls) > 3:
                raise OSError(28, "No space left on device")
            fsync(file)

        os.fsync = disturbed
    (folder / f"pid{rank}").write_text(str(os.getpid()))
    more = {"checkpoint": folder / "run.credo"}
    if moment == "warm":  # until its steps are compiled, for the jobs that follow
        more = {"steps": 10**6, "every": None, "callback": lambda svi, *_: "compiled" in svi.plan.compiled.split(", ")}
    fit = fitted(kind, **more)
    params = {name: value.double().tolist() for name, value in sorted(fit.params.items())}
    found = {"losses": list(fit.losses), "params": params, "stopped": fit.stopped, "compiled": fit.plan.compiled}
    part = folder / f"result{rank}.part"
    part.write_text(json.dumps(found))
    part.rename(folder / f"result{rank}")


def job(kind, moment, folder, restarts=0):
    """torchrun, started on this file. restarts: as many as processes are killed, so that any further error ends it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    command += [f"--max-restarts={restarts}", "--monitor-interval=0.1", __file__, "--worker", kind, moment, str(folder)]
    log = open(folder / "log", "a")
    own = {"CREDO_CACHE": f"{folder}-cache"} if moment == "compile" else {}  # where nothing has been compiled
    return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1", **own})


def results(folder):
    """What the processes of the job found, by rank; an empty list until all have ended."""
    paths = [folder / f"result{rank}" for rank in range(PROCESSES)]
    return [json.loads(path.read_text()) for path in paths] if all(path.exists() for path in paths) else []


def killing(kind, folder, kills, seconds, chosen):
    """Runs one job to its end, and kills its processes at most so many times; returns how often."""
    for path in folder.iterdir():
        path.unlink()
    running, done, known, begun = job(kind, "", folder, kills), 0, {}, time.monotonic()
    try:
        while running.poll() is None:
            if time.monotonic() - begun > LONGEST:
                raise TimeoutError((folder / "log").read_text()[-4000:])
            now = {path.name: path.read_text() for path in folder.glob("pid*")}
            new = len(now) == PROCESSES and all(now.values()) and all(now[name] != known.get(name) for name in now)
            if done < kills and new:
                time.sleep(chosen.uniform(0, seconds))
                if running.poll() is None and not results(folder):
                    known = now
                    done += killed(int(chosen.choice(list(now.values()))))
            time.sleep(0.02)
    finally:
        running.kill() if running.poll() is None else None
    if running.returncode:
        raise RuntimeError((folder / "log").read_text()[-4000:])
    return done


def killed(process):
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def undisturbed(kind, folder):
    """(results of a job that nobody disturbs, seconds from the first line of its program to its end)."""
    if kind == "compiled":
        assert job(kind, "warm", folder).wait(LONGEST) == 0, (folder / "log").read_text()[-4000:]
    running = job(kind, "", folder)
    if running.wait(LONGEST):
        raise RuntimeError((folder / "log").read_text()[-4000:])
    begun = min(path.stat().st_mtime for path in folder.glob("pid*"))
    return results(folder), max(path.stat().st_mtime for path in folder.glob("result?")) - begun


def distance(kind, found, wanted):
    """The largest relative distance of losses. Raises AssertionError where results differ by more than they may."""
    far = 0.0
    for one, other in zip(found, wanted, strict=True):
        assert one["stopped"] == other["stopped"] and len(one["losses"]) == len(other["losses"]), (one, other)
        pairs = zip(one["losses"], other["losses"], strict=True)
        far = max(far, *(abs(a - b) / max(1.0, abs(b)) for a, b in pairs))
        assert far <= RUNS[kind][1], (kind, far)
        assert RUNS[kind][1] or one["params"] == other["params"], "parameters differ"
    assert found[0]["params"] == found[-1]["params"], "the processes differ"
    return far


def kill(kills=20, only=(), seed=0):
    """Part "kill": a line for each kind of run, and for each moment at which a process is killed on purpose."""
    chosen, kinds = random.Random(seed), [kind for kind in RUNS if not only or kind in only]
    each = -(-kills // max(1, len(kinds)))
    with tempfile.TemporaryDirectory() as place:
        os.environ.setdefault("CREDO_CACHE", f"{place}/cache")
        for kind in kinds:
            folder = Path(place, kind.replace(" ", "-"))
            folder.mkdir()
            wanted, seconds = undisturbed(kind, folder)
            done, jobs, far = 0, 0, 0.0
            while done < each:
                done, jobs = done + killing(kind, folder, each - done, seconds, chosen), jobs + 1
                far = max(far, distance(kind, results(folder), wanted))
            same = "the same to the bit" if far == 0 else f"losses within {far:.1e}"
            print(f"kill: {kind}: {done} kills, {jobs} jobs ended, {same}; {wanted[0]['compiled']}", flush=True)
        for moment, kind in MOMENTS.items():
            if only and moment not in only:
                continue
            folder = Path(place, moment.replace(" ", "-"))
            folder.mkdir()
            wanted, _ = undisturbed(kind, folder)
            for path in folder.iterdir():
                path.unlink()
            running = job(kind, moment, folder, restarts=int(moment != "full disk"))
            log = folder / "log"
            assert running.wait(LONGEST) == 0, log.read_text()[-4000:]
            far = distance(kind, results(folder), wanted)
            assert moment == "full disk" or (folder / "killed").exists(), "nobody was killed"
            if moment == "full disk":
                assert "could not be written" in log.read_text(), log.read_text()
            print(f"kill: {moment} ({kind}): losses within {far:.1e}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--kills", type=int, default=20)
        parser.add_argument("--only", action="append", default=[], help="a kind of run, or a moment; repeat for more")
        parser.add_argument("--seed", type=int, default=0)
        given = parser.parse_args()
        kill(given.kills, given.only, given.seed)
