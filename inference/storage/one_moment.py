"""A file that is written in one moment: who reads it, or kills its writer, finds the whole file, or that of before."""

import os
import stat
import uuid
from pathlib import Path


def write_at_once(final: Path, content: bytes, *, anew: bool = False) -> None:
    """Writes a file, which replaces one that is there, and keeps its permissions, in one moment.

    anew: leaves a file that is there meanwhile. Raises OSError; a file that was there before is then unchanged.
    """
    part = final.with_name(f".{final.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if final.exists():
            part.chmod(stat.S_IMODE(final.stat().st_mode))
        if not (anew and _linked(part, final)):
            os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)


def _linked(part: Path, final: Path) -> bool:
    """Whether the file is there under its name, by a link, which never replaces another one."""
    try:
        os.link(part, final)
    except FileExistsError:
        pass
    except OSError:  # a disk without links
        return False
    return True
