"""One file on disk: a safetensors file whose metadata holds a description in JSON, and a checksum of both.

The file is complete or it is not there: it is written beside its place under another name, and then renamed. Every
program that reads safetensors can open it. It holds no program, unlike a pickle, so that it is safe to read.
Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from .one_moment import write_at_once
from .values import flat_bytes

FORMAT = 1  # raised when files are written that older readers misread
LEFT_OVER = 3600  # seconds after which a file that a killed process was writing is deleted
Described = dict[str, Any]


def write(path: str | os.PathLike[str], kind: str, described: Described, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a description (of JSON alone) and tensors to a file, which replaces one that is there in one moment.

    kind: what the file holds, "fit" say; `read` wants the same.
    Raises OSError, which names the path, where the file cannot be written; one that was there before is then unchanged.
    """
    final = _place(path)
    if final.is_dir():
        raise IsADirectoryError(f"{path}: this is a folder, wanted the name of a file in it, {final / 'fit.credo'} say")
    if not final.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {final.parent}; make it first, or pass another path")
    text = json.dumps(described, allow_nan=False)
    metadata = {"credo": str(FORMAT), "kind": kind, "described": text, "sha256": _checksum(kind, text, tensors)}
    try:  # save_file has temporary files of its own, which a kill would leave
        write_at_once(final, to_bytes(dict(tensors), metadata))
    except (OSError, SafetensorError) as error:
        raise OSError(f"{path}: the file cannot be written: {error}") from error
    _clean(final)


def read(path: str | os.PathLike[str], kind: str | tuple[str, ...]) -> tuple[Described, dict[str, torch.Tensor]]:
    """(the description, the tensors) of a file that `write` wrote. kind: what it has to hold, or one of these.

    Raises FileNotFoundError where there is no file, and ValueError, which names the path and the remedy, for a file
    that is damaged, holds something else, is of a newer credo, or was not written by credo.
    """
    place = _place(path)
    if not place.is_file():
        what = "this is a folder, wanted a file" if place.is_dir() else "there is no such file"
        raise (ValueError if place.exists() else FileNotFoundError)(f"{path}: {what}")
    metadata, tensors = _opened(path, place)
    if "credo" not in metadata:
        raise ValueError(f"{path}: a safetensors file that credo did not write; wanted one that .save(path) wrote")
    if metadata["credo"] != str(FORMAT):
        raise ValueError(
            f"{path}: a newer credo wrote this file, in format {metadata['credo'][:20]}; this credo reads format "
            f"{FORMAT}: upgrade credo"
        )
    found, text = metadata.get("kind", ""), metadata.get("described", "")
    if metadata.get("sha256") != _checksum(found, text, tensors):
        raise ValueError(f"{path}: the file is damaged: its checksum differs from that of its content; {AGAIN}")
    if found not in (kinds := (kind,) if isinstance(kind, str) else kind):
        raise ValueError(f"{path}: this file holds a {found[:20]}, wanted a {' or a '.join(kinds)}")
    return json.loads(text), tensors


AGAIN = "take another copy of it, or save it again"


def _opened(path: str | os.PathLike[str], place: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """(the metadata, the tensors) of a safetensors file; the tensors share no memory with the file."""
    try:
        with safe_open(place, "pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name).clone() for name in file.keys()}
    except PermissionError:
        raise
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path}: the file is damaged, or none that credo wrote ({error}); wanted a file that .save(path) wrote: "
            f"{AGAIN}"
        ) from error


def _checksum(kind: str, text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of what a file holds, whatever the order of its tensors."""
    found = hashlib.sha256(json.dumps([kind, text]).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(flat_bytes(tensor))
    return found.hexdigest()


def _place(path: str | os.PathLike[str]) -> Path:
    """The path of the file itself, behind ~ and links."""
    if not isinstance(path, str | bytes | os.PathLike) or not os.fspath(path):
        raise ValueError(f"path: got {path!r}, wanted the path of a file, 'fit.credo' say")
    return Path(os.path.realpath(Path(os.fsdecode(path)).expanduser()))


def _clean(final: Path) -> None:
    """Deletes files beside this one that a process was writing in its place when it was killed."""
    for part in final.parent.glob(f".{escape(final.name)}.*.part"):
        try:
            if time.time() - part.stat().st_mtime > LEFT_OVER:
                part.unlink()
        except OSError:  # another process deleted it
            continue
