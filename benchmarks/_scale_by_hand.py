"""The loop by hand that scale.py compares with: windows of rows in torch, and one compiled step on batches of them.

The same as credo's: mean field for b, -ELBO = N/B sum_batch -log p(y_n | b) + KL(q | p) at one draw of b, Adam;
chunks of the file at random, shuffled inside a window, which a thread reads ahead. Since a window is shuffled, its
batches are slices of it: gathering rows at random from 128 MiB costs three times as much as the step (570 against 150
microseconds of CPU for 1,000 rows).
"""

import functools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import torch
from _scale_data import D
from _speed_torch import _adam, _compile

CHUNK, WINDOW = 2**20, 2**27  # bytes


def hand(x: np.memmap, y: np.memmap, batch: int, lr: float) -> Callable[[int], torch.Tensor]:
    """steps(n): takes n steps and returns the last -ELBO, in nats."""
    leaves = [torch.zeros(D), torch.full((D,), -2.0)]  # mean and log sd
    first, second = ([torch.zeros(D), torch.zeros(D)] for _ in range(2))
    powers = [torch.ones(()), torch.ones(())]
    step = _compile(functools.partial(_adam, functools.partial(_loss, len(x)), lr), {"cpp_wrapper": True})
    batches = _batches(x, y, batch)

    def steps(n: int) -> torch.Tensor:
        value = torch.zeros(())
        with torch.no_grad():
            for _ in range(n):
                value = step(leaves, first, second, powers, next(batches))
        return value

    return steps


def _loss(rows: int, leaves: list[torch.Tensor], data: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_sd = leaves
    x, y = data
    logits = x @ (mean + log_sd.exp() * torch.randn_like(mean))
    fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
    kl = 0.5 * (mean**2 + (2 * log_sd).exp() - 1 - 2 * log_sd).sum()
    value = rows / len(y) * fit + kl
    return value, value


def _batches(x: np.memmap, y: np.memmap, batch: int) -> Iterator[tuple[torch.Tensor, ...]]:
    for xs, ys in _windows(x, y, batch):
        yield from zip(xs.split(batch), ys.split(batch), strict=True)


def _windows(x: np.memmap, y: np.memmap, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Windows of WINDOW bytes; a thread reads the next one meanwhile."""
    rows = CHUNK // (4 * (D + 1))
    most = WINDOW // (4 * (D + 1))
    windows = -(-len(x) // most)
    per_window = max(1, min(len(x) // windows, most) // rows)
    size = per_window * rows // batch * batch

    def read(chunks: np.ndarray, into: list[torch.Tensor]) -> None:
        found = [(torch.from_numpy(x[k : k + rows].copy()), torch.from_numpy(y[k : k + rows].copy())) for k in chunks]
        places = torch.randperm(per_window * rows)
        xs, ys = torch.empty(per_window * rows, D), torch.empty(per_window * rows)
        at = 0
        for part, classes in found:
            where = places[at : at + len(part)]
            xs[where], ys[where] = part, classes
            at += len(part)
        into += [xs[:size], ys[:size]]

    random = np.random.default_rng(0)
    pending: tuple[threading.Thread, list[torch.Tensor]] | None = None
    while True:
        starts = random.permutation(len(x) // rows) * rows
        for k in range(0, len(starts) - per_window + 1, per_window):
            into: list[torch.Tensor] = []
            thread = threading.Thread(target=read, args=(starts[k : k + per_window], into))
            thread.start()
            if pending is not None:
                pending[0].join()
                yield pending[1][0], pending[1][1]
            pending = thread, into
