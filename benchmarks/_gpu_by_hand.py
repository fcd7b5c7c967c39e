"""What gpu.py sets credo against: the networks of real size by hand in torch, compiled, fused Adam, one CUDA graph.

    BNN: minus 1/B Σ log p(y | x, w) N + KL(q || p), weights drawn by local reparametrisation, KL in closed form
    VAE: N/B Σ [KL(q(z | x) || p(z)) - log p(x | z)]                    nats, for N rows, a batch of B

Both sides take the same shapes, rows and learning rate; batches are rows of a shuffled index that is on the device.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

import credo

N, PIXELS, CLASSES, LR = 60_000, 784, 10, 1e-3
PRIOR_SD, START = 10.0, 0.05  # those of the pair
WARMUP = 4  # steps before the capture, as torch's manual asks for


class Work(NamedTuple):
    """One network. sizes: of its layers; of a VAE those of the encoder, whose last is the number of latents."""

    name: str
    kind: str  # "bnn" or "vae"
    sizes: tuple[int, ...]
    batch: int


WORKS = (
    Work("BNN 784-400-400-10, batch 128", "bnn", (PIXELS, 400, 400, CLASSES), 128),
    Work("BNN 784-1200-1200-10, batch 1,000", "bnn", (PIXELS, 1200, 1200, CLASSES), 1000),
    Work("VAE 784-400-20, batch 128", "vae", (PIXELS, 400, 20), 128),
    Work("VAE 784-2000-2000-50, batch 4,096", "vae", (PIXELS, 2000, 2000, 50), 4096),
)
Steps = Callable[[int], None]


def rows(n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, y): images of 0 and 1, and labels, drawn."""
    noise = torch.Generator().manual_seed(0)
    x = (torch.rand(n, PIXELS, generator=noise) < 0.2).float()
    return x, torch.randint(CLASSES, (n,), generator=noise)


def perceptron(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def networks(work: Work) -> tuple[nn.Module, ...]:
    """The network of a BNN, or (decoder, encoder)."""
    torch.manual_seed(0)
    if work.kind == "bnn":
        return (perceptron(work.sizes),)
    *inner, latents = work.sizes
    return perceptron((latents, *reversed(inner))), perceptron((*inner, 2 * latents))


def credos(work: Work, data: tuple[torch.Tensor, torch.Tensor], device: Any, precision: str | None) -> Any:
    """(steps of credo's pair, the runner)."""
    x, y = (t.to(device) for t in data)
    nets = networks(work)
    if work.kind == "bnn":
        pair, arguments, settings = credo.load("bnn_classifier"), (*nets, x, y), {}
    else:
        pair, arguments, settings = credo.load("vae"), (*nets, x), {"latents": work.sizes[-1]}
    model, guide = (keeping(program, settings) for program in (pair.model, pair.guide))
    options = {"particles": 1, "batch_size": work.batch, "lr": LR, "plan": "fast", "device": device}
    svi = credo.SVI(model, guide, progress=False, precision=precision, **options)
    return (lambda n: svi.run(*arguments, steps=n)), svi


def keeping(program: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """A program with these settings, as a function whose arguments have their names."""
    if not settings:
        return program

    def called(decoder: nn.Module, encoder: nn.Module, x: torch.Tensor) -> Any:
        return program(decoder, encoder, x, **settings)

    return called


def by_hand(work: Work, data: tuple[torch.Tensor, torch.Tensor], device: Any, precision: str | None) -> Steps:
    """Steps of the same network by hand. On a device without graphs each step is a call of compiled code."""
    nets = nn.ModuleList(networks(work)).to(device)
    if work.kind == "bnn":
        weights = [w.detach() for w in nets.parameters()]
        means = [w.clone().requires_grad_() for w in weights]
        logs = [torch.full_like(w, math.log(START)).requires_grad_() for w in weights]
        parameters = [*means, *logs]
        loss = bnn_loss(means, logs)
    else:
        parameters = list(nets.parameters())
        loss = vae_loss(*nets)
    return by_hand_of(parameters, loss, data, work.batch, device, precision)


def by_hand_of(
    parameters: list[torch.Tensor],
    loss: Callable[..., torch.Tensor],
    data: tuple[torch.Tensor, torch.Tensor],
    batch: int,
    device: Any,
    precision: str | None,
) -> Steps:
    """Steps of Adam on a loss of (x, y, rows of all over rows of a batch), its gradient compiled."""
    x, y = (t.to(device) for t in data)
    kind = torch.device(device).type
    on_gpu = kind == "cuda"
    adam = torch.optim.Adam(parameters, lr=LR, betas=(0.9, 0.99), fused=True, capturable=on_gpu)
    compiled = torch.compile(loss, fullgraph=True, dynamic=False)
    order = torch.randperm(len(x), device=device)
    start, total = torch.zeros((), dtype=torch.int64, device=device), torch.arange(batch, device=device)

    def step() -> None:
        with torch.no_grad():
            index = order[(start + total) % len(x)]
            start.add_(batch)
        for p in parameters:
            p.grad = None
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            value = compiled(x[index], y[index], len(x) / batch)
        value.backward()
        adam.step()

    replay = captured(step, device) if on_gpu else step

    def steps(n: int) -> None:
        for _ in range(n):
            replay()

    return steps


def captured(step: Callable[[], None], device: Any) -> Callable[[], None]:
    """The step as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(keep: Callable[[], None] = step) -> None:  # the graph launches kernels that live as long as the program
        graph.replay()

    return replay


def bnn_loss(means: list[torch.Tensor], logs: list[torch.Tensor]) -> Callable[..., torch.Tensor]:
    layers = range(0, len(means), 2)

    def loss(x: torch.Tensor, y: torch.Tensor, scale: float) -> torch.Tensor:
        h, kl = x, x.new_zeros(())
        for i in layers:
            (m, b), (s, t) = means[i : i + 2], (log.exp() for log in logs[i : i + 2])
            for mean, sd, prior in ((m, s, PRIOR_SD / m.shape[1] ** 0.5), (b, t, PRIOR_SD)):
                ratio = (sd / prior).square()
                kl = kl + 0.5 * (ratio + (mean / prior).square() - 1 - ratio.log()).sum()
            mean, variance = functional.linear(h, m, b), functional.linear(h.square(), s.square(), t.square())
            h = mean + variance.sqrt() * torch.randn_like(mean)
            h = h.relu() if i != layers[-1] else h
        return scale * functional.cross_entropy(h.float(), y, reduction="sum") + kl

    return loss


def vae_loss(decoder: nn.Module, encoder: nn.Module) -> Callable[..., torch.Tensor]:
    def loss(x: torch.Tensor, y: torch.Tensor, scale: float) -> torch.Tensor:
        mean, raw = encoder(x).float().chunk(2, -1)
        sd = functional.softplus(raw) + 1e-4
        logits = decoder(mean + sd * torch.randn_like(mean)).float()
        kl = 0.5 * (sd.square() + mean.square() - 1 - 2 * sd.log()).sum()
        return scale * (functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl)

    return loss


def flops(work: Work) -> float:
    """Of the matrix products of one step: 2 a multiply-add, forward and twice backward, but no gradient of x."""
    sizes = [work.sizes] if work.kind == "bnn" else [(*work.sizes[:-1], 2 * work.sizes[-1]), work.sizes[::-1]]
    products = [[2 * work.batch * a * b for a, b in itertools.pairwise(s)] for s in sizes]
    return (2 if work.kind == "bnn" else 1) * (3 * sum(map(sum, products)) - products[0][0])


def bare_rate(device: Any, precision: str | None, seconds: Callable[[Steps], float]) -> float:
    """Flops a second of a product of the largest layer's shape, (4096, 2000) by (2000, 2000)."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(n, 2000, device=device, dtype=dtype) for n in (4096, 2000))

    def product(n: int) -> None:
        for _ in range(n):
            a @ b

    return 2 * 4096 * 2000 * 2000 / seconds(product)
