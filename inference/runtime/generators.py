"""The random generators of torch, NumPy and Python, put back as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.util import get_rng_state, set_rng_state


@contextmanager
def noise(seed: int) -> Iterator[None]:
    """The torch generators start from `seed` inside and are as they were outside: common random numbers."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def generators_kept() -> Iterator[None]:
    """All generators, Python's and NumPy's too, are afterwards as they were: what is run inside leaves no trace."""
    before = generator_states()
    try:
        yield
    finally:
        set_generator_states(before)


def generator_states() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return {"cpu": get_rng_state(), "cuda": cuda}


def set_generator_states(state: dict[str, Any]) -> None:
    set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state_all(state["cuda"])
