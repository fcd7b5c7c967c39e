"""A pruned network against its compressed form at one row, on one core: microseconds a call, medians of 200 calls.

    python benchmarks/compressed.py

LeNet-300-100 keeps as many weights a layer as in Molchanov, Ashukha and Vetrov 2017 (98.9, 97.2 and 62.0 % pruned), at
random places or in as few units as hold them; its untrained weights do not matter for the time. `calls` is the cost of
the five layers with one number each, which no smaller network goes below. Then single layers: a dense product against
one with compressed rows, whose crossing is the rule of `credo/sparsity/layers.py`.
"""

import torch
from torch import nn

from credo.sparsity.compress import seconds
from credo.sparsity.cut import cut
from credo.sparsity.layers import SparseLinear

PRUNED = (0.989, 0.972, 0.62)
UNITS = ((300, 60), (60, 30), (30, 10))  # inputs and outputs of each layer that hold weights, where they are gathered
LAYERS = ((300, 784), (500, 800), (1000, 1000), (100, 300))
SHARES = (0.002, 0.01, 0.02, 0.05)


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


def micros(network: nn.Module, x: torch.Tensor) -> float:
    return 1e6 * min(seconds(network, x) for _ in range(3))


def main() -> None:
    torch.set_num_threads(1)
    x = torch.rand(1, 784)
    floor = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).eval()
    print(f"{'LeNet-300-100':<16}{'pruned':>9}{'compressed':>12}{'calls':>8}   shapes")
    for gathered in (False, True):
        net = lenet(gathered)
        done = cut(net)
        shapes = ", ".join(" x ".join(map(str, layer.after)) for layer in done.layers.values())
        times = micros(net, x), micros(done.network, x), micros(floor, x[:, :1])
        print(f"{'gathered' if gathered else 'at random':<16}{times[0]:9.1f}{times[1]:12.1f}{times[2]:8.1f}   {shapes}")
    print(f"\n{'layer':<16}{'dense':>9}" + "".join(f"{f'{share:.1%} kept':>12}" for share in SHARES))
    for outputs, inputs in LAYERS:
        dense, row = nn.Linear(inputs, outputs), torch.rand(1, inputs)
        thin = [dense.weight.detach() * (torch.rand(outputs, inputs) < share) for share in SHARES]
        sparse = [micros(SparseLinear(weight, dense.bias), row) for weight in thin]
        print(f"{f'{outputs} x {inputs}':<16}{micros(dense, row):9.1f}" + "".join(f"{t:12.1f}" for t in sparse))


if __name__ == "__main__":
    main()
