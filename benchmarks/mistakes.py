"""Does a default fit say what is wrong? Programs with a mistake, and sound ones, under plain Pyro and under credo.

`python benchmarks/mistakes.py`: all programs, a table by kind. `python benchmarks/mistakes.py WORD`: those whose kind
or name contains the word. A mistake is *found* if the answer is right all the same, or if an error or a warning names
what is wrong (a regular expression of each program). A sound program is a *false alarm* if it is refused or warned
of, or if its answer is wrong. Right: means within .35 sd, sds within 25 % of the posterior (closed form, quadrature).
"""

import itertools
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import _mistakes_answers
import _mistakes_data
import _mistakes_latents
import _mistakes_pair
import _mistakes_sound
import _mistakes_sound_guides
import _mistakes_sound_pairs
import pyro
import torch
from _mistakes_case import Case, Right
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal

import credo

STEPS, LIMIT = 500, 60  # of plain Pyro; seconds of a program
MISTAKES = [*_mistakes_pair.CASES, *_mistakes_data.CASES, *_mistakes_answers.CASES, *_mistakes_latents.CASES]
SOUND = [*_mistakes_sound.CASES, *_mistakes_sound_pairs.CASES, *_mistakes_sound_guides.CASES]


class TooLong(BaseException):
    """The program took more than LIMIT seconds."""


@contextmanager
def limited() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(run: Callable[[], Any]) -> tuple[Any, str, bool]:
    """(what it returned, what it said in warnings or an error, whether it raised an error)."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with warnings.catch_warnings(record=True) as caught, limited():
        warnings.simplefilter("always")
        try:
            answer, error = run(), ""
        except TooLong:
            answer, error = None, f"took more than {LIMIT} s"
        except Exception as raised:
            answer, error = None, " ".join([str(raised), *getattr(raised, "__notes__", [])]) or type(raised).__name__
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return answer, " | ".join([*said, error] if error else said), bool(error)


def by_credo(case: Case) -> Any:
    """Draws {latent: (n, ...)} of a default fit."""
    if case.call is not None:
        return case.call()
    steps = 50 if case.right is None else None  # what is to be said does not depend on the answer
    fit = credo.fit(case.model, case.guide, *case.data, **({"progress": False, "steps": steps} | dict(case.options)))
    return fit.sample(2000) if case.right is not None else None


def by_pyro(case: Case) -> Any:
    """The same by plain Pyro: its own SVI, the guide as it is, an AutoNormal in the place of None."""
    guide = AutoNormal(poutine.block(case.model, hide_fn=_is_finite)) if case.guide is None else case.guide
    loss = TraceEnum_ELBO(max_plate_nesting=2) if case.enumerates else Trace_ELBO()
    svi = SVI(case.model, guide, pyro.optim.Adam({"lr": 0.03}), loss)
    for _ in range(STEPS):
        svi.step(*case.data)
    if case.right is None:
        return None
    draws = [poutine.trace(guide).get_trace(*case.data) for _ in range(400)]
    return {name: torch.stack([trace.nodes[name]["value"] for trace in draws]) for name in case.right}


def _is_finite(msg: Any) -> bool:
    return msg["type"] == "sample" and not msg["is_observed"] and getattr(msg["fn"], "has_enumerate_support", False)


def is_right(draws: Any, right: Right) -> bool:
    """Whether the draws have these means and sds."""
    for name, (mean, sd) in right.items():
        if not isinstance(draws, dict) or name not in draws:
            return False
        values = draws[name].detach().double()
        if abs(values.mean().item() - mean) > 0.35 * sd + 1e-6 or abs(values.std().item() / sd - 1) > 0.25:
            return False
    return True


def pyros(case: Case) -> str:
    """The verdict on one program under plain Pyro, whatever it says of the mistake."""
    answer, said, raised = outcome(lambda: by_pyro(case))
    if raised or said:
        return "raises" if raised else "warns"
    return "right" if case.right is not None and is_right(answer, case.right) else "silent, wrong"


def judged(case: Case, sound: bool) -> tuple[str, str]:
    """(The verdict on one program under credo, what was said)."""
    answer, said, raised = outcome(lambda: by_credo(case))
    right = case.right is None if answer is None else is_right(answer, case.right or {})
    if sound:
        return ("refused" if raised else "warned of" if said else "fine" if right else "wrong"), said
    if re.search(case.words, said, re.DOTALL | re.IGNORECASE):
        return "found", said
    if case.right is not None and not raised and right:
        return "right", said
    return ("unclear" if said else "silent, wrong"), said


def main(word: str) -> None:
    begin, work = time.perf_counter(), time.process_time()
    counts: dict[str, list[str]] = {}
    for sound, case in [*zip(itertools.repeat(False), MISTAKES), *zip(itertools.repeat(True), SOUND)]:
        if word not in case.kind and word not in case.name:
            continue
        start = time.process_time()
        ours, said = judged(case, sound)
        middle = time.process_time()
        theirs = pyros(case) if case.plain and not sound else "-"
        counts.setdefault("sound" if sound else case.kind, []).append(f"{ours}/{theirs}")
        good = ours in ("found", "right", "fine")
        note = "" if good else f"    {said[:300]!r}"
        verdicts = f"credo: {ours:13} Pyro: {theirs:13} {middle - start:5.1f} s"
        print("ok " if good else "BAD", f"{case.kind:10} {case.name:45}", verdicts, note, flush=True)
    table(counts)
    print(
        f"{len(MISTAKES)} mistakes, {len(SOUND)} sound programs, "
        f"{time.perf_counter() - begin:.0f} s, {time.process_time() - work:.0f} s of CPU"
    )


def table(counts: dict[str, list[str]]) -> None:
    """Prints a line for each kind: programs, found by credo, silently wrong under credo and under Pyro."""
    print("\n| kind | programs | found or right | unclear | silent and wrong | Pyro: silent and wrong |")
    print("|---|---|---|---|---|---|")
    kinds = {kind: verdicts for kind, verdicts in counts.items() if kind != "sound"}
    for kind, verdicts in {**kinds, "all": [v for some in kinds.values() for v in some]}.items():
        ours, theirs = [v.split("/")[0] for v in verdicts], [v.split("/")[1] for v in verdicts]
        good, run = sum(v in ("found", "right") for v in ours), sum(v != "-" for v in theirs)
        print(
            f"| {kind} | {len(ours)} | {good} ({good / max(1, len(ours)):.0%}) | {ours.count('unclear')} | "
            f"{ours.count('silent, wrong')} | {theirs.count('silent, wrong')} of {run} |"
        )
    sound = [v.split("/")[0] for v in counts.get("sound", [])]
    print(f"\nsound: {len(sound)} programs; {', '.join(f'{sound.count(v)} {v}' for v in sorted(set(sound)))}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else "")
