"""A pruned network, compressed and packed, on one core: microseconds a call, medians of calls in turn.

    python benchmarks/compressed.py

LeNet-300-100 keeps as many weights a layer as in Molchanov, Ashukha and Vetrov 2017 (98.9, 97.2 and 62.0 % pruned), at
random places or in as few units as hold them, and LeNet-5 as many as there (67, 98, 99.8 and 95 %); the weights are not
trained, which does not matter for the time. Eager networks stand beside each other, `credo.compress` with the calls of
torch's layers and with `packed=True`, and so do the dense and the compressed network after torch.compile, but for
LeNet-5, whose compilation takes minutes. `calls` is the cost of the five layers with one number each, which no smaller
network of torch's layers goes below, and of the same network packed. Then single layers: a dense product against one
with compressed rows, whose crossing is the rule of `credo/sparsity/layers.py`.
"""

import math
import statistics
import time
import warnings

import torch
from torch import nn

from credo.sparsity.compress import seconds
from credo.sparsity.cut import cut
from credo.sparsity.layers import SparseLinear
from credo.sparsity.pack import pack

PRUNED = (0.989, 0.972, 0.62)
UNITS = ((300, 60), (60, 30), (30, 10))  # inputs and outputs of each layer that hold weights, where they are gathered
LAYERS = ((300, 784), (500, 800), (1000, 1000), (100, 300))
SHARES = (0.002, 0.01, 0.02, 0.05)
PRUNED_5 = (0.67, 0.98, 0.998, 0.95)
BATCHES = {1: 300, 32: 100, 1024: 10}  # rows: rounds, in each of which every network is called once


def lenet(gathered: bool) -> nn.Module:
    """LeNet-300-100 with zeros at random places, or everywhere but between a few units."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)).eval()
    weights = [layer.weight for layer in net if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for w, share, (inputs, outputs) in zip(weights, PRUNED, UNITS, strict=True):
            keep = torch.zeros_like(w)
            block = keep[:outputs, :inputs] if gathered else keep
            count = min(block.numel(), round((1 - share) * w.numel()))
            flat = torch.zeros(block.numel())
            flat[torch.randperm(block.numel())[:count]] = 1
            block.copy_(flat.reshape(block.shape))
            w.mul_(keep)
    return net


def lenet5() -> nn.Module:
    """LeNet-5-Caffe with zeros at random places."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )
    with torch.no_grad():
        for w, share in zip([w for w in net.parameters() if w.dim() > 1], PRUNED_5, strict=True):
            w.mul_(torch.rand_like(w) > share)
    return net.eval()


def micros(network: nn.Module, x: torch.Tensor) -> float:
    return 1e6 * min(seconds(network, x) for _ in range(3))


@torch.inference_mode()
def in_turn(networks: dict[str, nn.Module], x: torch.Tensor, rounds: int) -> dict[str, float]:
    """Microseconds of a call, the median of as many rounds, in each of which all networks take their turn."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(rounds + 3):
        for name, network in networks.items():
            network(x)  # the calls before it took the caches
            begun = time.perf_counter()
            network(x)
            if turn >= 3:
                times[name].append(1e6 * (time.perf_counter() - begun))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    rows = torch.rand(1024, 784)
    nets = {"300-100, at random": (lenet(False), rows), "300-100, gathered": (lenet(True), rows)}
    nets["LeNet-5"] = (lenet5(), rows.reshape(-1, 1, 28, 28))
    names = ("dense", "compressed", "packed", "dense compiled", "compressed compiled")
    print(
        f"{'':<20}{'rows':>5}" + "".join(f"{name:>20}" for name in names) + "   dense / packed, compiled dense / packed"
    )
    for name, (net, x) in nets.items():
        done = cut(net)
        networks = {"dense": net, "compressed": done.network, "packed": pack(done.network)}
        for batch, rounds in BATCHES.items():
            with warnings.catch_warnings():  # torch.compile has words about its own parts
                warnings.simplefilter("ignore")
                torch.compiler.reset()
                also = {} if name == "LeNet-5" else {key: networks[key.split()[0]] for key in names[3:]}
                times = in_turn(networks | {key: torch.compile(part) for key, part in also.items()}, x[:batch], rounds)
            words = "".join(f"{times.get(key, math.nan):20,.1f}" for key in names)
            ratios = [f"{times[key] / times['packed']:.1f}" for key in ("dense", "dense compiled") if key in times]
            print(f"{name:<20}{batch:>5}{words}   {', '.join(ratios)}", flush=True)
        print("  " + ", ".join(" x ".join(map(str, layer.after)) for layer in done.layers.values()))
    floor = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).eval()
    calls, packed = (micros(network, rows[:1, :1]) for network in (floor, pack(floor)))
    print(f"calls of five layers of one number: {calls:.1f}, packed {packed:.1f}")
    print(f"\n{'layer':<16}{'dense':>9}" + "".join(f"{f'{share:.1%} kept':>12}" for share in SHARES))
    for outputs, inputs in LAYERS:
        dense, row = nn.Linear(inputs, outputs), torch.rand(1, inputs)
        thin = [dense.weight.detach() * (torch.rand(outputs, inputs) < share) for share in SHARES]
        sparse = [micros(SparseLinear(weight, dense.bias), row) for weight in thin]
        print(f"{f'{outputs} x {inputs}':<16}{micros(dense, row):9.1f}" + "".join(f"{t:12.1f}" for t in sparse))


if __name__ == "__main__":
    main()
