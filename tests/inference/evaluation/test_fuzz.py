"""Random arguments either work or are refused by name, and no call changes the process: see `tests/cases/fuzz.py`."""

import functools

import pytest
from hypothesis import HealthCheck, given, settings

from tests.cases.fuzz import fits, holds, inputs

QUICK = settings(
    max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
known = functools.cache(fits)


@QUICK
@given(inputs())
def test_random_arguments_work_or_are_refused_by_name(case):
    holds(case, known())


@pytest.mark.slow
@settings(QUICK, max_examples=2000, derandomize=False, print_blob=True)
@given(inputs())
def test_two_thousand_random_arguments_work_or_are_refused_by_name(case):
    holds(case, known())
