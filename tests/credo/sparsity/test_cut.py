"""Networks without their idle units: the same outputs as with them, for networks and zeros drawn at random."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from credo.sparsity.cut import cut
from credo.sparsity.layers import Pick, SparseLinear

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardswish, nn.ELU, nn.Identity)
KEPT = (0.0, 0.03, 0.1, 0.3, 0.7)  # the share of weights that are not zero
SIDE = 12


def with_zeros(net, seed, share):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in net.parameters():
            w.copy_(torch.randn(w.shape, generator=generator))
            if w.dim() > 1:
                w.mul_(torch.rand(w.shape, generator=generator) < share)
    return net.eval()


def assert_same(net, x):
    before = copy.deepcopy(net.state_dict())
    done = cut(net)
    with torch.no_grad():
        torch.testing.assert_close(done.network(x), net(x), rtol=1e-6, atol=1e-6 * (1 + net(x).abs().max().item()))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    return done


@settings(max_examples=20, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    activation=st.sampled_from(ACTIVATIONS),
    bias=st.booleans(),
    share=st.sampled_from(KEPT),
    seed=st.integers(0, 10**6),
    nested=st.booleans(),
)
def test_linear_layers(widths, activation, bias, share, seed, nested):
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b, bias), activation())]
    net = nn.Sequential(nn.Sequential(*layers[:2]), *layers[2:]) if nested else nn.Sequential(*layers)
    x = torch.randn(4, widths[0], generator=torch.Generator().manual_seed(seed))
    done = assert_same(with_zeros(net, seed, share), x)
    assert not done.why


@settings(max_examples=20, deadline=None)
@given(
    channels=st.lists(st.integers(1, 3), min_size=2, max_size=3),
    kernel=st.integers(1, 3),
    padding=st.sampled_from([0, 1, "same"]),
    pool=st.sampled_from([None, nn.MaxPool2d(2), nn.AvgPool2d(2, padding=1), nn.AvgPool2d(3, ceil_mode=True)]),
    activation=st.sampled_from(ACTIVATIONS),
    between=st.sampled_from(["", "", "norm", "groups"]),
    share=st.sampled_from(KEPT),
    seed=st.integers(0, 10**6),
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_convolutions(channels, kernel, padding, pool, activation, between, share, seed):
    layers = []
    for a, b in pairwise(channels):
        wall = {"norm": [nn.BatchNorm2d(b)], "groups": [nn.Conv2d(b, b, 1, groups=b)]}.get(between, [])
        layers += [nn.Conv2d(a, b, kernel, padding=padding), activation(), *wall, *([] if pool is None else [pool])]
    x = torch.randn(3, channels[0], SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    features = nn.Sequential(*layers, nn.Flatten()).eval()(x).shape[1]
    net = with_zeros(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 4), nn.Tanh(), nn.Linear(4, 2)), seed, share
    )
    done = assert_same(net, x)
    assert bool(done.why) == (between == "norm" or (between == "groups" and max(channels[1:]) > 1))


def by_hand():
    """Of three hidden units the first is a constant, the second is read by no one, the third reads input 1 alone."""
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [0.0, 0.5, 0.0]]))
        net[0].bias.copy_(torch.tensor([0.3, 0.1, -0.2]))
        net[2].weight.copy_(torch.tensor([[2.0, 0.0, 1.0], [-1.0, 0.0, 4.0]]))
        net[2].bias.copy_(torch.tensor([0.5, 0.25]))
    return net.eval()


def test_what_is_left_is_what_is_left_by_hand():
    done = cut(by_hand())
    pick, first, _, second = done.network
    assert isinstance(pick, Pick) and pick.index.tolist() == [1] and pick.inputs == 3
    assert first.weight.tolist() == [[0.5]] and first.bias.tolist() == [pytest.approx(-0.2)]
    assert second.weight.tolist() == [[1.0], [4.0]]
    constant = torch.tensor(0.3).tanh().item()
    assert second.bias.tolist() == [pytest.approx(0.5 + 2 * constant), pytest.approx(0.25 - constant)]
    first, second = done.layers["0.weight"], done.layers["2.weight"]
    assert first.before == (3, 3) and first.after == (1, 1) and first.kept == 4 and first.layout == "dense"
    assert first.bytes_before == 4 * 12 and first.bytes_after == 4 * 3  # one weight, one bias, one number of an input
    assert second.after == (2, 1) and second.bytes_after == 4 * 4
    assert not done.network.training and not any(w.requires_grad for w in done.network.parameters())


def test_a_large_and_thin_layer_is_kept_sparse():
    net = with_zeros(nn.Sequential(nn.Linear(700, 500), nn.ReLU(), nn.Linear(500, 3)), 0, 0.015)
    with torch.no_grad():
        net[2].weight.fill_(0.1)  # all units are read
    done = assert_same(net, torch.randn(5, 700))
    (layer,) = [m for m in done.network if isinstance(m, SparseLinear)]
    found = done.layers["0.weight"]
    assert found.layout == "sparse" and found.kept == int((net[0].weight != 0).sum())
    assert found.bytes_after < found.bytes_before / 8
    x = torch.randn(2, 3, layer.in_features)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight.to_dense(), layer.bias))
    again = copy.deepcopy(done.network)
    again.load_state_dict(done.network.state_dict())
    torch.testing.assert_close(again(x[0, :, :1].expand(3, 700)), done.network(x[0, :, :1].expand(3, 700)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.inner(x)


@pytest.mark.parametrize(
    ("net", "word"),
    [
        (Residual(), "the network (Residual)"),
        (nn.Sequential(nn.Linear(3, 3), Residual(), nn.ReLU(), nn.Linear(3, 2)), "1 (Residual)"),
        (nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2)), "1 (LayerNorm)"),
        (nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1), nn.Linear(3, 2)), "1 (Softmax)"),
    ],
)
def test_around_a_layer_that_is_not_known_all_units_stay_and_it_is_said(net, word):
    done = assert_same(with_zeros(net, 1, 0.0), torch.randn(4, 3))
    assert done.why.endswith(word)
    if isinstance(net, nn.Sequential):
        assert done.layers["0.weight"].after[0] == 3


def test_a_hook_may_do_anything():
    net = with_zeros(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)), 1, 0.3)
    net[1].register_forward_hook(lambda module, inputs, out: out + 1)
    assert assert_same(net, torch.randn(4, 3)).why.endswith("1 (ReLU)")


def test_a_layer_that_is_called_twice():
    shared = nn.Linear(4, 4)
    net = with_zeros(nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(4, 2)), 3, 0.2)
    assert_same(net, torch.randn(5, 4))


def test_names_that_would_be_one_stay_two():
    net = nn.Sequential()
    net.add_module("a", nn.Sequential(nn.Linear(3, 3)))
    net.add_module("a_0_inputs", nn.Linear(3, 3))
    net.add_module("a_0", nn.Linear(3, 2))
    assert_same(with_zeros(net, 2, 0.3), torch.randn(4, 3))


def test_rows_with_more_dimensions_go_through_linear_layers():
    net = with_zeros(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)), 4, 0.2)
    assert_same(net, torch.randn(2, 3, 5))
    net = with_zeros(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)), 4, 0.2)
    assert_same(net, torch.randn(2, 3, 5))
