"""A probe leaves the pair as it found it, and two tensors are compared up to rounding."""

import pyro
import pytest
import torch
from torch import nn

from credo.inference.preflight.pyro_errors import explained
from credo.inference.runtime.generators import refuse_no_seed
from credo.inference.runtime.probes import PLACES, SHORTER, at_a_draw, differing, look_near, nearly_equal, probing


@pytest.mark.parametrize("off", [None, *PLACES])
def test_a_probe_moves_parameters_and_stops_dropout_and_gradients_inside_alone(off):
    w, layer = pyro.param("w", torch.zeros(3)), nn.Dropout(0.5)
    with pytest.raises(ZeroDivisionError), probing((layer,), off):
        assert bool((w != 0).all()) == bool(off)
        assert not layer.training and not torch.is_grad_enabled()
        1 / 0  # noqa: B018
    assert (w == 0).all() and layer.training and torch.is_grad_enabled()


def test_a_probe_draws_the_same_numbers_wherever_it_goes_and_none_if_told_so():
    pyro.param("w", torch.zeros(3))
    after = {}
    for off in (None, *PLACES):
        torch.manual_seed(0)
        with probing((), off):
            after[off] = torch.rand(()).item()
    torch.manual_seed(0)
    assert after[None] == torch.rand(()).item() != after[0.0] == after[0.1]


@pytest.mark.parametrize("bound, sizes", [(1.0, 1), (0.05, 2), (0.005, 3)])
def test_a_look_goes_less_far_where_it_fails_and_says_how_the_last_one_failed(bound, sizes):
    p, seen = pyro.param("p", torch.zeros(50)), []

    def look():
        seen.append(p.abs().max().item())
        if seen[-1] > bound:
            raise ValueError(f"p is {seen[-1]}")
        return seen[-1]

    found = look_near(look, 0.1)
    assert 0 < found < bound and len(seen) == sizes and (p == 0).all()


def test_a_look_that_fails_everywhere_near_raises_its_last_error():
    p, tries = pyro.param("p", torch.zeros(2)), []

    def look():
        tries.append(p.abs().max().item())
        raise ValueError(f"try {len(tries)}")

    with pytest.raises(ValueError, match="try 3"):
        look_near(look, 0.1)
    assert sorted(tries, reverse=True) == tries and (p == 0).all()


def test_a_look_at_the_parameters_themselves_fails_once():
    pyro.param("p", torch.zeros(2))
    tries = []
    with pytest.raises(ZeroDivisionError):
        look_near(lambda: tries.append(1) or 1 / 0, 0.0)
    assert len(tries) == 1 and SHORTER[0] == 1


def test_nearly_equal_bears_rounding_and_nan_but_no_more():
    x = torch.tensor([1e6, 1.0, torch.nan, torch.inf])
    assert nearly_equal(x + torch.tensor([1.0, 5.0, 0.0, 0.0]), x)
    assert not nearly_equal(x * 1.001, x) and not nearly_equal(torch.zeros(1), torch.full((1,), 2e-5))


def test_tensors_differ_to_the_last_bit():
    x = torch.tensor([1.0, 2.0, torch.nan])
    assert differing(x, x + torch.tensor([0.0, 1e-6, 0.0])).tolist() == [False, True, False]
    assert differing(x, None).all() and differing(x, x[:2]).all()


@pytest.mark.parametrize("bad", [0, 1, 9])
@pytest.mark.parametrize("error", [ValueError, RuntimeError, torch.linalg.LinAlgError, ZeroDivisionError])
def test_a_probe_is_tried_at_other_draws(bad, error):
    def look(number):
        if number < bad:
            raise error("at this draw")
        return number

    assert at_a_draw(look) == bad


def test_a_probe_that_fails_at_each_draw_raises_its_error():
    with pytest.raises(ValueError, match="at each draw"):
        at_a_draw(lambda number: fail("at each draw"))


def test_a_mistake_that_credo_found_is_raised_at_once():
    tried = []

    def look(number):
        tried.append(number)
        refuse_no_seed("three")

    with pytest.raises(ValueError, match="three"):
        at_a_draw(look)
    assert tried == [0]


def test_an_error_of_the_program_that_credo_explains_is_tried_again():
    def look(number):
        if not number:
            raise explained("model", torch.linalg.LinAlgError("linalg.cholesky: no")) from ValueError("of the program")
        return number

    assert at_a_draw(look) == 1


def fail(words):
    raise ValueError(words)
