"""The six workloads of speed.py: data, starting values, the objective by hand, and an objective to judge parameters.

    -ELBO = E_q[log q(z) - log p(x, z)]      nats; one draw, log q at the draw (for `enum` the exact sum over z)

Every contender begins at the same starting values and returns its parameters (constrained, by name), at which `judged`
computes -ELBO in the same way for all. Float32, one batch, the same at each step.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import _speed_objectives as objectives
import _speed_programs as programs
import torch
from _speed_programs import DEPTHS, LATENTS, NOISE, Params, Programs

import credo

BETAS = (0.9, 0.99)  # of Adam, for everybody: those that credo has
LAST = 32  # losses that a contender hands back, at most
Objective = Callable[..., tuple[torch.Tensor, torch.Tensor]]


class Workload(NamedTuple):
    """objective(params, *data): (an estimate of -ELBO in nats, a scalar whose gradient estimates its gradient).

    start: constrained. kinds: which parameters are "positive" or a "cholesky" factor; the others are real numbers.
    elbo: Pyro's and NumPyro's class without its ending. plan: credo's, so that its arithmetic is theirs.
    draws, judge: how often, and by which objective, -ELBO is evaluated at parameters.
    lr, horizon: of a cold start, and after how many steps the reference is taken as converged.
    """

    name: str
    data: tuple[torch.Tensor, ...]
    start: dict[str, torch.Tensor]
    kinds: Mapping[str, str]
    objective: Objective
    pyro: Callable[[Params], Programs]
    elbo: str
    plan: Mapping[str, str]
    draws: int
    judge: Objective
    lr: float
    horizon: int


class Contender(NamedTuple):
    """steps(n): runs n steps; the last losses, nats, at most LAST. params(): as they are now, constrained, by name.

    ready(): whether the code that is to be timed is already in use.
    """

    steps: Callable[[int], list[float]]
    params: Callable[[], dict[str, torch.Tensor]]
    ready: Callable[[], bool] = lambda: True
    note: str = ""


def all_workloads() -> dict[str, Workload]:
    found = (coin(), regression(), network(), vae(), depth("enum"), depth("graph"))
    return {workload.name: workload for workload in found}


def coin() -> Workload:
    flips = (_uniform(1000, seed=0) < 0.7).float()
    start = {"a": torch.tensor(10.0), "b": torch.tensor(10.0)}
    objective, kinds = objectives.coin, dict.fromkeys("ab", "positive")
    plan = {"p": "pathwise"}
    return Workload(
        "coin", (flips,), start, kinds, objective, programs.coin, "Trace", plan, 4000, objective, 1e-2, 8000
    )


def regression() -> Workload:
    x = _normal(500, 10, seed=1)
    y = x @ _normal(10, seed=2) + NOISE * _normal(500, seed=3)
    start = {"m": torch.zeros(10), "L": 0.1 * torch.eye(10)}
    objective, plan = objectives.regression, {"theta": "pathwise"}
    kinds = {"L": "cholesky"}
    return Workload(
        "BLR", (x, y), start, kinds, objective, programs.regression, "Trace", plan, 1000, objective, 2e-3, 6000
    )


def network() -> Workload:
    shapes = {"w1": (64, 100), "b1": (100,), "w2": (100, 10), "b2": (10,)}
    start = {f"{name}.loc": 0.1 * _normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    start |= {f"{name}.scale": torch.full(shape, 0.05) for name, shape in shapes.items()}
    kinds = {f"{name}.scale": "positive" for name in shapes}
    objective, plan = objectives.network, dict.fromkeys(shapes, "pathwise")
    return Workload(
        "BNN", _digits(), start, kinds, objective, programs.network, "Trace", plan, 2000, objective, 1e-2, 8000
    )


def vae() -> Workload:
    sizes = {"decoder": (LATENTS, 400, 784), "encoder": (784, 400, 2 * LATENTS)}
    start = {}
    for part, (inputs, hidden, outputs) in sizes.items():
        start |= _layer(f"{part}.0", inputs, hidden) | _layer(f"{part}.2", hidden, outputs)
    objective, plan = objectives.vae, {"z": "pathwise"}
    return Workload("VAE", (_images(),), start, {}, objective, programs.vae, "Trace", plan, 50, objective, 5e-3, 3000)


def depth(name: str, width: int = 100) -> Workload:
    """A residual net of 0 to 4 blocks with z ~ Categorical blocks: "enum" sums over z, "graph" draws it."""
    start = _layer("net.stem", 64, width) | _layer("net.head", width, 10) | {"q": torch.zeros(DEPTHS)}
    for i in range(DEPTHS - 1):
        start |= _layer(f"net.blocks.{i}", width, width)
    own, elbo, estimator = {
        "enum": (objectives.enumerated, "TraceEnum", "enumerate"),
        "graph": (objectives.scored, "TraceGraph", "score"),
    }[name]
    plan, judge = {"z": estimator}, objectives.enumerated
    return Workload(name, _digits(), start, {}, own, programs.depth, elbo, plan, 1, judge, 1e-4, 4000)


def bound(free: Params, kinds: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Constrained values: exp where positive; of a Cholesky factor the diagonal's exp, and nothing above it."""
    values = dict(free)
    for name, kind in kinds.items():
        value = free[name]
        values[name] = value.exp() if kind == "positive" else value.tril(-1) + value.diagonal().exp().diag()
    return values


def freed(params: Params, kinds: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """The inverse of `bound`, on copies."""
    values = {name: value.detach().clone() for name, value in params.items()}
    for name, kind in kinds.items():
        value = values[name]
        values[name] = value.log() if kind == "positive" else value.tril(-1) + value.diagonal().log().diag()
    return values


class Judged(NamedTuple):
    loss: float  # -ELBO, nats
    error: float  # its standard error


def judged(workload: Workload, params: Params) -> Judged:
    """-ELBO at these parameters, with noise that is the same for everybody."""
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(0)
        draws = torch.stack([workload.judge(params, *workload.data)[0] for _ in range(workload.draws)]).double()
    return Judged(draws.mean().item(), draws.std().item() / len(draws) ** 0.5 if len(draws) > 1 else 0.0)


def _layer(name: str, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    scale = 0.5 * inputs**-0.5
    return {f"{name}.weight": scale * _normal(outputs, inputs, seed=outputs), f"{name}.bias": torch.zeros(outputs)}


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    x, y, _, _ = credo.data.digits()
    return x[:100], y[:100]


def _images() -> torch.Tensor:
    """128 binary images of 784 pixels: MNIST where CREDO_DATA has it, else mixtures of six patterns."""
    folder = os.environ.get("CREDO_DATA")
    if folder and (Path(folder).expanduser() / "mnist.npz").is_file():
        return (credo.data.mnist().x[:128] >= 0.5).float()
    return (_normal(128, 6, seed=4) @ _normal(6, 784, seed=5) > 0.5).float()


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _uniform(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
