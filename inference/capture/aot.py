"""Compiles a recorded step and its update ahead of time: a program, `python -P aot.py FOLDER TARGET PARENT`.

    (parameters, their optimiser's state, baselines, per-step inputs) -> the same a step later, and the loss

The updates are those of `rules`. The program reads FOLDER/job, a pickled `CompileJob`, writes FOLDER/step.so, the step
with a loop over it, and its checksum, and renames FOLDER to TARGET: whatever has its final name is complete. It runs in
its own process, so the run continues meanwhile and no error here reaches it, and it ends with the process PARENT,
however that ends. So it imports nothing of credo; `rules`, `build`, `plain_graph` and `runtime/replaced` are loaded by
their paths. It uses private parts of torch (tried with 2.13).
"""

import hashlib
import math
import os
import pickle
import runpy
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

MARK = "made-by-credo"  # a file in each folder of credo's own making

# Random numbers are those of eager code, in the order of the program, for the same seed. The caller checks sizes.
SETTINGS = {"fallback_random": True, "cpp_wrapper": True} | dict.fromkeys(
    ("reorder_for_locality", "reorder_for_peak_memory", "size_asserts", "alignment_asserts", "scalar_asserts"), False
)


class CompileJob(NamedTuple):
    """What to compile: a graph, the form of its inputs, and an optimiser's update.

    code: the source of `forward(self, *leaves, *baselines, *per_step, *data)`, which returns the loss, a gradient for
    each leaf of `used`, and the new baselines.
    """

    code: str
    used: list[int]  # indices of the leaves that have a gradient
    shapes: list[tuple[int, ...]] | None  # of those leaves if they are passed as one flat tensor, else None
    sizes: dict[str, int]  # how many tensors each field of `CompiledInputs` has
    inputs: list[tuple[Any, ...]]  # (shape, stride, dtype, device) of every tensor
    rule: str  # a key of `rules.UPDATES`
    settings: dict[str, Any]  # of the optimiser, except the learning rate
    threads: int
    dtype: torch.dtype  # the default
    # Of a rule that treats parameters differently: which of `used` are in leaves, first and second; else none.
    kept: tuple[list[int], ...] = ()
    rows: tuple[tuple[int, ...], ...] = ()  # shapes of a row of each table: the last of `used`; their index comes first


class CompiledInputs(NamedTuple):
    """All tensors that a compiled step reads. It changes those from leaves to clock."""

    per_step: list[torch.Tensor]  # what changes at every step, such as the row indices of a batch
    leaves: list[torch.Tensor]  # the parameters that have a gradient, or one flat tensor of them
    first: list[torch.Tensor]  # the optimiser's first moments: averages of the gradients
    second: list[torch.Tensor]  # its second moments: averages of their squares; none for SGD
    totals: list[torch.Tensor]  # sums of the leaves over steps
    baselines: list[torch.Tensor]
    tables: list[torch.Tensor]  # (N, numbers of a row), see `row_parts` of rules.py; a step changes rows of them
    clock: list[torch.Tensor]  # (b1^t, b2^t, the learning rate), shape (3,), double
    others: list[torch.Tensor]  # parameters without a gradient
    data: list[torch.Tensor]  # the arguments and the constants of the graph


def unflatten(flat: list[torch.Tensor], sizes: dict[str, int]) -> CompiledInputs:
    """The fields of a compiled step's inputs, from one list of all tensors."""
    parts = iter(flat)
    return CompiledInputs(**{name: [next(parts) for _ in range(sizes[name])] for name in CompiledInputs._fields})


# Loaded by its path, since this file is a program, too, which knows no package.
RULES = runpy.run_path(str(Path(__file__).with_name("rules.py")))
UPDATES = RULES["UPDATES"]


def step_function(job: CompileJob) -> Callable[..., list[torch.Tensor]]:
    """A function of all tensors of `CompiledInputs`: it takes a step in place and returns [the loss], shape (), double.

    If the loss is not finite, the step changes `totals` only. NaN also stands for a gradient that is not finite.
    """
    names: dict[str, Any] = {"torch": torch, "device": torch.device, "inf": math.inf, "nan": math.nan}
    exec(job.code, names)
    graph, update, decay = names["forward"], UPDATES[job.rule], job.settings.get("lrd", 1.0)
    factors = (*job.settings.get("betas", (1.0, 1.0)), decay)
    # A rule that treats parameters differently sees each of them; the others see one vector, if it is passed as one.
    shapes = [[job.shapes[i] for i in kept] for kept in job.kept] if job.shapes and job.kept else None

    def run(*flat: torch.Tensor) -> list[torch.Tensor]:
        x = unflatten(list(flat), job.sizes)
        visited = [table[x.per_step[0]] for table in x.tables]
        own = [RULES["row_parts"](old, shape)[0] for old, shape in zip(visited, job.rows, strict=True)]
        leaves = iter([*(split_flat(x.leaves[0], job.shapes) if job.shapes else x.leaves), *own])
        others = iter(x.others)
        total = job.sizes["others"] + len(job.used)
        every = [next(leaves if i in job.used else others) for i in range(total)]
        loss, *rest = graph(None, *every, *x.baselines, *x.per_step, *x.data)
        gradients, baselines = rest[: len(job.used)], rest[len(job.used) :]
        if job.settings.get("processes"):
            loss, gradients, baselines = RULES["averaged"](job, loss, gradients, baselines, every)
        alone = len(job.used) - len(job.rows)
        if job.shapes and not job.kept:
            gradients, alone = [joined(gradients[:alone]), *gradients[alone:]], 1
        if clip := job.settings.get("clip"):  # as torch.nn.utils.clip_grad_norm_ does
            norm = torch.stack([g.norm() for g in gradients]).norm()
            gradients = [g * (clip / (norm + 1e-6)).clamp(max=1.0) for g in gradients]
        sound = torch.stack([torch.isfinite(g).all() for g in gradients]).all()
        loss = torch.where(sound, loss, math.nan)
        finite = torch.isfinite(loss)
        clock = torch.stack([x.clock[0][i] * factor for i, factor in enumerate(factors)])
        parts = [x.leaves, x.first, x.second]
        state = (
            [split_flat(part[0], of) if part else [] for part, of in zip(parts, shapes, strict=True)]
            if shapes
            else parts
        )
        for olds, news in zip(parts, update(state[0], gradients[:alone], *state[1:], clock, job.settings), strict=True):
            for old, new in zip(olds, [joined(news)] if shapes and olds else news, strict=True):
                old.copy_(torch.where(finite, new, old))
        for table, old, g in zip(x.tables, visited, gradients[alone:], strict=True):
            new = RULES["row_step"](job.rule, old, g, clock[2], job.settings)
            table.index_put_((x.per_step[0],), torch.where(finite, new, old))
        for p, sum_of_p in zip(x.leaves, x.totals, strict=True):
            sum_of_p.add_(p)
        x.clock[0].copy_(torch.where(finite, clock, x.clock[0]))
        for old, new in zip(x.baselines, baselines, strict=True):
            old.copy_(torch.where(finite, new, old))
        return [loss.double()]

    return run


def join_alone(name: str) -> None:
    """A group of this process by itself, of the name by which the compiled step finds the processes of its run."""
    from torch import distributed
    from torch.distributed import _functional_collectives  # noqa: F401  # the shapes of its operators

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    names: Any = torch._C._distributed_c10d
    names._register_process_group(name, distributed.group.WORLD)


def split_flat(flat: torch.Tensor, shapes: Iterable[tuple[int, ...]]) -> list[torch.Tensor]:
    """Views of one flat tensor, in order, of these shapes."""
    shapes = list(shapes)
    pieces = flat.split([math.prod(shape) for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def joined(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """One vector of all numbers in these tensors, in order."""
    return torch.cat([t.reshape(-1) for t in tensors])


def compile_step(job: CompileJob, folder: Path) -> Path:
    """Compiles the job and returns the path of its library. The imports take seconds: only the program needs them."""
    import torch._inductor.config as config
    from torch._inductor.codecache import AotCodeCompiler

    here = Path(__file__)
    building = runpy.run_path(str(here.with_name("build.py")))
    replaced = runpy.run_path(str(here.parents[1] / "runtime" / "replaced.py"))["attribute_replaced"]
    graphs = runpy.run_path(str(here.with_name("plain_graph.py")))
    loop = here.with_name("loop.cpp").read_text()

    def compiled(graph: Any, wrapper: str, kernels: str, operators: str | None, **options: Any) -> str:
        if graph.constants:
            raise NotImplementedError("the graph has constants")  # a recording passes them as inputs
        return str(building["build"](wrapper, kernels, operators, loop, folder))

    if job.settings.get("processes"):
        join_alone(job.settings["group"])
    torch.set_num_threads(job.threads)
    torch.set_default_dtype(job.dtype)
    examples = [torch.empty_strided(shape, stride, dtype=d, device=w) for shape, stride, d, w in job.inputs]
    with torch.no_grad():
        plain = graphs["plain_graph"](step_function(job), examples)
        # Whether the compiler knows the processor is not tried by compiling programs for it: that takes 5 s.
        ordered = {"_post_fusion_custom_pass": graphs["draws_in_order"]}
        settings = SETTINGS | ordered | ({"cpp.vec_isa_ok": True} if building["knows_vectors"]() else {})
        narrow = replaced(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # -march=native says it anyway
        with config.patch(settings), narrow, replaced(AotCodeCompiler, "compile", compiled):
            return Path(str(torch._inductor.aot_compile(plain, tuple(examples))))


def seal(library: Path) -> None:
    """Writes the checksum of a library into a manifest beside it; both are on disk when this returns."""
    manifest = library.with_name(f"{library.name}.sha256")
    manifest.write_text(hashlib.sha256(library.read_bytes()).hexdigest())
    for path in (library, manifest):
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def is_sealed(library: Path) -> bool:
    """Whether a library is the one that `seal` saw."""
    manifest = library.with_name(f"{library.name}.sha256")
    try:
        return manifest.read_bytes() == hashlib.sha256(library.read_bytes()).hexdigest().encode()
    except OSError:
        return False


def put_in_place(folder: Path, target: Path) -> None:
    """Renames a finished folder. If another process has made the same one meanwhile, that one stays."""
    if target.exists() and not is_sealed(target / "step.so"):
        shutil.rmtree(target.rename(folder / "refused"))  # away in one step: another process may look at it
    try:
        folder.rename(target)
    except OSError:
        if not is_sealed(target / "step.so"):
            raise
        shutil.rmtree(folder, ignore_errors=True)


def end_with(parent: int, folder: Path) -> None:
    """Ends this process, which leads a group of its own, and g++, and removes the folder, once `parent` has ended."""
    while os.getppid() == parent:
        time.sleep(1.0)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    folder, target = map(Path, sys.argv[1:3])
    if hasattr(os, "killpg"):
        threading.Thread(target=end_with, args=(int(sys.argv[3]), folder), daemon=True).start()
    library = compile_step(CompileJob(*pickle.loads((folder / "job").read_bytes())), folder)
    seal(library)
    put_in_place(folder, target)
