"""A command in every process of a job: all compute, and the first one prints and writes.

torchrun --nproc-per-node=4 -m credo fit NAME --data file.csv --out folder
"""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import click

# Seconds that a process waits before it says what is wrong: the first of its host most likely says the same, and
# torchrun ends the others then.
WAIT = 1.0
ALONE = ("demo", "cache", "list", "sweep", "gather")  # commands of one process


def rank() -> int:
    """The number of this process in its job, as the environment says; 0 outside of a job."""
    return _number("RANK") if _number("WORLD_SIZE") > 1 else 0


def is_first() -> bool:
    """Whether this process prints and writes for its job. True outside of a job."""
    return rank() == 0


def refuse_in_job(command: str | None) -> None:
    """Raises click.UsageError for a command that processes of a job cannot share."""
    if _number("WORLD_SIZE") > 1 and command in ALONE:
        raise click.UsageError(f"{command}: a command of one process; start it without torchrun")


@contextmanager
def one_voice() -> Iterator[None]:
    """Inside, processes other than the first print nothing but the error that ends them, with their number."""
    if is_first():
        yield
        return
    try:
        with redirect_stdout(io.StringIO()):
            yield
    except click.ClickException as error:
        if _number("LOCAL_RANK"):
            time.sleep(WAIT)
        print(f"rank {rank()}: Error: {error.format_message()}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0
