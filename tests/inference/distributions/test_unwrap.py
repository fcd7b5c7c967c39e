"""Copies of distributions without gradients, rsample or mask, beside torch's gradients and log densities."""

from typing import ClassVar

import pyro.distributions as dist
import pytest
import torch
from torch.distributions.transforms import ExpTransform

from credo.inference.distributions.unwrap import (
    is_masked,
    is_plain,
    kind,
    support_of,
    unmasked,
    unwrapped,
    without_parameters,
    without_path,
)


@pytest.fixture(autouse=True)
def in_double(double):
    """All of these in double precision."""


@pytest.mark.parametrize("wrap", ["to_event", "expand", "plain"])
def test_without_its_mask_a_distribution_is_what_is_drawn_from(wrap):
    mask, rates, value = torch.tensor([True, False]), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    plain = dist.Poisson(rates)
    masked = plain.mask(mask)
    masked, wanted = {
        "plain": (masked, plain.log_prob(value)),
        "to_event": (masked.to_event(1), plain.log_prob(value).sum()),
        "expand": (masked.expand([3, 2]).to_event(1), plain.log_prob(value).sum().expand(3)),
    }[wrap]
    torch.testing.assert_close(unmasked(masked).log_prob(value.expand(masked.shape())), wanted)
    assert not torch.equal(masked.log_prob(value.expand(masked.shape())), wanted)
    untouched = plain.to_event(1)
    assert unmasked(untouched) is untouched


@pytest.mark.parametrize("wrap", ["plain", "to_event", "transformed"])
def test_without_parameters_only_the_value_has_a_gradient(wrap):
    loc, scale = torch.tensor([0.3, -1.0], requires_grad=True), torch.tensor([0.5, 2.0], requires_grad=True)
    fn = {
        "plain": lambda: dist.Normal(loc, scale),
        "to_event": lambda: dist.Normal(loc, scale).to_event(1),
        "transformed": lambda: dist.LogNormal(loc, scale),
    }[wrap]()
    value = torch.tensor([1.2, 0.4], requires_grad=True)
    held = without_parameters(fn).log_prob(value).sum()
    own = fn.log_prob(value).sum()
    assert held.item() == own.item()
    wanted = torch.autograd.grad(own, [value, loc])
    torch.testing.assert_close(torch.autograd.grad(held, value, retain_graph=True)[0], wanted[0])
    assert torch.autograd.grad(held, [loc, scale], allow_unused=True) == (None, None)
    assert wanted[1].abs().min() > 0  # and the distribution itself keeps its gradient


def test_a_distribution_is_plain_where_no_transform_or_network_holds_its_parameters():
    normal = dist.Normal(torch.zeros(2), 1.0)
    assert is_plain(normal) and is_plain(normal.to_event(1).mask(False))
    assert not is_plain(dist.TransformedDistribution(normal, [ExpTransform()]))
    assert not is_plain(dist.TransformedDistribution(normal, [dist.transforms.AffineTransform(1.0, 2.0)]))


@pytest.mark.parametrize("wrap", ["plain", "to_event", "expand", "transformed"])
def test_a_draw_without_its_path_has_no_gradient_and_the_density_keeps_its_own(wrap):
    loc = torch.tensor([0.3, -1.0], requires_grad=True)
    normal = dist.Normal(loc, 1.0)
    fn = {
        "plain": normal,
        "to_event": normal.to_event(1),
        "expand": normal.expand([3, 2]),
        "transformed": dist.TransformedDistribution(normal, [ExpTransform()]),
    }[wrap]
    cut = without_path(fn)
    assert fn.has_rsample and not cut.has_rsample  # Pyro draws by it: `sample`, where there is no rsample
    draw = cut()
    assert not draw.requires_grad and fn().requires_grad
    found, wanted = (torch.autograd.grad(f.log_prob(draw).sum(), loc)[0] for f in (cut, fn))
    torch.testing.assert_close(found, wanted)


def test_the_kind_of_a_distribution_is_that_inside_its_wrappers():
    beta = dist.Beta(torch.tensor([2.0, 1.0]), 3.0)
    for fn in (beta, beta.to_event(1), beta.expand([4, 2]), beta.mask(True).to_event(1)):
        assert kind(fn) == "Beta" and type(unwrapped(fn)).__name__ == "Beta"
    assert is_masked(beta, beta.mask(True).to_event(1)) and not is_masked(beta, beta.to_event(1))


def test_the_support_of_a_distribution_is_that_inside_its_wrappers_or_unknown():
    class Own(dist.TorchDistribution):
        arg_constraints: ClassVar = {}

    assert support_of(dist.Beta(2.0, torch.ones(3)).mask(True).to_event(1)) is dist.constraints.unit_interval
    assert support_of(Own()) is None
