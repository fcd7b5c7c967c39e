"""What every test starts from, and the question whether a call left the process as it found it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyro
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The tensors here are small: threads only wait for one another, and on a busy machine for minutes."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """An empty store of Pyro's, generators that depend on no other test, and the default dtype put back."""
    pyro.clear_param_store()
    pyro.set_rng_seed(20)
    yield
    pyro.clear_param_store()
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No compiler runs beside the tests, and none finds what a user's own runs have compiled; `test_native` does."""
    monkeypatch.setattr("credo.inference.capture.native.PATIENCE", float("inf"))
    monkeypatch.setenv("CREDO_CACHE", str(tmp_path_factory.getbasetemp() / "compiled"))


@pytest.fixture
def double() -> None:
    """Everything in double precision; `fresh` puts it back."""
    torch.set_default_dtype(torch.float64)


def surroundings() -> dict[str, object]:
    """Everything that Pyro, torch, NumPy and Python keep for the whole process and that a run may not touch."""
    kind, keys, *rest = np.random.get_state()
    store = pyro.get_param_store()
    return {
        "Pyro's parameters": {name: value.tolist() for name, value in store.items()},
        "Pyro's unconstrained tensors": {name: id(value) for name, value in store.named_parameters()},
        "Pyro's validation": pyro.settings.get(),
        "torch's validation": torch.distributions.Distribution._validate_args,
        "Pyro's handlers": list(pyro.poutine.runtime._PYRO_STACK),
        "torch's generator": torch.get_rng_state().tolist(),
        "NumPy's generator": (kind, keys.tolist(), *rest),
        "Python's generator": random.getstate(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
    }


@contextmanager
def unchanged() -> Iterator[None]:
    """Fails if the block, also one that raises, changes anything of `surroundings`."""
    pyro.param("loc", torch.tensor([3.0, 4.0]))  # so that clearing or reusing the store shows
    before = surroundings()
    try:
        yield
    finally:
        after = surroundings()
        assert [what for what in before if before[what] != after[what]] == []


@pytest.fixture(name="unchanged")
def _unchanged():
    return unchanged
