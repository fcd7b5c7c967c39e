"""Ctrl-C during a call: an interruption that the call can turn into a result, and that leaves nothing half done.

Python raises KeyboardInterrupt between any two instructions of the main thread, so also while a context manager puts
Pyro's parameters or torch's generators back. `interruptible` replaces Python's own handler for the duration of a call:
KeyboardInterrupt is raised only where the call allows it (`raises`), never while a context manager is entered or left,
and never while a module is imported; there it waits. Code that blocks is interrupted as usual.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` wraps in enumerations: 5 µs of each step
import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

WAIT, MOST = 0.005, 2000  # seconds until an interruption that waits tries again; after so many it waits no longer
SIGINT = int(signal.SIGINT)
IMPATIENT = 3  # a call that is ending counts Ctrl-C instead of raising it, except for the third

# Functions in which an interruption waits: they put something in place, or back.
_UNSAFE = {"__enter__", "__exit__", "__del__", "set_generator_states", "place_parameters", "take_again"}


@dataclass
class CtrlC:
    """What a call knows of Ctrl-C. presses: how often it came. raises: whether KeyboardInterrupt may be raised now.

    Raising it sets `raises` to False: the code that handles the first interruption is not interrupted itself.
    """

    presses: int = 0
    raises: bool = False
    call: FrameType | None = None  # the call itself: what happens inside of it decides whether an interruption waits
    _waits: bool = False
    _tries: int = 0
    _over: bool = False

    def handle(self, signal_number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT, which Python runs in the main thread. Raises KeyboardInterrupt if it may."""
        waited, self._waits = self._waits, False
        self.presses += not waited
        if self._over or not (self.raises or self.presses >= IMPATIENT):
            return
        if self._tries < MOST and _is_unsafe(frame, self.call):
            self._tries, self._waits = self._tries + 1, True
            _thread.start_new_thread(_try_again, ())  # unlike threading.Thread it takes no lock, which may be held here
            return
        self.raises, self._tries = False, 0
        raise KeyboardInterrupt

    def end(self) -> None:
        """From here on no interruption is raised, also none that still waits."""
        self._over = True
        while self._waits:
            time.sleep(WAIT)


@contextmanager
def interruptible(raises: bool = False) -> Iterator[CtrlC]:
    """Ctrl-C inside is counted and raised as `CtrlC` says.

    raises: whether it may be raised from the beginning. One that then still waits at the end is raised there; other
    calls read `presses`.
    A handler of the user's own stays in place, and threads other than the main one have none: there nothing is
    counted, and a KeyboardInterrupt comes from wherever it is raised.
    """
    ctrl_c = CtrlC(raises=raises, call=sys._getframe(2))  # above this function and contextlib's `__enter__`
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or _signal.getsignal(SIGINT) is not signal.default_int_handler:
        yield ctrl_c
        return
    _signal.signal(SIGINT, ctrl_c.handle)
    try:
        yield ctrl_c
    finally:
        ctrl_c.end()
        _signal.signal(SIGINT, signal.default_int_handler)
        ctrl_c.call = None  # a frame holds all of its variables
    if raises and ctrl_c.raises and ctrl_c.presses:
        raise KeyboardInterrupt


def _try_again() -> None:
    time.sleep(WAIT)
    _thread.interrupt_main()


def _is_unsafe(frame: FrameType | None, call: FrameType | None) -> bool:
    """Whether an interruption must wait: a function between `call` and this frame puts something in place or back."""
    while frame is not None and frame is not call:
        if frame.f_code.co_name in _UNSAFE or frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
