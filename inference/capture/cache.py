"""The folder of compiled steps: which folders and files in it are safe to use, and which old ones are deleted.

A library is machine code that runs as the user. It is opened only from a folder that nobody else can write to, and
only if its checksum is the one in the manifest beside it. Folders of credo's own making carry a mark; all others in the
same place are left alone.
"""

import os
import shutil
import stat
import time
from pathlib import Path

from .aot import MARK, is_sealed

KEPT = 200  # libraries on disk
MAKING, OF_TORCH = "making.", "inductor"  # the beginning of a name while a compiler works in it; torch's compiler's
DAY = 86_400  # seconds after which a folder that a killed compiler left behind is deleted
UNSAFE = "the folder for compiled steps is not safe, so it is not used"


class UnsafeFolder(OSError):
    """Somebody else may write to the folder of compiled steps, or owns it: who, where, and the remedy."""


def cache_folder() -> Path:
    """The folder of compiled steps: $CREDO_CACHE, or `credo` in the user's cache folder.

    Raises OSError if there is no home folder either.
    """
    given = os.environ.get("CREDO_CACHE")
    try:
        if given:
            return Path(given).expanduser().absolute()
        return (Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "credo").absolute()
    except RuntimeError as error:  # of pathlib, without a home
        raise OSError(f"{error}; set CREDO_CACHE to a folder of your own") from error


def made_safe(folder: Path) -> None:
    """Makes the folder for this user alone if it is not there. Raises UnsafeFolder, or OSError if it cannot be made."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    refuse_unsafe(folder)


def refuse_unsafe(path: Path) -> None:
    """Raises UnsafeFolder if anybody else may replace this file or folder, or one that it lies in.

    Each must belong to the user or to root, and be writable by nobody else. A parent with the sticky bit, such as
    /tmp, may be writable: what lies in it can only be replaced by its owner. A file that is missing is unsafe too.
    """
    if not hasattr(os, "getuid"):  # Windows has no such modes
        return
    user = os.getuid()
    for way in {path.absolute(), path.resolve()}:  # a link and what it leads to
        for place in (way, *way.parents):
            found = place.lstat()
            if found.st_uid not in (user, 0):
                raise _unsafe(f"{place} belongs to another user (uid {found.st_uid})")
            sticky = place != way and found.st_mode & stat.S_ISVTX
            if not stat.S_ISLNK(found.st_mode) and not sticky and _others_may_write(found):
                raise _unsafe(f"{place} can be written by others (mode {found.st_mode & 0o777:o})")


def is_sound(library: Path) -> bool:
    """Whether a library may be opened: complete, unaltered, and nobody else's. Raises UnsafeFolder."""
    manifest = library.with_name(f"{library.name}.sha256")
    if not library.is_file() or not manifest.is_file():
        return False
    for path in (library, manifest):
        refuse_unsafe(path)
    return not library.is_symlink() and is_sealed(library)


def tidy(folder: Path) -> None:
    """Keeps the newest libraries; deletes what compilers left in their own folders and in torch's over a day ago."""
    libraries: list[Path] = []
    left: list[Path] = []
    for path in filter(_is_ours, folder.iterdir()):
        if path.name == OF_TORCH:
            left += [inside for inside in path.iterdir() if len(inside.name) > 40]  # of one step, named by its hash
        else:
            (left if path.name.startswith(MAKING) else libraries).append(path)
    for path in [*sorted(libraries, key=_age)[KEPT:], *(path for path in left if _age(path) > DAY)]:
        shutil.rmtree(path, ignore_errors=True)


def kept(folder: Path) -> tuple[int, int]:
    """(how many compiled steps a folder holds, the size in bytes of all that credo made there)."""
    ours = list(filter(_is_ours, folder.iterdir())) if folder.is_dir() else []
    size = sum(file.lstat().st_size for path in ours for file in path.rglob("*"))
    return sum(path.name != OF_TORCH and not path.name.startswith(MAKING) for path in ours), size


def cleared(folder: Path) -> tuple[int, int]:
    """Deletes all that credo made in a folder; returns what was deleted, as `kept`. Other folders are left alone."""
    before, size = kept(folder)
    for path in filter(_is_ours, list(folder.iterdir()) if folder.is_dir() else []):
        shutil.rmtree(path, ignore_errors=True)
    after, left = kept(folder)
    return before - after, size - left


def _age(path: Path) -> float:
    """Seconds since anything was last written in a folder."""
    return time.time() - path.lstat().st_mtime


def _is_ours(path: Path) -> bool:
    """Whether a folder is of credo's own making; a link to one is not."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode) and stat.S_ISREG((path / MARK).lstat().st_mode)
    except OSError:
        return False


def _others_may_write(found: os.stat_result) -> bool:
    """Whether somebody else may write to what has this state: the world, or a group that is not the user's own."""
    own = found.st_uid == os.getuid() == found.st_gid == os.getgid()  # a user private group
    return bool(found.st_mode & (stat.S_IWOTH | (0 if own else stat.S_IWGRP)))


def _unsafe(why: str) -> UnsafeFolder:
    return UnsafeFolder(f"{UNSAFE}: {why}; set CREDO_CACHE to a folder that only you can write to")
