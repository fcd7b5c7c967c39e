"""Fits one after another: counts, fits that fail, fits that warn."""

import warnings

import pytest
import torch

import credo
from credo.inference.calibration.one_by_one import Counts, counts_of, one_by_one, replaced
from credo.inference.calibration.origins import origins
from credo.inference.calibration.ranks import LIKELIHOOD, PRIOR
from credo.inference.calibration.simulate import simulate
from tests.cases import calibration as cases
from tests.cases.calibration import Y

SIMULATED = simulate(cases.flips, (Y,), origins(cases.flips, (Y,), ["y"]), 6, 0, ["y"])


def run(fit):
    return one_by_one(cases.flips, fit, SIMULATED, (Y,), range(6), 19, 0, False)


def exact(values, s):
    return credo.exact(cases.flips, *values)


def test_counts_are_those_of_the_draws():
    truth = {"p": torch.tensor(0.4)}
    posterior = credo.exact(cases.flips, Y)
    found = counts_of(cases.flips, posterior, (Y,), truth, 200, 0)
    assert found["p"].tolist() == [int((posterior.sample(200, seed=0)["p"] < 0.4).sum()), 0]
    assert found.keys() == {"p", LIKELIHOOD, PRIOR}
    assert found[LIKELIHOOD].tolist() == found["p"].tolist()  # of ones alone it grows with p


def test_sound_fits_leave_no_notes():
    found = run(exact)
    assert found.which == list(range(6)) and not found.notes


def test_fits_that_fail_are_left_out_and_told():
    def failing(values, s):
        if s in (0, 3):
            raise ValueError("no such posterior")
        return exact(values, s)

    found = run(failing)
    assert len(found.counts) == 4 and 3 not in found.which
    assert found.notes == ["2 of 6 fits failed, and are left out: no such posterior"]


def test_an_error_of_all_fits_is_raised():
    def failing(values, s):
        raise ValueError("no such posterior")

    with pytest.raises(ValueError, match="no such posterior"):
        run(failing)


def test_what_many_fits_warn_of_is_told_once():
    def warning(values, s):
        warnings.warn("not converged", stacklevel=2)
        return exact(values, s)

    assert run(warning).notes == ["6 of 6 fits warned: not converged"]


def test_warnings_that_differ_in_their_numbers_are_one():
    def warning(values, s):
        warnings.warn(f"k-hat is {0.7 + s / 10:.2f}, in {s} of 1e-{s} draws", stacklevel=2)
        return exact(values, s)

    assert run(warning).notes == ["6 of 6 fits warned: k-hat is 0.70, in 0 of 1e-0 draws"]


def test_failures_of_all_kinds_are_one_note():
    def failing(values, s):
        if s < 3:
            raise ValueError(f"no pivot {s}")
        if s == 3:
            raise ArithmeticError("too large")
        return exact(values, s)

    assert run(failing).notes == ["4 of 6 fits failed, and are left out: no pivot 0 (3); too large (1)"]


def test_counts_of_some_data_sets_are_replaced_in_place():
    counts = {"z": torch.arange(5)[:, None].repeat(1, 2)}
    others = Counts([{"z": torch.tensor([11, 11])}], [1], [])
    assert replaced(counts, others, [1, 3])["z"][:, 0].tolist() == [0, 11, 2, 4]  # the fit of data set 3 failed
    assert replaced(counts, Counts([], [], []), [0])["z"][:, 0].tolist() == [1, 2, 3, 4]


def test_ctrl_c_ends_with_the_fits_so_far():
    def interrupted(values, s):
        if s == 4:
            raise KeyboardInterrupt
        return exact(values, s)

    found = run(interrupted)
    assert len(found.counts) == 4 and found.notes == ["interrupted (Ctrl-C) after 4 of 6 fits"]
