"""Draws of Dirichlets in double precision: torch's own in double are the oracle."""

import pytest
import torch
from torch.distributions import dirichlet

from credo.inference.distributions.dirichlet import InDouble
from credo.inference.runtime.defaults import CPU, default_device

CONCENTRATIONS = [[0.01, 0.02], [2.0, 3.0, 0.5], [66036.0, 1.5], [178081.0, 172680.0], [1e7, 5.0]]


@pytest.mark.parametrize("concentration", CONCENTRATIONS, ids=str)
def test_draws_are_torchs_and_gradients_those_of_torch_in_double(concentration):
    c = torch.tensor(concentration).expand(2000, -1).contiguous().requires_grad_()
    torch.manual_seed(0)
    x = InDouble.apply(c)
    torch.manual_seed(0)
    assert torch.equal(x, dirichlet._Dirichlet.apply(c))
    weights = torch.linspace(-1, 1, 2000)[:, None] * torch.arange(len(concentration))
    (x * weights).sum().backward()
    expected = dirichlet._Dirichlet_backward(x.detach().double(), c.detach().double(), weights.double())
    assert torch.allclose(c.grad.double(), expected, rtol=1e-4, atol=1e-5 * expected.abs().mean().item())


def test_programs_draw_by_it_and_torch_is_left_as_it_was():
    c = torch.tensor([66036.0, 1.5]).expand(2000, -1).contiguous().requires_grad_()
    with default_device(CPU, {}):
        x = dirichlet.Dirichlet(c).rsample()
    (gradient,) = torch.autograd.grad(x[:, 0].sum(), c)
    assert gradient.isfinite().all()
    assert dirichlet._Dirichlet is not InDouble


def test_both_kernels_get_doubles():
    class Dtypes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "dirichlet" in str(func):
                seen.update(t.dtype for t in args)
            return func(*args, **(kwargs or {}))

    seen = set()
    with Dtypes():
        InDouble.apply(torch.tensor([3.0, 4.0], requires_grad=True))[0].backward()
    assert seen == {torch.float64}


def test_draws_are_inside_the_simplex_after_rounding():
    x = InDouble.apply(torch.full((2000, 2), 1e-3))
    assert 0 < x.min() and x.max() < 1
