"""Builds the pretend accelerator and registers it: afterwards device="pretend" stands wherever "cuda" would.

A process has one such device, and its name is global: use it in a process of its own.
"""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torchgen

NAME = "pretend"
SOURCE = Path(__file__).with_name("pretend.cpp")
OPERATORS = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"


def build(folder: Path) -> Path:
    """Compiles the device with g++, in about 12 s. Returns the library. Raises CalledProcessError with its messages."""
    root, library = Path(torch.__file__).parent, folder / "libpretend.so"
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", abi, f"-I{root}/include"]
    linked = [f"-L{root}/lib", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{root}/lib"]
    subprocess.run(["g++", *flags, str(SOURCE), "-o", str(library), *linked], check=True, capture_output=True)
    return library


def register(library: Path) -> Any:
    """Makes the library this process's accelerator. Returns `torch.pretend`."""
    torch.utils.rename_privateuse1_backend(NAME)
    torch.ops.load_library(library)
    module = _Module()
    torch._register_device_module(NAME, module)
    sys.modules[f"torch.{NAME}"] = module  # type: ignore[assignment]
    torch.utils.generate_methods_for_privateuse1_backend()
    torch.ops.pretend_device.lenient(_lenient())
    return module


def _lenient() -> list[str]:
    """The operators that take a scalar of the CPU beside tensors of a device, as torch's own list of operators says."""
    entries = re.split(r"^- func: ", OPERATORS.read_text(), flags=re.M)[1:]
    return [f"aten::{e[: e.index('(')]}" for e in entries if re.search(r"^\s+device_check: NoCheck", e, re.M)]


class _Graph:
    """Under `torch.pretend.graph(g)` calls are noted and undone; what waits for the device is refused."""

    id: int

    def replay(self) -> None:
        torch.ops.pretend_device.replay(self.id)


class _Stream:
    def wait_stream(self, other: "_Stream") -> None:
        pass


class _Module:
    """What torch asks of `torch.<device>`."""

    __name__ = f"torch.{NAME}"
    CUDAGraph = _Graph
    Stream = _Stream
    separate = False  # whether the device draws from a generator of its own, as CUDA does, or from the CPU's

    class device(contextlib.nullcontext):  # type: ignore[type-arg]
        def __init__(self, device: Any = None) -> None:
            super().__init__()

    is_available = is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    set_device = synchronize = staticmethod(lambda device=None: None)
    _is_in_bad_fork = staticmethod(lambda: False)
    _lazy_init = staticmethod(lambda: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.float16, torch.bfloat16])
    current_stream = staticmethod(lambda device=None: _Stream())
    stream = staticmethod(lambda stream: contextlib.nullcontext())

    def own_generator(self, on: bool) -> None:
        """Draws on the device come from a generator of its own, as on CUDA; else from the CPU's, with its numbers."""
        self.separate = on
        torch.ops.pretend_device.separate(on)

    @contextlib.contextmanager
    def memory_for(self, numbers: int) -> Iterator[None]:
        """Tensors of more numbers in single precision are out of memory inside."""
        torch.ops.pretend_device.limit(4 * numbers)
        try:
            yield
        finally:
            torch.ops.pretend_device.limit(-1)

    def manual_seed_all(self, seed: int) -> None:
        torch.ops.pretend_device.seed(seed)

    manual_seed = manual_seed_all

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.ops.pretend_device.state() if self.separate else torch.default_generator.get_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        (torch.ops.pretend_device.set_state if self.separate else torch.default_generator.set_state)(state)

    @contextlib.contextmanager
    def graph(self, graph: _Graph) -> Iterator[None]:
        generator = self.get_rng_state()
        graph.id = torch.ops.pretend_device.begin()
        try:
            yield
        finally:
            torch.ops.pretend_device.end()
            self.set_rng_state(generator)
