"""A program that differentiates inside of itself is traced also where gradients are off."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.runtime.traced import first_line, traced


def newton(start):
    """One step of Newton's method on (x - 3)^2, by autograd."""
    x = torch.full((), start, requires_grad=True)
    (slope,) = torch.autograd.grad((x - 3) ** 2, x)
    return pyro.sample("x", dist.Delta(x.detach() - slope / 2))


def test_a_program_that_differentiates_is_run_with_gradients_on():
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="does not require grad"):
            newton(0.5)
        assert traced(newton, (0.5,)).nodes["x"]["value"].item() == 3
        assert not torch.is_grad_enabled()


def test_other_programs_run_once_and_keep_their_errors():
    runs = []

    def plain(word):
        runs.append(torch.is_grad_enabled())
        if word == "raise":
            raise RuntimeError("out of luck")
        pyro.sample("x", dist.Normal(0.0, 1.0))

    with torch.no_grad():
        traced(plain, ("run",))
        with pytest.raises(RuntimeError, match="out of luck"):
            traced(plain, ("raise",))
    assert runs == [False, False]


def test_the_first_line_of_an_error():
    assert first_line(ValueError("\none\ntwo")) == "one"
    assert first_line(NotImplementedError()) == "NotImplementedError"
