"""A task of papers.py: one network under one treatment on one data set; and what its parts share."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn


class Task(NamedTuple):
    """name: PART/what/…, unique. run: a function at the top of a module, which another process can import.

    on: the kind of device on which it runs wherever it is, "CPU"; None: that of the process.
    """

    name: str
    run: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...] = ()
    on: str | None = None


def lenet5() -> nn.Sequential:
    """LeNet-5-Caffe, 430,500 weights. Its starting weights are those of torch's generator."""
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )
