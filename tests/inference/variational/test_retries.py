"""An error at one draw is tried again; one that comes again is raised."""

import pytest
import torch

from credo.inference.variational.retries import NUMERIC, TRIES, at_other_draws


@pytest.mark.parametrize("error", NUMERIC)
@pytest.mark.parametrize("bad", range(TRIES))
def test_the_first_draw_without_an_error_counts(error, bad):
    def compute(number):
        if number < bad:
            raise error(f"at draw {number}")
        return number

    assert at_other_draws(compute) == bad


def test_the_same_error_twice_is_raised():
    calls = []

    def compute(number):
        calls.append(number)
        raise ValueError("the guide has no site 'z'")

    with pytest.raises(ValueError, match="no site 'z'"):
        at_other_draws(compute)
    assert calls == [0, 1]


def test_the_first_of_many_errors_is_raised():
    def compute(number):
        raise ValueError(f"at draw {number}")

    with pytest.raises(ValueError, match="at draw 0"):
        at_other_draws(compute)


@pytest.mark.parametrize("error", [TypeError, RuntimeError, KeyError, torch.OutOfMemoryError])
def test_another_error_is_raised_at_once(error):
    calls = []

    def compute(number):
        calls.append(number)
        raise error("never")

    with pytest.raises(error):
        at_other_draws(compute)
    assert calls == [0]


def test_an_error_of_another_kind_on_a_later_try_hides_none():
    """The first try took an entry out of the data, which the second one missed."""

    def compute(number):
        raise KeyError("y") if number else ValueError("changes its data in place")

    with pytest.raises(ValueError, match="changes its data in place"):
        at_other_draws(compute)
