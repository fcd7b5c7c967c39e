"""Errors that the user can correct, as messages without a traceback; the exit code is 2."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

import credo
from credo.cli.job import is_first, one_voice
from credo.pairs import place_in


class Mistake(click.ClickException):
    """An error that the user can correct: the message without a traceback, exit code 2."""

    exit_code = 2


@contextmanager
def mistakes(name: str = "") -> Iterator[None]:
    """Turns errors with a remedy, and those of the user's own file, into messages without a traceback.

    name: of the pair, perhaps the path of a file. Errors in credo itself keep their traceback. Warnings are shown
    without the line of credo that raised them. In a job the first process speaks for all.
    """
    with one_voice(), _in_words(name):
        yield


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: click.echo(f"Warning: {message}", err=True)
            if not is_first():
                warnings.simplefilter("ignore")
            yield
    except click.ClickException:
        raise
    except credo.Diverged as error:
        raise Mistake(str(error)) from None
    except Exception as error:
        from credo.inference.runtime.workers import ProcessFailed

        notes = getattr(error, "__notes__", [])
        place = place_in(Path(name), error) if name.endswith(".py") else ""
        plain = isinstance(error, (ValueError, OSError, ProcessFailed))
        if not notes and not place and not plain:
            raise
        kind = "" if plain else f"{type(error).__name__}: "
        message = str(error).split("\nTrace Shapes:")[0].rstrip()  # Pyro's appendix
        where = f"{place}: " if place else ""
        raise Mistake("\n".join([where + kind + message, *notes])) from None
