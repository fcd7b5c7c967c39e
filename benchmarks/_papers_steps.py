"""Part of papers.py: the time of a step beside one by hand, and the variance of a gradient times its time.

    by hand: the same estimator in torch, loss and gradient by torch.compile, fused Adam; on a GPU one CUDA graph
    ratio = median seconds of credo's step / median of the other's, in alternating rounds of one process

Wanted: at most 1.1 for the mean-field MLP and LeNet-5, and for natural gradients beside compiled Adam of the plain
network; variance times time of weights drawn one by one at least twice that of the default; 20 seconds from the call to
the first step on 55,000 rows. Inputs are drawn: a step takes as long on them as on digits. One thread.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from _gpu_by_hand import LR, PRIOR_SD, START, by_hand_of, perceptron, rows
from _papers_task import Task, lenet5
from torch import nn
from torch.nn import functional

import credo

BATCH, N = 128, 60_000
ROUNDS, SECONDS = 5, 5.0  # SECONDS of a round: one call, with its look at the result
PATIENCE = 240.0  # seconds until compiled steps are in use
DRAWS = 30  # of a gradient
MOST, LEAST = 1.1, 2.0
FIRST, SOON = 55_000, 20.0  # rows; seconds until the first of its steps has been taken
Steps = Callable[[int], Any]
SITES = {"mlp": (0, 2, 4), "lenet": (0, 3, 7, 9)}  # the layers with weights


def tasks() -> list[Task]:
    return [
        *(Task(f"steps/{name}/by hand", beside_by_hand, (name,)) for name in SITES),
        *(Task(f"steps/{name}/natural", natural_beside_adam, (name,)) for name in SITES),
        *(Task(f"steps/{name}/variance", variance_times_time, (name,)) for name in SITES),
        *(Task(f"steps/{name}/first", first_step, (name,)) for name in SITES),
    ]


def tables(found: Mapping[str, dict[str, Any]]) -> None:
    for name, result in found.items():
        print(f"{name:<28}" + "  ".join(f"{key} {value}" for key, value in result.items()))
        if "ratio" in result:
            print(f"{'met' if result['ratio'] <= MOST else 'MISSED':<28}wanted at most {MOST}")
        if "to the first step, s" in result:
            met = result["to the first step, s"] <= SOON
            print(f"{'met' if met else 'MISSED':<28}wanted at most {SOON:g} s")
        if "times better" in result:
            print(f"{'met' if result['times better'] >= LEAST else 'MISSED':<28}wanted at least {LEAST}")


def network(name: str) -> nn.Sequential:
    """784-400-400-10, or LeNet-5."""
    torch.manual_seed(0)
    if name == "mlp":
        return perceptron((784, 400, 400, 10))
    return lenet5()


def data(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = rows(N)
    return (x if name == "mlp" else x.reshape(-1, 1, 28, 28)), y


def device_here() -> torch.device:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def credos(name: str, **options: Any) -> tuple[Steps, Any, tuple[Any, ...]]:
    """(steps of the mean-field classifier, the runner, its data), once compiled code is in use."""
    pair, given, device = credo.load("bnn_classifier"), (network(name), *data(name)), device_here()
    settings = {"particles": 1, "batch_size": BATCH, "lr": LR, "plan": "fast", "progress": False, "device": device}
    svi = credo.SVI(pair.model, pair.guide, **settings | options)

    def steps(n: int) -> None:
        svi.run(*given, steps=n)

    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not (svi.plan and svi.plan.compiled.startswith("captured once, compiled")):
        steps(50 if device.type == "cpu" else 2000)
    return steps, svi, given


def alternating(contenders: Mapping[str, Steps]) -> dict[str, float]:
    """{contender: median seconds of a step}, in turns."""
    wait = getattr(torch, "accelerator", None) if torch.accelerator.is_available() else None
    many, times = {}, {name: [] for name in contenders}
    for name, steps in contenders.items():
        steps(20)
        begun = time.perf_counter()
        steps(20)
        many[name] = max(20, math.ceil(SECONDS / ((time.perf_counter() - begun) / 20)))
    for _ in range(ROUNDS):
        for name, steps in contenders.items():
            begun = time.perf_counter()
            steps(many[name])
            if wait:
                wait.synchronize()
            times[name].append((time.perf_counter() - begun) / many[name])
    return {name: statistics.median(every) for name, every in times.items()}


def first_step(name: str) -> dict[str, Any]:
    """Seconds from the call to the first step on FIRST rows: checks, plan, and the step, which is not compiled yet."""
    net, (x, y) = network(name), data(name)
    pair = credo.load("bnn_classifier")
    settings = {"particles": 1, "batch_size": BATCH, "lr": LR, "plan": "fast", "progress": False}
    begun, of_cpu = time.perf_counter(), time.process_time()
    credo.SVI(pair.model, pair.guide, **settings, device=device_here()).step(net, x[:FIRST], y[:FIRST])
    seconds, of_cpu = time.perf_counter() - begun, time.process_time() - of_cpu
    return {"to the first step, s": round(seconds, 1), "of CPU, s": round(of_cpu, 1)}


def beside_by_hand(name: str) -> dict[str, Any]:
    """The mean-field network with the estimators of the default plan: local, for convolutions flipout."""
    steps, svi, _ = credos(name)
    net = network(name).to(device_here())
    means = [w.detach().clone().requires_grad_() for w in net.parameters()]
    raws = [torch.full_like(w, math.log(math.expm1(START))).requires_grad_() for w in means]
    hand = by_hand_of([*means, *raws], bayes_loss(net, means, raws), data(name), BATCH, device_here(), None)
    return compared(steps, hand, svi)


def natural_beside_adam(name: str) -> dict[str, Any]:
    """Natural gradients of the mean-field network beside Adam of the plain one."""
    steps, svi, _ = credos(name, optim="natural")
    net = network(name).to(device_here())

    def loss(x: torch.Tensor, y: torch.Tensor, scale: float) -> torch.Tensor:
        return scale * functional.cross_entropy(net(x), y, reduction="sum")

    return compared(steps, by_hand_of(list(net.parameters()), loss, data(name), BATCH, device_here(), None), svi)


def compared(steps: Steps, other: Steps, svi: Any) -> dict[str, Any]:
    found = alternating({"credo": steps, "other": other})
    microseconds = {f"{name}, µs": round(1e6 * seconds) for name, seconds in found.items()}
    return microseconds | {"ratio": round(found["credo"] / found["other"], 3), "how": svi.plan.compiled}


def bayes_loss(net: nn.Sequential, means: list[torch.Tensor], raws: list[torch.Tensor]) -> Callable[..., torch.Tensor]:
    """-ELBO by hand: local reparametrisation of linear layers, flipout of convolutions, KL in closed form."""

    def loss(x: torch.Tensor, y: torch.Tensor, scale: float) -> torch.Tensor:
        h, kl = x, x.new_zeros(())
        weights = zip(means, raws, strict=True)
        for layer in net:
            if not isinstance(layer, nn.Linear | nn.Conv2d):
                h = layer(h)
                continue
            (m, raw), (b, raw_b) = next(weights), next(weights)
            s, t = functional.softplus(raw), functional.softplus(raw_b)
            for mean, sd, prior in ((m, s, PRIOR_SD / m[0].numel() ** 0.5), (b, t, PRIOR_SD)):
                ratio = (sd / prior).square()
                kl = kl + 0.5 * (ratio + (mean / prior).square() - 1 - ratio.log()).sum()
            if isinstance(layer, nn.Linear):
                out, var = functional.linear(h, m, b), functional.linear(h.square(), s.square(), t.square())
                h = out + var.sqrt() * torch.randn_like(out)
            else:
                out = functional.conv2d(h, m, b)
                signs = [
                    torch.randint(0, 2, (len(h), c, 1, 1), device=h.device) * 2.0 - 1 for c in (h.shape[1], len(m))
                ]
                noise = functional.conv2d(h * signs[0], s * torch.randn_like(s)) * signs[1]
                h = out + noise + (t * torch.randn_like(t))[:, None, None] * signs[1]
        return scale * functional.cross_entropy(h, y, reduction="sum") + kl

    return loss


def variance_times_time(name: str) -> dict[str, Any]:
    """The default plan beside weights drawn one by one, one draw for a batch, at the same parameters."""
    sites = [f"{layer}.{what}" for layer, what in itertools.product(SITES[name], ("weight", "bias"))]
    found = {}
    for label, plan in (("default", "fast"), ("one by one", dict.fromkeys(sites, "pathwise"))):
        steps, svi, given = credos(name, plan=plan, lr=1e-12)  # the parameters stay where they start
        found[label] = steps, total_variance(svi.gradients(*given) for _ in range(DRAWS))
    seconds = alternating({label: steps for label, (steps, _) in found.items()})
    products = {label: variance * seconds[label] for label, (_, variance) in found.items()}
    shown = {f"{label}, variance": float(f"{variance:.3g}") for label, (_, variance) in found.items()}
    times = {f"{label}, µs": round(1e6 * value) for label, value in seconds.items()}
    return shown | times | {"times better": round(products["one by one"] / products["default"], 2)}


def total_variance(draws: Iterable[dict[str, torch.Tensor]]) -> float:
    """The trace of the covariance of a gradient, of its draws."""
    every = torch.stack([torch.cat([g.flatten() for g in draw.values()]) for draw in draws])
    return every.double().var(0).sum().item()
