"""A program by itself: compiles a captured step and its update to a library. Run as `python -P ahead.py FOLDER`.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g²,   p <- p - rate / (1 - b1^t) · m / (sqrt(v / (1 - b2^t)) + eps)

(Adam: Kingma and Ba 2015, algorithm 1, as torch does it; b1^t and b2^t are carried along.) FOLDER/job holds the graph
and what its inputs look like (`Job`); FOLDER/step.so comes out, and FOLDER/steps.so, the loop around it. A process of
its own, so that a run goes on meanwhile, and nothing that goes wrong here reaches it. What is private to torch stands
here and in `native`; tried with torch 2.13.
"""

import math
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

# Random numbers are drawn by the operators that eager code draws with, in the order of the program: the same seed, the
# same numbers. Checks of sizes are the caller's.
SETTINGS = {
    "fallback_random": True,
    "reorder_for_locality": False,
    "reorder_for_peak_memory": False,
    "size_asserts": False,
    "alignment_asserts": False,
    "scalar_asserts": False,
    "cpp_wrapper": True,
}


class Job(NamedTuple):
    """code: of a function `forward(self, leaves, averages, each, data)`, each flat, that returns the loss, a gradient
    for each of `used`, and the new averages.
    """

    code: str
    used: list[int]  # the leaves that have a gradient
    sizes: dict[str, int]  # how many inputs there are of a kind, see `Inputs`
    inputs: list[tuple[Any, ...]]  # (shape, stride, dtype, device) of all of them
    betas: tuple[float, float]
    eps: float
    threads: int


class Inputs(NamedTuple):
    """All that a step reads, and of that, what it changes: leaves, first, second, totals, averages and powers."""

    each: list[torch.Tensor]  # what is another in every step: batch, warmth
    leaves: list[torch.Tensor]
    first: list[torch.Tensor]  # Adam's means of the gradient, of those leaves that are used
    second: list[torch.Tensor]  # and of its square
    totals: list[torch.Tensor]  # the sums of the leaves over steps
    averages: list[torch.Tensor]  # the baselines
    clock: list[torch.Tensor]  # b1^t, b2^t, and the learning rate; double
    data: list[torch.Tensor]


def inputs(flat: list[torch.Tensor], sizes: dict[str, int]) -> Inputs:
    parts = iter(flat)
    return Inputs(**{kind: [next(parts) for _ in range(sizes[kind])] for kind in Inputs._fields})


def adam(
    p: torch.Tensor,
    g: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    powers: list[torch.Tensor],
    rate: torch.Tensor,
    betas: tuple[float, float],
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(the new p, first and second). powers: b1^t and b2^t, this step counted."""
    first = torch.lerp(first, g, 1 - betas[0])
    second = second * betas[1] + (1 - betas[1]) * g * g
    size, root = (rate / (1 - powers[0])).to(p.dtype), (1 - powers[1]).sqrt().to(p.dtype)
    return p - size * first / (second.sqrt() / root + eps), first, second


def step(job: Job) -> Callable[..., list[torch.Tensor]]:
    """A function of all inputs, flat, that changes them in place and returns the loss. Not finite: nothing changes."""
    names: dict[str, Any] = {"torch": torch, "device": torch.device, "inf": math.inf, "nan": math.nan}
    exec(job.code, names)
    graph = names["forward"]

    def run(*flat: torch.Tensor) -> list[torch.Tensor]:
        x = inputs(list(flat), job.sizes)
        loss, *rest = graph(None, *x.leaves, *x.averages, *x.each, *x.data)
        fine = torch.isfinite(loss)

        def put(old: torch.Tensor, new: torch.Tensor) -> None:
            old.copy_(torch.where(fine, new, old))

        *before, rate = x.clock
        powers = [power * beta for power, beta in zip(before, job.betas, strict=True)]
        for i, g, first, second in zip(job.used, rest, x.first, x.second, strict=False):
            p, *moments = adam(x.leaves[i], g, first, second, powers, rate, job.betas, job.eps)
            put(x.leaves[i], p)
            put(first, moments[0])
            put(second, moments[1])
        for p, total in zip(x.leaves, x.totals, strict=True):
            total.add_(p)
        for old, new in zip(before, powers, strict=True):
            put(old, new)
        for old, new in zip(x.averages, rest[len(job.used) :], strict=True):
            old.copy_(new)
        return [loss.double()]

    return run


def compiled(job: Job) -> Path:
    """The path of the library."""
    import torch._inductor.config as config
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    torch.set_num_threads(job.threads)
    examples = [torch.empty_strided(shape, stride, dtype=d, device=w) for shape, stride, d, w in job.inputs]
    with torch.no_grad():
        program = torch.func.functionalize(step(job), remove="mutations")
        plain = make_fx(program, decomposition_table=select_decomp_table(), tracing_mode="fake")(*examples)
        plain.graph.eliminate_dead_code()
        plain.recompile()
        with config.patch(SETTINGS):
            return Path(str(torch._inductor.aot_compile(plain, tuple(examples))))


def build_loop(target: Path) -> None:
    """The loop over steps, from steps.cpp beside this file."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch.utils.cpp_extension import include_paths, library_paths

    where = [*(f"-I{p}" for p in include_paths()), *(f"-L{p}" for p in library_paths())]
    flags = ["-O1", "-fPIC", "-shared", "-std=c++20"]
    source = Path(__file__).with_name("steps.cpp")
    libraries = ["-ltorch", "-ltorch_cpu", "-lc10"]
    subprocess.run([get_cpp_compiler(), *flags, str(source), *where, *libraries, "-o", str(target)], check=True)


if __name__ == "__main__":
    folder, loop = Path(sys.argv[1]), Path(sys.argv[2])
    library = compiled(Job(*pickle.loads((folder / "job").read_bytes())))
    for part in library.parent.glob(f"{library.stem}.*"):
        shutil.copy(part, folder / part.name.replace(library.stem, "step"))
    if not loop.exists():
        build_loop(folder / "loop.so")
        (folder / "loop.so").rename(loop)
