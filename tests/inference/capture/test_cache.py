"""Which libraries are opened, which folders are deleted, and which folders are not touched."""

import os
import time

import pytest

from credo.inference.capture import cache
from credo.inference.capture.aot import MARK, is_sealed, put_in_place, seal
from credo.inference.capture.cache import (
    KEPT,
    UnsafeFolder,
    cache_folder,
    cleared,
    is_sound,
    kept,
    made_safe,
    refuse_unsafe,
    tidy,
)

posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of files")


def test_where_libraries_are_kept(monkeypatch):
    monkeypatch.setenv("CREDO_CACHE", "/somewhere")
    assert str(cache_folder()) == "/somewhere"
    monkeypatch.delenv("CREDO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert str(cache_folder()) == "/elsewhere/credo"


def test_without_a_home_the_remedy_is_said(monkeypatch):
    monkeypatch.delenv("CREDO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache.Path, "home", homeless)
    with pytest.raises(OSError, match=r"home directory.*set CREDO_CACHE"):
        cache_folder()


def folder_of(parent, name, mark=True, age=0.0):
    folder = parent / name
    folder.mkdir()
    (folder / "file").write_text("of somebody")
    if mark:
        (folder / MARK).touch()
    then = time.time() - age
    os.utime(folder, (then, then))
    return folder


def test_only_folders_of_credos_own_making_are_deleted(tmp_path):
    days = 10 * cache.DAY
    foreign = [
        folder_of(tmp_path, name, mark=False, age=days)
        for name in ("my-thesis", "2.13.0-abc", "making.music", "conda-envs", "inductor-of-others")
    ]
    elsewhere = folder_of(tmp_path.parent, f"{tmp_path.name}-elsewhere", age=days)
    link = tmp_path / "2.13.0-link"
    link.symlink_to(elsewhere)
    left, fresh = folder_of(tmp_path, "making.left", age=days), folder_of(tmp_path, "making.now")
    libraries = [folder_of(tmp_path, f"2.13.0-{i:03d}", age=1000 - i) for i in range(KEPT + 3)]
    of_torch = folder_of(tmp_path, "inductor", age=days)
    step, headers = folder_of(of_torch, "c" * 52, False, days), folder_of(of_torch, "torchinductor_me", False, days)
    tidy(tmp_path)
    assert all((folder / "file").exists() for folder in (*foreign, elsewhere, fresh, of_torch, headers))
    assert link.is_symlink() and not left.exists() and not step.exists()
    assert [folder.exists() for folder in libraries] == [False] * 3 + [True] * KEPT


def library_in(folder):
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "step.so").write_bytes(b"machine code")
    seal(folder / "step.so")
    return folder / "step.so"


def test_a_library_that_is_whole_is_sound(tmp_path):
    assert is_sound(library_in(tmp_path / "cache"))
    assert not is_sound(tmp_path / "missing.so")


@pytest.mark.parametrize("harm", ["cut", "altered", "manifest cut", "manifest gone", "manifest of bytes", "linked"])
def test_a_library_that_is_not_whole_is_not_sound(tmp_path, harm):
    library = library_in(tmp_path / "cache")
    manifest = library.with_name("step.so.sha256")
    if harm == "cut":
        library.write_bytes(library.read_bytes()[:4])
    elif harm == "altered":
        library.write_bytes(b"machine cods")
    elif harm == "manifest cut":
        manifest.write_text(manifest.read_text()[:10])
    elif harm == "manifest of bytes":
        manifest.write_bytes(b"\xff\xfe")
    elif harm == "linked":
        library.rename(tmp_path / "other.so")
        library.symlink_to(tmp_path / "other.so")
    else:
        manifest.unlink()
    assert not is_sound(library)


@posix
@pytest.mark.parametrize("which", ["library", "manifest", "folder", "parent"])
@pytest.mark.parametrize("mode", [0o002, 0o022])
def test_what_others_can_write_is_refused(tmp_path, which, mode):
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o755)
    library = library_in(parent / "cache")
    paths = {"library": library, "manifest": library.with_name("step.so.sha256"), "folder": library.parent}
    path = {**paths, "parent": parent}[which]
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(UnsafeFolder, match=f"not safe.*{path.name} can be written by others.*set CREDO_CACHE"):
        is_sound(library)
    path.chmod(path.stat().st_mode & ~0o022)
    assert is_sound(library)


@posix
def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    library = library_in(tmp_path / "cache")
    monkeypatch.setattr(cache.os, "getuid", lambda: library.stat().st_uid + 1)
    if library.stat().st_uid:  # what root owns is safe
        with pytest.raises(UnsafeFolder, match="belongs to another user"):
            is_sound(library)
    else:
        assert is_sound(library)
        os.chown(library, 12345, 12345)
        with pytest.raises(UnsafeFolder, match=r"step\.so belongs to another user"):
            is_sound(library)


@posix
def test_parents_may_be_sticky_and_the_folder_may_not(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    made_safe(tmp_path / "tmp" / "mine")
    assert (tmp_path / "tmp" / "mine").stat().st_mode & 0o777 == 0o700
    with pytest.raises(UnsafeFolder):
        refuse_unsafe(tmp_path / "tmp")


@posix
def test_a_link_to_a_folder_that_others_can_write_is_refused(tmp_path):
    made_safe(tmp_path / "open")
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    with pytest.raises(UnsafeFolder, match="open can be written"):
        made_safe(tmp_path / "link")
    (tmp_path / "open").chmod(0o755)
    made_safe(tmp_path / "link")


@posix
@pytest.mark.parametrize(("own", "safe"), [(True, True), (False, False)])
def test_the_group_of_the_user_alone_may_write(tmp_path, monkeypatch, own, safe):
    """A umask of 002, as on systems where each user has a group of the same number."""
    found = tmp_path.stat()
    state = os.stat_result((0o40775, 0, 0, 1, 1000, 1000 if own else 100, 0, 0, 0, 0))
    monkeypatch.setattr(cache.os, "getuid", lambda: 1000)
    monkeypatch.setattr(cache.os, "getgid", lambda: 1000)
    assert cache._others_may_write(state) is not safe and found


def test_a_finished_folder_gets_its_name_and_an_earlier_one_stays(tmp_path):
    for name in ("one", "two", "target"):
        library_in(tmp_path / name)
    (tmp_path / "target" / "step.so").write_bytes(b"cut")  # refused
    put_in_place(tmp_path / "one", tmp_path / "target")
    assert is_sealed(tmp_path / "target" / "step.so") and not (tmp_path / "one").exists()
    (tmp_path / "target" / "first").touch()
    put_in_place(tmp_path / "two", tmp_path / "target")
    assert (tmp_path / "target" / "first").exists() and not (tmp_path / "two").exists()


def test_a_folder_is_cleared_of_what_credo_made_and_of_nothing_else(tmp_path):
    assert kept(tmp_path / "nowhere") == cleared(tmp_path / "nowhere") == (0, 0)
    ours = [folder_of(tmp_path, name) for name in ("2.13.0-a", "2.13.0-b", "making.now", "inductor")]
    foreign = folder_of(tmp_path, "my-thesis", mark=False)
    size = 4 * len("of somebody")
    assert kept(tmp_path) == cleared(tmp_path) == (2, size)
    assert not any(folder.exists() for folder in ours) and (foreign / "file").exists()
    assert kept(tmp_path) == (0, 0)
