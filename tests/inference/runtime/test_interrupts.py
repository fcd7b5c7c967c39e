"""Ctrl-C: where it raises KeyboardInterrupt, where it waits, and what it leaves behind."""

import signal
import threading
import time
from contextlib import contextmanager

import pytest

from credo.inference.runtime.interrupts import IMPATIENT, interruptible


def press():
    signal.raise_signal(signal.SIGINT)


def test_it_is_raised_where_the_call_allows_it_and_only_once():
    with interruptible() as ctrl_c:
        press()  # only counted
        ctrl_c.raises = True
        with pytest.raises(KeyboardInterrupt):
            press()
        assert ctrl_c.presses == 2 and not ctrl_c.raises


def test_code_that_blocks_is_interrupted():
    begun = time.monotonic()
    with interruptible() as ctrl_c:
        ctrl_c.raises = True
        threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("when", ["entering", "leaving"])
def test_it_waits_until_a_context_manager_has_been_entered_or_left(when):
    done = []

    @contextmanager
    def slow():
        if when == "entering":
            press()
        done.append("entered")
        try:
            yield
        finally:
            if when == "leaving":
                press()
            done.append("left")

    with interruptible() as ctrl_c:
        ctrl_c.raises = True
        with pytest.raises(KeyboardInterrupt):
            with slow():
                time.sleep(0.2 if when == "entering" else 0)
            time.sleep(0.2)
        assert ctrl_c.presses == 1
    assert done == ["entered", "left"]


def test_it_does_not_wait_for_what_surrounds_the_call():
    @contextmanager
    def around():
        with interruptible() as ctrl_c:  # inside of an `__enter__`
            ctrl_c.raises = True
            with pytest.raises(KeyboardInterrupt):
                press()
                time.sleep(0.01)
            yield ctrl_c._tries

    with around() as tries:
        assert tries == 0


def test_one_that_still_waits_at_the_end_is_not_raised_later():
    class Leaving:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            press()

    with interruptible() as ctrl_c:
        ctrl_c.raises = True
        with Leaving():
            pass
    time.sleep(0.05)
    assert ctrl_c.presses == 1


def test_a_call_that_raises_from_the_beginning_raises_at_its_end_what_still_waits():
    class Leaving:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            press()
            left.append(True)

    left = []
    with pytest.raises(KeyboardInterrupt):
        with interruptible(raises=True), Leaving():
            pass
    assert left and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with interruptible(raises=True), pytest.raises(KeyboardInterrupt):  # raised inside, not again at the end
        press()


def test_an_impatient_user_ends_a_call_that_only_counts():
    with interruptible():
        for _ in range(IMPATIENT - 1):
            press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_the_handler_is_put_back_also_after_an_error():
    for error in (None, ValueError):
        try:
            with interruptible():
                assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
                if error is not None:
                    raise error
        except ValueError:
            pass
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        press()


def test_a_handler_of_the_users_own_stays():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with interruptible() as ctrl_c:
            ctrl_c.raises = True
            press()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT] and ctrl_c.presses == 0


def test_another_thread_leaves_the_handler_alone():
    found = []

    def call():
        with interruptible() as ctrl_c:
            found.append((ctrl_c.presses, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert found == [(0, signal.default_int_handler)]
