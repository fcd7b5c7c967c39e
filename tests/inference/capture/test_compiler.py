"""The cache of compiled steps: where libraries are kept, and what names them. `test_native` compiles one."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from credo.inference.capture import compiler
from credo.inference.capture.aot import MARK, CompileJob, seal
from credo.inference.capture.cache import UNSAFE, UnsafeFolder

JOB = CompileJob("code", [0], None, {}, [], "Adam", {"eps": 1e-8}, 1, torch.float32)


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """Copies of the compiler's sources, in use."""
    copies = tuple(Path(shutil.copy(source, tmp_path)) for source in compiler._SOURCES)
    monkeypatch.setattr(compiler, "_SOURCES", copies)
    return compiler._SOURCES


def test_the_sources_are_the_program_what_it_loads_and_the_loop():
    """All that a library is compiled from: the program imports nothing of credo."""
    *programs, loop = compiler._SOURCES
    names = [path.name for path in compiler._SOURCES]
    assert names == ["aot.py", "rules.py", "build.py", "plain_graph.py", "loop.cpp"] and loop.is_file()
    modules = set()
    for node in [node for path in programs for node in ast.walk(ast.parse(path.read_text()))]:
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(node.module.split(".")[0])
    assert {"torch", "hashlib"} <= modules <= {"torch", *sys.stdlib_module_names}


@pytest.mark.parametrize("name", ["aot.py", "build.py", "plain_graph.py", "loop.cpp"])
def test_another_source_is_another_library(sources, name):
    before = compiler.library_folder(JOB)
    assert before == compiler.library_folder(JOB)
    (source,) = (source for source in sources if source.name == name)
    source.write_text(source.read_text() + "\n")
    assert before != compiler.library_folder(JOB)


def test_another_job_is_another_library():
    others = [
        JOB._replace(code="other"),
        JOB._replace(settings={"eps": 1e-7}),
        JOB._replace(threads=2),
        JOB._replace(dtype=torch.float64),
    ]
    assert len({compiler.library_folder(job) for job in (JOB, *others)}) == 1 + len(others)


PARENT = """
import os, subprocess, sys
folder, program = sys.argv[1:]
command = [sys.executable, "-P", program, folder, folder + "-target", str(os.getpid())]
child = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""


def is_running(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (OSError, IndexError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux")
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGHUP])
def test_no_compiler_is_left_when_its_process_is_killed_or_its_terminal_closed(tmp_path, blow):
    """The job is a pipe that nobody writes to: the compiler works on and on."""
    folder = tmp_path / "making.test"
    folder.mkdir()
    os.mkfifo(folder / "job")
    command = [sys.executable, "-c", PARENT, str(folder), str(compiler._SOURCES[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        compiling = int(parent.stdout.readline())
        assert is_running(compiling)
        os.killpg(parent.pid, blow)
    end = time.monotonic() + 120
    while is_running(compiling) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_running(compiling) and not folder.exists()


def started(monkeypatch, tmp_path, folder=None):
    """What `begin_compiling` says with this cache folder, where the compiler would only sleep."""
    monkeypatch.setenv("CREDO_CACHE", str(folder or tmp_path / "cache"))
    monkeypatch.setattr(compiler, "has_compiler", lambda: True)
    monkeypatch.setattr(compiler, "_running", [])
    monkeypatch.setattr(compiler, "_SOURCES", (tmp_path / "sleep.py", *compiler._SOURCES[1:]))
    (tmp_path / "sleep.py").write_text("import time\ntime.sleep(60)\n")
    return compiler.begin_compiling(JOB)


def test_a_compiler_that_is_stopped_leaves_nothing(monkeypatch, tmp_path):
    compiling = started(monkeypatch, tmp_path)
    assert compiling.folder.parent == tmp_path / "cache" and (compiling.folder / MARK).exists()
    assert compiler.begin_compiling(JOB) is compiling and compiler.begin_compiling(JOB._replace(code="other")) is None
    compiler._stop(os.getpid() + 1)  # at the exit of a fork
    assert compiling.process.poll() is None
    compiler._stop(os.getpid())
    assert compiling.process.returncode and not compiling.folder.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of files")
def test_a_folder_that_others_can_write_is_not_used_and_the_reason_is_said(monkeypatch, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    said = started(monkeypatch, tmp_path, tmp_path / "open")
    assert said.startswith(UNSAFE) and "can be written by others (mode 777)" in said
    assert list((tmp_path / "open").iterdir()) == []


def test_a_full_disk_is_said_and_leaves_no_folder(monkeypatch, tmp_path):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiler.subprocess, "Popen", full)
    said = started(monkeypatch, tmp_path)
    assert "cannot be written" in said and "No space left" in said
    assert not list((tmp_path / "cache").glob("making.*"))


def test_a_library_in_an_unsafe_folder_is_not_opened(monkeypatch, tmp_path):
    monkeypatch.setenv("CREDO_CACHE", str(tmp_path))
    folder = compiler.library_folder(JOB)
    assert compiler.open_library(JOB) is None  # none there
    folder.mkdir()
    (folder / "step.so").write_bytes(b"machine code")
    seal(folder / "step.so")
    assert compiler.open_library(JOB) is None  # no library at all
    if hasattr(os, "getuid"):
        folder.chmod(0o757)
        with pytest.raises(UnsafeFolder, match="can be written by others"):
            compiler.open_library(JOB)
