"""Two contenders of speed.py that have no Pyro: the objective by hand in torch, eager, and compiled as a whole."""

import functools
import statistics
import time
from collections import deque
from collections.abc import Callable

import torch
from _speed_workloads import BETAS, LAST, Contender, Workload, bound, freed

EPSILON = 1e-8  # of Adam
State = tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]


def eager(workload: Workload, lr: float) -> Contender:
    """Autograd and the fused Adam of torch."""
    leaves = {name: value.requires_grad_() for name, value in freed(workload.start, workload.kinds).items()}
    adam = torch.optim.Adam(leaves.values(), lr=lr, betas=BETAS, fused=True)

    def steps(n: int) -> list[float]:
        last: deque[torch.Tensor] = deque(maxlen=LAST)
        for _ in range(n):
            adam.zero_grad()
            value, loss = workload.objective(bound(leaves, workload.kinds), *workload.data)
            loss.backward()
            adam.step()
            last.append(value.detach())
        return [value.item() for value in last]

    return Contender(steps, lambda: {k: v.detach() for k, v in bound(leaves, workload.kinds).items()})


# What a hand tries. flat: all parameters are one tensor. cpp_wrapper: no Python inside the compiled step.
# fallback_random: torch's own samplers, which are faster on a CPU than those that Inductor writes out.
KNOBS = (
    {"flat": True, "cpp_wrapper": True, "fallback_random": True},
    {"flat": False, "cpp_wrapper": True, "fallback_random": True},
    {"flat": False, "cpp_wrapper": True, "fallback_random": False},
    {"flat": True, "cpp_wrapper": False, "fallback_random": True},
    {"flat": False, "cpp_wrapper": False, "fallback_random": True, "max_autotune": True},
)


def compiled(workload: Workload, lr: float, knobs: tuple[dict[str, bool], ...] = KNOBS[:1]) -> Contender:
    """torch.compile on model, loss, gradient and Adam together, with the fastest of several settings."""
    if len(knobs) == 1:
        return _compiled(workload, lr, **knobs[0])
    tried = []
    for choice in knobs:
        contender = _compiled(workload, lr, **choice)
        contender.steps(20)
        n = max(5, round(0.05 / _seconds(contender, 5)))
        tried.append((statistics.median(_seconds(contender, n) for _ in range(5)), choice))
    _, choice = min(tried, key=lambda row: row[0])
    note = ", ".join(name for name, on in choice.items() if on) or "defaults"
    return _compiled(workload, lr, **choice)._replace(note=f"torch.compile was fastest with {note}")


def _seconds(contender: Contender, n: int) -> float:
    start = time.perf_counter()
    contender.steps(n)
    return (time.perf_counter() - start) / n


def _compiled(workload: Workload, lr: float, flat: bool = False, **options: bool) -> Contender:
    torch._dynamo.reset()
    start = freed(workload.start, workload.kinds)
    names, shapes, sizes = list(start), [v.shape for v in start.values()], [v.numel() for v in start.values()]
    values = list(start.values())
    leaves = [torch.cat([v.flatten() for v in values])] if flat else values

    def apart(leaves: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        parts = leaves[0].split(sizes) if flat else leaves
        free = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return bound(free, workload.kinds)

    def loss(leaves: list[torch.Tensor], data: tuple) -> tuple[torch.Tensor, torch.Tensor]:
        value, surrogate = workload.objective(apart(leaves), *data)
        return surrogate, value

    first, second = ([torch.zeros_like(leaf) for leaf in leaves] for _ in range(2))
    powers = [torch.ones(()), torch.ones(())]  # beta ** t
    step = _compile(functools.partial(_adam, loss, lr), options)

    def steps(n: int) -> list[float]:
        last: deque[torch.Tensor] = deque(maxlen=LAST)
        with torch.no_grad():
            for _ in range(n):
                last.append(step(leaves, first, second, powers, workload.data))
        return [value.item() for value in last]

    return Contender(steps, lambda: {k: v.clone() for k, v in apart(leaves).items()})


def _compile(step: Callable, options: dict[str, bool]) -> Callable:
    """Guards are skipped: shapes and types never change here, and they cost some ten microseconds a call."""
    every = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe, **options}
    return torch.compile(step, fullgraph=True, dynamic=False, options=every)


def _adam(
    loss: Callable,
    lr: float,
    leaves: list[torch.Tensor],
    first: list[torch.Tensor],
    second: list[torch.Tensor],
    powers: list[torch.Tensor],
    data: tuple,
) -> torch.Tensor:
    """One step in place (Kingma and Ba 2015, algorithm 1). The estimate of -ELBO before it."""
    gradients, (_, value) = torch.func.grad_and_value(loss, has_aux=True)(leaves, data)
    for power, beta in zip(powers, BETAS, strict=True):
        power.mul_(beta)
    rate, scale = lr / (1 - powers[0]), (1 - powers[1]).rsqrt()
    for leaf, m, v, gradient in zip(leaves, first, second, gradients, strict=True):
        m.lerp_(gradient, 1 - BETAS[0])
        v.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        leaf.sub_(rate * m / (v.sqrt() * scale + EPSILON))
    return value
