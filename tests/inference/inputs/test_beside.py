"""The functions of the file that a function was written in."""

import functools

from credo.inference.inputs.beside import beside

SOMETHING = 1


def model(x, scale=1.0):
    return x * scale


def posterior(x):
    return x


def test_a_function_of_the_same_file_is_found_through_partials_too():
    assert beside(model, "posterior") is posterior
    assert beside(functools.partial(functools.partial(model, 1), scale=2.0), "posterior") is posterior


def test_what_is_missing_or_no_function_is_none():
    assert beside(model, "absent") is None and beside(model, "SOMETHING") is None
    assert beside(functools.partial(len), "posterior") is None
