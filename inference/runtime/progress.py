"""A progress bar in a terminal or a notebook, which writes at most five times a second.

In a notebook it is a widget if ipywidgets is installed; else a line of its standard output, since Jupyter shows what
comes on standard error in a red box. Where neither is, as in a file or the log of a server, it writes nothing.
"""

import importlib
import importlib.util
import sys
from contextlib import suppress
from typing import Any

from tqdm import tqdm

PAUSE = 0.2  # seconds from one writing to the next, at least


def progress_bar(total: int | None, shown: bool, unit: str, done: int = 0) -> tqdm:
    """A bar over `total` units, if their number is known, of which `done` are done; the time left is shown then.

    shown: False for a bar that writes nothing.
    """
    options: dict[str, Any] = {"total": total, "initial": done, "unit": unit, "leave": False}
    options |= {"mininterval": PAUSE, "miniters": 1, "dynamic_ncols": True}
    if shown and _in_notebook():
        if importlib.util.find_spec("ipywidgets") is not None:
            with suppress(Exception):  # of another version of ipywidgets or Jupyter
                bar: tqdm = importlib.import_module("tqdm.notebook").tqdm(**options)
                return bar
        return tqdm(file=sys.stdout, **options)
    return tqdm(disable=not (shown and sys.stderr is not None and sys.stderr.isatty()), **options)


def advance(bar: tqdm, units: int, words: str) -> None:
    """Moves the bar on by so many units. words: what stands beside it at the next writing."""
    bar.set_postfix_str(words, refresh=False)
    bar.update(units)


def _in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, rather than IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
