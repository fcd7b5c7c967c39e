"""Does the pretend device behave as CUDA does? As JSON:  python -m tests.pretend.manners LIBRARY

{what: whether it holds}. CUDA refuses tensors of two devices except scalars of the CPU, takes indices of the CPU, and
has a generator of its own; a CUDA graph refuses what waits for the device, computes nothing while it is recorded, and
reads and writes the same memory at each replay.
"""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from .device import NAME, register

TWO = "Expected all tensors to be on the same device"
CAPTURING = "not permitted when stream is capturing"


def main() -> None:
    module = register(Path(sys.argv[1]))
    torch.manual_seed(0)
    x, c = torch.randn(3, 4, device=NAME), torch.randn(3, 4)
    holds = {name: refused(run, TWO) for name, run in mixed(x, c).items()}
    holds |= {name: refused(run, message) for name, (run, message) in refusals(x, c, module).items()}
    holds |= {name: bool(run()) for name, run in allowed(x, c, module).items()}
    print(json.dumps(holds))


def refused(run: Callable[[], Any], message: str) -> bool:
    try:
        run()
    except Exception as error:  # which type is torch's affair
        return message in str(error)
    return False


def mixed(x: torch.Tensor, c: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Operations of two devices, which CUDA refuses. x: on the device, c: on the CPU, shape (3, 4) both."""
    return {
        "x + c": lambda: x + c,
        "c + x": lambda: c + x,
        "c + a scalar of the device": lambda: c + x.sum(),
        "a scalar of the CPU changed in place": lambda: torch.tensor(1.0).add_(x.sum()),
        "x changed in place": lambda: x.clone().add_(c),
        "x @ c": lambda: x @ c.T,
        "cat": lambda: torch.cat([x, c]),
        "stack of scalars": lambda: torch.stack([x.sum(), c.sum()]),
        "where": lambda: torch.where(x > 0, x, c),
        "gather": lambda: x.gather(1, torch.zeros(3, 1, dtype=torch.long)),
        "index_select": lambda: x.index_select(0, torch.tensor([0])),
        "equal": lambda: torch.equal(x, c),
        "allclose": lambda: torch.allclose(x, c),
        "a network of the CPU": lambda: nn.Linear(4, 2)(x),
        "under vmap": lambda: torch.vmap(lambda row: row + c[0])(x),
    }


def refusals(x: torch.Tensor, c: torch.Tensor, module: Any) -> dict[str, tuple[Callable[[], Any], str]]:
    def captured(run: Callable[[], Any]) -> Callable[[], None]:
        def inside() -> None:
            with module.graph(module.CUDAGraph()):
                run()

        return inside

    return {
        "an index of the device": (lambda: c[torch.tensor([0, 2], device=NAME)], "indices should be either on"),
        "NumPy": (lambda: x.numpy(), f"can't convert {NAME}:0 device type tensor to numpy"),
        "a generator of the CPU": (lambda: torch.randn(4, device=NAME, generator=torch.Generator()), f"'{NAME}'"),
        "a copy in a graph": (captured(lambda: c.to(NAME)), CAPTURING),
        "a value read in a graph": (captured(lambda: x.sum().item()), CAPTURING),
        "two devices in a graph": (captured(lambda: torch.ones(2, device=NAME) + torch.tensor([1.0, 2.0])), TWO),
    }


def allowed(x: torch.Tensor, c: torch.Tensor, module: Any) -> dict[str, Callable[[], bool]]:
    """What works on CUDA, with the CPU's numbers here."""
    plain = x.cpu()
    return {
        "sums": lambda: torch.equal((x + x).cpu(), 2 * plain),
        "a scalar of the CPU": lambda: (x * torch.tensor(2.0)).device.type == NAME,
        "a scalar of the CPU first": lambda: (torch.tensor(2.0) * x).device.type == NAME,
        "where with a scalar": lambda: torch.where(x > 0, x, torch.tensor(0.0)).device.type == NAME,
        "an index of the CPU": lambda: torch.equal(x[torch.tensor([0, 2])].cpu(), plain[[0, 2]]),
        "a mask of the CPU": lambda: x[c > 0].device.type == NAME,
        "item": lambda: x.sum().item() == plain.sum().item(),
        "tolist": lambda: x.tolist() == plain.tolist(),
        "views": lambda: torch.equal(x.T.reshape(2, 6)[:, ::2].cpu(), plain.T.reshape(2, 6)[:, ::2]),
        "writes through views": lambda: written_through(),
        "unfold": lambda: x.unfold(1, 2, 1).shape == (3, 3, 2),
        "resize": lambda: torch.empty(0, device=NAME).resize_(7).shape == (7,),
        "gradients": lambda: torch.autograd.gradcheck(inverse_factor, x.double().requires_grad_()),
        "vmap": lambda: torch.allclose(torch.vmap(mixed_up)(x).cpu(), torch.stack([mixed_up(r) for r in x]).cpu()),
        "vmap with noise": lambda: torch.vmap(noisy, randomness="different")(x).shape == (3, 4),
        "grad": lambda: torch.func.grad(lambda a: (a**2).sum())(x).cpu().equal(2 * plain),
        "hessian": lambda: torch.func.hessian(lambda a: (a**3).sum())(x[0]).shape == (4, 4),
        "recording": lambda: make_fx(lambda a: torch.vmap(noisy, randomness="different")(a))(x)(x).shape == (3, 4),
        "a network": lambda: normed().to(NAME)(x).device.type == NAME,
        "deepcopy": lambda: copy.deepcopy(nn.Linear(2, 2).to(NAME)).weight.device.type == NAME,
        "repr": lambda: f"{NAME}:0" in repr(x),
        "factories": lambda: all(t.device.type == NAME for t in made(x)),
        "a default device": lambda: default_device(),
        "Adam": lambda: torch.allclose(adam("cpu"), adam(NAME)),
        "factors": lambda: all(torch.isfinite(t).all().item() for t in torch.linalg.eigh(x @ x.T)),
        "sorting": lambda: x.sort(1)[0].cpu().equal(plain.sort(1)[0]),
        "special functions": lambda: bool(torch.isfinite(torch.lgamma(x.exp()) + torch.erfinv(x.tanh())).all()),
        "the CPU's noise": lambda: all(a.equal(b) for a, b in zip(draws("cpu"), draws(NAME), strict=True)),
        "noise of its own": lambda: own_noise(module),
        "a graph": lambda: graph(module),
    }


def written_through() -> bool:
    y = torch.zeros(4, 4, device=NAME)
    y[1:3].t()[0] = 1
    y.diagonal().add_(2)
    return y.cpu().sum().item() == 10


def inverse_factor(z: torch.Tensor) -> torch.Tensor:
    return torch.linalg.cholesky(z @ z.T + 3 * torch.eye(3, device=NAME, dtype=torch.float64))


def mixed_up(row: torch.Tensor) -> torch.Tensor:
    return (row.softmax(0) * row).sum() + torch.linalg.solve_triangular(
        torch.eye(4, device=NAME), row[:, None], upper=False
    ).sum()


def noisy(row: torch.Tensor) -> torch.Tensor:
    return row + torch.randn(4, device=NAME) + torch.randn_like(row)


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.3), nn.LayerNorm(5))


def made(x: torch.Tensor) -> list[torch.Tensor]:
    ranges = [torch.arange(3, device=NAME), torch.linspace(0, 1, 3, device=NAME), torch.eye(2, device=NAME)]
    return [*ranges, torch.zeros(2, device=NAME), torch.tensor([1.0], device=NAME), torch.zeros_like(x), x.new_zeros(2)]


def default_device() -> bool:
    with torch.device(NAME):
        return torch.zeros(2).device.type == NAME and torch.tensor(1.0).device.type == NAME


def adam(device: str) -> torch.Tensor:
    p = nn.Parameter(torch.ones(3, device=device))
    optimiser = torch.optim.Adam([p], lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        (p**2).sum().backward()
        optimiser.step()
    return p.detach().cpu()


def draws(device: str) -> list[torch.Tensor]:
    torch.manual_seed(1)
    one, fair = torch.ones(4, device=device), torch.full((4,), 0.5, device=device)
    found = [torch.randn(3, device=device), torch.bernoulli(fair), torch._standard_gamma(one), torch.poisson(one)]
    found += [torch.multinomial(one, 3), torch._sample_dirichlet(one), torch.empty(3, device=device).exponential_()]
    return [t.cpu() for t in found]


def own_noise(module: Any) -> bool:
    module.own_generator(True)
    torch.manual_seed(0)
    first, here = torch.randn(2, device=NAME), torch.randn(2)
    torch.manual_seed(0)
    again = torch.randn(2, device=NAME)
    module.own_generator(False)
    return first.equal(again) and first.cpu().equal(here)


def graph(module: Any) -> bool:
    """Recording computes nothing; a replay computes on the same memory, with the noise of eager code."""
    a, b, recorded = torch.zeros(3, device=NAME), torch.ones(2, 3, device=NAME), module.CUDAGraph()
    before = torch.get_rng_state()
    with torch.no_grad(), module.graph(recorded):
        a.add_(b.sum(0))
        noise = torch.randn(3, device=NAME)
    still = a.sum().item() == 0 and torch.equal(before, torch.get_rng_state())
    torch.manual_seed(0)
    recorded.replay()
    recorded.replay()
    torch.manual_seed(0)
    torch.randn(3)
    moved = a.tolist() == [4.0] * 3 and noise.cpu().equal(torch.randn(3))
    b.mul_(2)
    recorded.replay()
    return still and moved and a.tolist() == [8.0] * 3


if __name__ == "__main__":
    main()
