"""One file on disk: whole or not there, and what is wrong with it said with its path."""

import json
import os
import random
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from credo.inference.storage import container
from credo.inference.storage.container import read, write

DESCRIBED = {"losses": [1.0, 2.5], "text": "ü", "deep": {"a": [None, True]}}


def tensors():
    return {
        "loc": torch.arange(6.0).reshape(2, 3) / 7,
        "empty": torch.empty(0),
        "codes": torch.tensor([1, -2]),
        "one": torch.ones(1, 2)[:, :1],
    }


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "fit.credo", "fit", DESCRIBED, tensors())
    return tmp_path / "fit.credo"


def test_what_is_written_is_read(path):
    described, found = read(path, "fit")
    assert described == DESCRIBED
    assert found.keys() == tensors().keys() and all(torch.equal(found[k], v) for k, v in tensors().items())


def test_another_program_that_reads_safetensors_opens_it(path):
    assert torch.equal(load_file(path)["loc"], tensors()["loc"])


def test_a_file_is_replaced_in_one_moment_and_nothing_is_left_beside_it(path, monkeypatch):
    write(path, "fit", {"new": 1}, {})
    assert read(path, "fit") == ({"new": 1}, {})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match=r"fit\.credo: the file cannot be written: No space left"):
        write(path, "fit", {"newer": 1}, {})
    assert read(path, "fit") == ({"new": 1}, {}) and os.listdir(path.parent) == [path.name]


def test_what_a_killed_process_left_is_deleted_after_an_hour(path):
    old, young = (path.with_name(f".fit.credo.{name}.part") for name in ("old", "young"))
    for part in (old, young):
        part.write_text("half")
    os.utime(old, (time.time() - 2 * container.LEFT_OVER,) * 2)
    write(path, "fit", {}, {})
    assert young.exists() and not old.exists()


def test_nothing_else_is_written_beside_a_file(path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(os.listdir(path.parent)))
    write(path, "fit", {}, tensors())
    ((one, other),) = seen  # a process that is killed now leaves the file of before, and a part that is cleaned
    assert path.name in (one, other) and {one, other} - {path.name} <= {p for p in (one, other) if p.endswith(".part")}


def test_others_may_read_a_file_as_far_as_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "fit", "fit", {}, tensors())
        assert (tmp_path / "fit").stat().st_mode & 0o777 == 0o640
        (tmp_path / "fit").chmod(0o604)
        write(tmp_path / "fit", "fit", {}, tensors())
        assert (tmp_path / "fit").stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(before)


def test_links_and_home_are_followed(path, tmp_path, monkeypatch):
    link = tmp_path / "latest"
    link.symlink_to(path)
    write(link, "fit", {"new": 1}, {})
    assert link.is_symlink() and read(path, "fit")[0] == {"new": 1}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("~/fit.credo", "fit")[0] == {"new": 1}


@pytest.mark.parametrize("wrong", [3, None, "", True])
def test_what_is_no_path_is_said(wrong, path):
    for call in (lambda: write(wrong, "fit", {}, {}), lambda: read(wrong, "fit")):
        with pytest.raises(ValueError, match=r"path: got .*, wanted the path of a file"):
            call()
    assert read(str(path).encode(), "fit")[0] == DESCRIBED


def test_a_place_where_no_file_can_be_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none; make it first"):
        write(tmp_path / "none" / "fit", "fit", {}, {})
    with pytest.raises(IsADirectoryError, match="this is a folder"):
        write(tmp_path, "fit", {}, {})
    with pytest.raises(ValueError, match="this is a folder, wanted a file"):
        read(tmp_path, "fit")
    with pytest.raises(FileNotFoundError, match="missing: there is no such file"):
        read(tmp_path / "missing", "fit")


def test_another_kind_or_program_or_version_is_named(path):
    with pytest.raises(ValueError, match=r"fit\.credo: this file holds a fit, wanted a checkpoint"):
        read(path, "checkpoint")
    save_file(tensors(), path)
    with pytest.raises(ValueError, match=r"fit\.credo: a safetensors file that credo did not write"):
        read(path, "fit")
    save_file(tensors(), path, {"credo": "7"})
    with pytest.raises(ValueError, match=r"fit\.credo: a newer credo wrote this file, in format 7.*upgrade credo"):
        read(path, "fit")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"\xff" * 100, b"{}" * 1000, bytes(8)])
def test_a_foreign_file_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"fit\.credo: the file is damaged, or none that credo wrote"):
        read(path, "fit")


def mutated(content: bytes, seed: int) -> bytes:
    """The content of a file with one thing changed."""
    draw, changed = random.Random(seed), bytearray(content)
    place = draw.randrange(len(content))
    kind = seed % 7
    if kind == 0:
        changed[place] ^= 1 << draw.randrange(8)
    elif kind == 1:
        return content[:place]
    elif kind == 2:
        changed[:8] = draw.choice([0, 1, 2**24, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little")
    elif kind == 3:
        return content + bytes(draw.randrange(1, 100))
    elif kind == 4:
        changed[place : place + draw.randrange(1, 50)] = b""
    elif kind == 5:  # a digit of the header, where shapes, offsets and numbers stand
        digits = [i for i, c in enumerate(content) if chr(c).isdigit() and 8 < i < 1000]
        changed[draw.choice(digits)] = draw.choice(b"0123456789-[")
    else:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        name = draw.choice(sorted(header))
        edit = draw.choice(["drop", "shape", "dtype", "offsets"])
        if edit == "drop" or name == "__metadata__":
            header.pop(name)
        else:
            key, value = {
                "shape": ("shape", draw.choice([[2**62, 2**62], [-1], [0], "x", [10**12]])),
                "dtype": ("dtype", draw.choice(["F64", "Q", 3, None, "C64"])),
                "offsets": ("data_offsets", draw.choice([[0, 2**63], [8, 0], [], None, [0, 0]])),
            }[edit]
            header[name][key] = value
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + int.from_bytes(content[:8], "little") :]
    return bytes(changed)


def survives(path, content, wrong):
    """Whether a changed file is read as it was or refused by a ValueError that names it."""
    path.write_bytes(wrong)
    try:
        described, found = read(path, "fit")
    except ValueError as error:
        return str(path) in str(error)
    return described == DESCRIBED and all(torch.equal(found[k], v) for k, v in tensors().items())


def test_a_changed_file_is_refused_or_read_as_it_was(path):
    content = path.read_bytes()
    assert [seed for seed in range(210) if not survives(path, content, mutated(content, seed))] == []


@pytest.mark.slow
def test_each_flipped_bit_is_refused_or_means_nothing(path):
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            assert survives(path, content, bytes(changed)), (place, bit)
