"""Saves and restores the random generators of torch, NumPy and Python."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.util import get_rng_state, set_rng_state

LARGEST_SEED = 2**32 - 1  # of NumPy's generator


def refuse_no_seed(seed: Any) -> None:
    """Raises ValueError for what cannot be the seed of all generators."""
    if not hasattr(seed, "__index__") or (hasattr(seed, "shape") and seed.shape) or not 0 <= int(seed) <= LARGEST_SEED:
        raise ValueError(f"seed: got {seed!r}, wanted a whole number from 0 to {LARGEST_SEED}")


@contextmanager
def noise(seed: int) -> Iterator[None]:
    """Starts torch's generators from `seed` inside and restores them outside: common random numbers."""
    refuse_no_seed(seed)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restores the generators of torch, NumPy and Python afterwards, whatever is drawn inside."""
    before = generator_states()
    try:
        yield
    finally:
        set_generator_states(before)


def generator_states() -> dict[str, Any]:
    """The states of the generators of torch (CPU and CUDA), NumPy and Python."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return {"cpu": get_rng_state(), "cuda": cuda}


def set_generator_states(state: dict[str, Any]) -> None:
    """Puts all generators into the states that `generator_states` returned."""
    set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state_all(state["cuda"])
