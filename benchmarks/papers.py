"""Bayesian networks at full size beside the published tables. Resumable: each task is run once, its result kept.

    CREDO_DATA=folder python benchmarks/papers.py                   every task, then the tables
    python benchmarks/papers.py --only mnist/ --only uci/yacht      tasks whose names begin so
    python benchmarks/papers.py --jobs 4 --budget 300               four processes; no task is begun after 300 s
    python benchmarks/papers.py --tables                            the tables of what is there, nothing is run
    python benchmarks/papers.py --list                              the tasks, and which are done

Parts: `_papers_mnist.py`, `_papers_fashion.py`, `_papers_sparse.py`, `_papers_uci.py`, `_papers_steps.py`. A part has
`tasks()`, a list of `Task`, and `tables(found)`, which prints what `found`, {name of a task: its result}, says beside
the published numbers.
A result is a flat dictionary of numbers and words. It lies in --out (default out/papers), one JSON file a task and kind
of device, written at its end: a killed program goes on with the tasks that are left, and a task that failed is tried
again. What was run on a CPU is not done on a GPU, nor the other way round: a task is skipped where its result is of the
kind of device of this process; those of UCI run on the CPU everywhere. The tables take that result, else one of another
kind; each result says its device and the version of torch. The exit status is 1 if a task failed.
"""

import argparse
import glob
import importlib
import json
import multiprocessing
import os
import platform
import threading
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from _papers_task import Task

PARTS = ("mnist", "fashion", "sparse", "uci", "steps")


def main() -> None:
    options = parsed()
    parts = {name: importlib.import_module(f"_papers_{name}") for name in PARTS if exists(name)}
    tasks = [task for part in parts.values() for task in part.tasks()]
    names = [task.name for task in tasks]
    assert len(set(names)) == len(names), "two tasks have one name"
    chosen = [t for t in tasks if not options.only or t.name.startswith(tuple(options.only))]
    if unknown := [word for word in options.only if not any(name.startswith(word) for name in names)]:
        raise SystemExit(f"--only: no task begins with {', '.join(unknown)}; --list shows them")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.list:
        for task in chosen:
            print(f"{'done' if kind_of(task) in results(task, options.out) else '':<6}{task.name}")
        return
    failed = 0
    if not options.tables:
        failed = run([t for t in chosen if kind_of(t) not in results(t, options.out)], options)
    every = [(task, results(task, options.out)) for task in tasks]
    found = {task.name: kinds.get(kind_of(task), next(iter(kinds.values()))) for task, kinds in every if kinds}
    for name, part in parts.items():
        print(
            f"\n== {name}: {sum(n.startswith(name) for n in found)} of {sum(n.startswith(name) for n in names)} tasks"
        )
        part.tables({n: result for n, result in found.items() if n.startswith(f"{name}/")})
    if failed:
        raise SystemExit(f"{failed} tasks failed")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="tasks whose names begin so; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no task is begun")
    parser.add_argument("--out", type=Path, default=Path("out/papers"), help="the folder of the results")
    parser.add_argument("--tables", action="store_true", help="print the tables of what is there")
    parser.add_argument("--list", action="store_true", help="list the tasks")
    options = parser.parse_args()
    for name in ("jobs", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: got {getattr(options, name)}, wanted at least 1")
    return options


def exists(name: str) -> bool:
    return Path(__file__).with_name(f"_papers_{name}.py").exists()


def machine() -> str:
    """The kind of device on which tasks run in this process: "CPU", or that of the accelerator, as "cuda"."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "CPU" if device is None else device.type


def kind_of(task: Task) -> str:
    """The kind of device on which this process would run the task."""
    return task.on or machine()


def file_of(name: str, out: Path, kind: str) -> Path:
    return out / f"{name.replace('/', '__')}.{kind}.json"


def results(task: Task, out: Path) -> dict[str, dict[str, Any]]:
    """The results of a task by the kind of device that they say. Files of before have no kind in their names."""
    stem = task.name.replace("/", "__")
    files = [f for f in (out / f"{stem}.json", *sorted(out.glob(f"{glob.escape(stem)}.*.json"))) if f.exists()]
    found = {}
    for file in files:
        try:
            result = json.loads(file.read_text())
            found[task.on or str(result["machine"]).partition(":")[0]] = result
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(
                f"--out: {file} is no result of a task ({error!r}); remove it, and its task runs again"
            ) from error
    return found


def run(tasks: Iterable[Task], options: argparse.Namespace) -> int:
    """Runs the tasks and keeps their results. Returns how many failed."""
    begun, tasks, failed = time.monotonic(), list(tasks), 0
    refuse_no_data({task.name.partition("/")[0] for task in tasks})
    context = multiprocessing.get_context("spawn")
    threads = {"initializer": prepare, "initargs": (options.threads, os.getpid())}
    with ProcessPoolExecutor(options.jobs, context, **threads) as pool:
        deadline = time.time() + options.budget if options.budget < float("inf") else None
        waiting = {pool.submit(result_of, task, deadline): task for task in tasks}
        for done in as_completed(waiting):
            task = waiting[done]
            try:
                result = done.result()
            except Exception as error:  # one task must not end the others
                print(f"FAILED {task.name}: {type(error).__name__}: {error}", flush=True)
                failed += 1
                continue
            if result is None:
                continue
            target = file_of(task.name, options.out, result["machine"])
            scratch = target.with_suffix(f".{os.getpid()}")
            scratch.write_text(json.dumps(result, indent=1))
            scratch.replace(target)
            print(f"{time.monotonic() - begun:6.0f} s  {task.name}: {result}", flush=True)
    return failed


def refuse_no_data(parts: set[str]) -> None:
    """Ends the program with one error instead of one a task. Without CREDO_DATA images are looked for elsewhere."""
    folder = os.environ.get("CREDO_DATA", "")
    wanted = ["uci"] if "uci" in parts else []
    if folder:
        both = parts & {"mnist", "fashion"}
        wanted += ["mnist.npz"] * bool(both or "sparse" in parts) + ["fashion_mnist.npz"] * bool(both)
    if missing := [name for name in wanted if not folder or not Path(folder, name).exists()]:
        got = f"got {folder!r}" if folder else "it is not set"
        raise SystemExit(f"CREDO_DATA: {got}, wanted a folder with {', '.join(missing)}")


def prepare(threads: int, parent: int) -> None:
    """Of a process of the pool: its threads, and its end when the program is killed."""
    torch.set_num_threads(threads)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def result_of(task: Task, deadline: float | None) -> dict[str, Any] | None:
    """The result of a task with its seconds, its device and torch; None if it is too late to begin."""
    if deadline is not None and time.time() > deadline:
        return None
    begun = time.perf_counter()
    try:
        result = task.run(*task.arguments)
    except Exception:
        traceback.print_exc()
        raise
    seconds = round(time.perf_counter() - begun, 1)
    kind = kind_of(task)
    device = torch.cuda.get_device_name() if kind == "cuda" else platform.machine() if kind == "CPU" else kind
    said = {"machine": kind, "device": device, "torch": torch.__version__}
    return {**result, "seconds of the task": seconds, **said}


if __name__ == "__main__":
    main()
