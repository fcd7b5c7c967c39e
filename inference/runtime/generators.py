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
    module = device_module()
    devices = range(module.device_count()) if module else []
    with torch.random.fork_rng(devices, device_type=_kind() or "cuda"):
        seed_torch(seed)
        yield


def seed_torch(seed: int) -> None:
    """Starts torch's generators (CPU and accelerator) from `seed`.

    `torch.manual_seed` does so too, and formats the stack for each accelerator that is not in use: a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if (module := device_module()) is not None:
        module.manual_seed_all(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restores the generators of torch, NumPy and Python afterwards, whatever is drawn inside."""
    before = generator_states()
    try:
        yield
    finally:
        set_generator_states(before)


def generator_states() -> dict[str, Any]:
    """The states of the generators of torch (CPU and accelerator), NumPy and Python."""
    return {"cpu": get_rng_state(), "accelerator": torch_states()[1:]}


def torch_states() -> list[torch.Tensor]:
    """The states of torch's generators: the CPU's, then the accelerator's."""
    module = device_module()
    return [torch.get_rng_state(), *([module.get_rng_state(i) for i in range(module.device_count())] if module else [])]


def set_torch_states(states: list[torch.Tensor]) -> None:
    """Puts torch's generators into the states that `torch_states` returned."""
    torch.set_rng_state(states[0])
    set_accelerator_states(states[1:])


def set_generator_states(state: dict[str, Any]) -> None:
    """Puts all generators into the states that `generator_states` returned."""
    set_rng_state(state["cpu"])
    set_accelerator_states(state["accelerator"])


def set_accelerator_states(states: list[torch.Tensor]) -> None:
    """Puts the accelerator's generators into these states, one a device."""
    module = device_module()
    for i, one in enumerate(states):
        module.set_rng_state(one, i)


def device_module() -> Any:
    """torch's module of the accelerator (torch.cuda) once a tensor was made there; None before, and without one."""
    module = torch.get_device_module(_kind()) if _kind() else None
    return module if module is not None and module.is_initialized() else None


def _kind() -> str | None:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if found is None else found.type
