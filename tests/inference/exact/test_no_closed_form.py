"""The error of `credo.exact` is a ValueError, and the example of its docstring is true."""

import doctest

import credo
from credo.inference.exact import no_closed_form


def test_it_is_a_value_error_and_its_example_runs():
    assert issubclass(credo.NoClosedForm, ValueError)
    result = doctest.testmod(no_closed_form)
    assert result.failed == 0 and result.attempted > 0
