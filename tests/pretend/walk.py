"""What credo does on the pretend device, as JSON:  python -m tests.pretend.walk LIBRARY [PROGRAM ...]

{program: {"eager": ..., "recorded": ..., "step": ..., "after": {question: error}, "generators": ...}}

eager: the largest relative difference of the eager losses from the CPU's, with one noise for both; recorded: of the
recorded losses from the eager ones, where the device draws from a generator of its own; step: how it is taken; after:
the questions after the fit that raised; generators: whether the caller's were left alone.
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch

from .device import NAME, register

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # the programs of gpu.py

STEPS = 28  # the first 20 are eager


def main() -> None:
    module = register(Path(sys.argv[1]))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    from _gpu_programs import programs  # after the device has its name

    found = {p.name: walked(p, module) for p in programs() if not sys.argv[2:] or p.name in sys.argv[2:]}
    print(json.dumps(found))


def walked(program: Any, module: Any) -> dict[str, Any]:
    module.own_generator(False)
    cpu, there = (run(program, device, False)[0] for device in ("cpu", NAME))
    module.own_generator(True)
    torch.manual_seed(7)
    before = [torch.get_rng_state(), module.get_rng_state()]
    eager, _ = run(program, NAME, False)
    recorded, fit = run(program, NAME, True)
    after = {word: problem for word, ask in QUESTIONS.items() if (problem := raised(ask, fit))}
    return {
        "eager": difference(there, cpu),
        "recorded": difference(recorded, eager),
        "step": fit.plan.compiled,
        "after": after,
        "generators": all(map(torch.equal, before, [torch.get_rng_state(), module.get_rng_state()])),
    }


def run(program: Any, device: str, compile: bool) -> tuple[list[float], Any]:
    import credo

    pyro.clear_param_store()
    guide, options = program.guide(), {"plan": "fast"} | program.options
    svi = credo.SVI(program.model, guide, device=device, compile=compile, progress=False, seed=1, **options)
    for _ in range(STEPS):  # a run of so few steps would not be recorded
        svi.step(*program.data)
    return svi.losses, svi.run(*program.data, steps=0)


def difference(one: list[float], two: list[float]) -> float:
    if len(one) != len(two):
        return float("inf")
    return max(abs(a - b) / abs(b) for a, b in zip(one, two, strict=True))


def compared(fit: Any) -> None:
    import credo

    try:
        credo.compare(fit)
    except ValueError as error:  # no exact posterior is known
        if "device" in str(error):
            raise


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "sample": lambda fit: fit.sample(5),
    "summary": lambda fit: fit.summary(),
    "predict": lambda fit: fit.predict(3),
    "compare": compared,
}


def raised(ask: Callable[[Any], Any], fit: Any) -> str:
    try:
        ask(fit)
    except Exception as error:  # reported, so that the walk goes on
        return f"{type(error).__name__}: {error}"[:300]
    return ""


if __name__ == "__main__":
    main()
