"""Factors of the inputs of layers, read from a run of the model and put into the weights of a copy."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from credo.inference.posterior.row_masks import fold, input_factors

LAYERS = {
    "linear": (lambda: nn.Linear(3, 2), (5, 3)),
    "convolution": (lambda: nn.Conv2d(3, 4, 2), (5, 3, 4, 4)),
    "convolution, in groups": (lambda: nn.Conv1d(6, 4, 2, groups=2), (5, 6, 4)),
}


def fitted(net, x, factor, each_row=False):
    """A fit of a model whose hook multiplies the inputs of the network: f (inputs,), or in each row another."""
    net = nn.Sequential(net).requires_grad_(False)

    def model(net, x):
        f = pyro.sample("f", dist.Normal(0.0, 1.0)) * 0 + factor
        f = f.reshape(1, -1, *[1] * (x.dim() - 2)) * (
            torch.arange(len(x)).float().add(1) if each_row else torch.ones(1)
        ).reshape(-1, *[1] * (x.dim() - 1))
        handle = net[0].register_forward_pre_hook(lambda layer, inputs: (inputs[0] * f,))
        try:
            out = net(x)
        finally:
            handle.remove()
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(out.flatten(1).sum(1), 1.0), obs=torch.zeros(len(x)))

    return credo.fit(model, "mean_field", net, x, steps=2, progress=False, compile=False), net


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_with_the_factors_in_its_weight_gives_what_the_model_computes(kind):
    make, shape = LAYERS[kind]
    x, factor = torch.randn(shape), 0.5 + torch.rand(shape[1])
    fit, net = fitted(make(), x, factor)
    found = input_factors(fit, net, {"f": torch.tensor(0.0)})
    torch.testing.assert_close(found["0"].float(), factor)
    copied = copy.deepcopy(net)
    fold(copied, found)
    wide = factor.reshape(1, -1, *[1] * (x.dim() - 2))
    torch.testing.assert_close(copied(x), net(x * wide))


def test_an_input_that_is_always_zero_has_the_factor_of_the_others_where_these_agree():
    x = torch.randn(5, 3) * torch.tensor([1.0, 0.0, 1.0])
    for factor, wanted in ((torch.full((3,), 0.7), 0.7), (torch.tensor([0.7, 0.7, 0.9]), 1.0)):
        fit, net = fitted(nn.Linear(3, 2), x, factor)
        assert input_factors(fit, net, {"f": torch.tensor(0.0)})["0"][1].item() == pytest.approx(wanted)


def test_factors_that_differ_from_row_to_row_are_none_of_a_network():
    fit, net = fitted(nn.Linear(3, 2), torch.randn(5, 3), torch.ones(3), each_row=True)
    assert input_factors(fit, net, {"f": torch.tensor(0.0)}) == {}
