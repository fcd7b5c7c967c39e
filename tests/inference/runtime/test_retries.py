"""An error at one draw is tried again; one that comes again is raised."""

import pytest
import torch

from credo.inference.runtime.generators import refuse_no_seed
from credo.inference.runtime.retries import NUMERIC, TRIES, at_other_draws


@pytest.mark.parametrize("error", [*NUMERIC, RuntimeError])
@pytest.mark.parametrize("bad", range(TRIES))
def test_the_first_draw_without_an_error_counts(error, bad):
    def compute(number):
        if number < bad:
            raise error(f"at draw {number}")
        return number

    assert at_other_draws(compute) == bad


def test_the_same_error_of_credo_twice_is_raised():
    calls = []

    def compute(number):
        calls.append(number)
        refuse_no_seed("three")

    with pytest.raises(ValueError, match="three"):
        at_other_draws(compute)
    assert calls == [0, 1]


@pytest.mark.parametrize("bad", range(TRIES))
def test_the_same_words_of_a_cholesky_factor_are_tried_again(bad):
    def compute(number):
        torch.linalg.cholesky(torch.eye(2) * (1 if number == bad else -1))
        return number

    assert at_other_draws(compute) == bad


def test_the_first_of_many_errors_is_raised():
    def compute(number):
        raise ValueError(f"at draw {number}")

    with pytest.raises(ValueError, match="at draw 0"):
        at_other_draws(compute)


@pytest.mark.parametrize("error", [TypeError, NotImplementedError, RecursionError, KeyError, torch.OutOfMemoryError])
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
