"""The Bayesian last layer of classes: Newton's steps beside those of its blocks, and the softmax of normal logits.

    python benchmarks/last_layer.py

Prints passes through the rows, seconds and the bound that is reached, by Newton's steps of all classes together and by
one block a class; and seconds and the largest error of `expected_softmax` beside the mean of 10,000 draws. Minutes.
"""

import time
from unittest import mock

import torch

from credo.treatments import softmax_layer
from credo.treatments.normal_logits import expected_softmax


def layer(rows: int, size: int, sd: float) -> None:
    torch.manual_seed(0)
    a = torch.randn(rows, size, dtype=torch.float64)
    y = torch.distributions.Categorical(logits=a @ (sd * torch.randn(4, size, dtype=torch.float64)).mT).sample()
    given = a, y, torch.ones(size).double(), torch.zeros(4, size).double()
    found = {}
    for name, pairs in (("together", softmax_layer.PAIRS), ("blocks", 0)):
        compute, passes = softmax_layer._derivatives, []

        def counted(*args, compute=compute, passes=passes):
            passes.append(1)
            return compute(*args)

        counting = mock.patch.object(softmax_layer, "_derivatives", counted)
        begun = time.perf_counter()
        with mock.patch.object(softmax_layer, "PAIRS", pairs), counting:
            bound = softmax_layer.best_normal(*given).bound
        found[name] = seconds = time.perf_counter() - begun
        print(f"{rows:6} rows, {size:3} features, sd {sd:4}, {name:9}", end="")
        print(f"{len(passes):4} passes {seconds:7.1f} s {bound:10.2f} nats")
    print(f"{'':30}blocks / together {found['blocks'] / found['together']:.1f}")


def softmax(sd: float, rows: int = 500, classes: int = 10, draws: int = 10_000) -> None:
    torch.manual_seed(0)
    mean, variance = 3 * torch.randn(rows, classes), (sd * torch.rand(rows, classes)).square()
    begun = time.perf_counter()
    found = expected_softmax(mean, variance)
    middle = time.perf_counter()
    normals = zip(mean, variance.sqrt(), strict=True)
    drawn = torch.stack([(m + s * torch.randn(draws, classes)).softmax(-1).mean(0) for m, s in normals])
    ended = time.perf_counter()
    print(
        f"logits of sd up to {sd:5}: {middle - begun:6.2f} s, by {draws:,} draws {ended - middle:6.2f} s, ratio "
        f"{(ended - middle) / (middle - begun):4.1f}; they differ by {(found - drawn).abs().max():.4f} at most"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for rows, size, sd in ((400, 20, 0.3), (400, 20, 3.0), (2000, 20, 6.0), (2000, 100, 1.0)):
        layer(rows, size, sd)
    for sd in (1.0, 4.0, 16.0, 64.0):
        softmax(sd)
