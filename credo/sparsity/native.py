"""Machine code for packed networks: packed.cpp, compiled once a process in about a second.

It is compiled into a folder of this process alone, which is deleted at once: nobody else can put a library there.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).with_name("packed.cpp")
FLAGS = ("-O3", "-fopenmp-simd", "-shared", "-fPIC", "-std=c++17")
PROCESSOR = ("-march=native", "-mcpu=native")  # compilers know one of these, by processor


def compiler() -> str | None:
    """The C++ compiler of this computer: $CXX, or g++, or clang++; None without one."""
    return next((c for c in (os.environ.get("CXX"), "g++", "clang++") if c and shutil.which(c)), None)


@functools.cache
def native() -> Callable[..., None] | None:
    """The function of packed.cpp; None where no C++ compiler is, or it fails. Networks then run through torch."""
    found = compiler()
    if found is None:
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            library = str(Path(folder, "packed.so"))
            for processor in PROCESSOR:
                command = [found, *FLAGS, processor, "-o", library, str(SOURCE)]
                if not subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode:
                    function = ctypes.CDLL(library).credo_packed
                    break
            else:
                return None
    except (OSError, AttributeError):  # as of CXX=gcc, a compiler for another processor, or a folder without programs
        return None
    function.restype = None
    function.argtypes = [ctypes.c_void_p] * 8
    return function
