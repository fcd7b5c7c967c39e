"""Curvature: Jacobians against autograd, the GGN of a linear softmax against its Hessian, Kronecker factors."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.functional import cross_entropy

from credo.treatments.curvature import ggn, kfac, layers_of, others, parts


def conv():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 2, stride=2, padding=1), nn.Tanh(), nn.Conv2d(2, 3, 2, bias=False)),
        *(nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 3)),
    ).double()


def jacobian(net, layers, x):
    """d f / d theta by autograd, (N, C, P), in the order of the layers, each matrix with its bias as last column."""
    weights = {name: p.detach() for name, p in net.named_parameters()}
    found = jacrev(lambda w: functional_call(net, w, (x,)))(weights)
    rows = []
    for layer in layers:
        J = found[f"{layer.name}.weight"].flatten(3)
        if layer.module.bias is not None:
            J = torch.cat([J, found[f"{layer.name}.bias"][..., None]], -1)
        rows.append(J.flatten(2))
    return torch.cat(rows, -1)


def test_jacobians_are_those_of_autograd():
    net, x = conv(), torch.randn(4, 1, 4, 4, dtype=torch.float64)
    layers = layers_of(net)
    f, found = parts(net, layers, x)
    torch.testing.assert_close(f, net(x).detach())
    torch.testing.assert_close(torch.cat([p.jacobian() for p in found], -1), jacobian(net, layers, x))
    assert others(net, layers) == ["4.weight", "4.bias"]


def test_the_ggn_of_a_linear_softmax_is_the_hessian():
    net = nn.Linear(3, 4).double()
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.randint(4, (20,))
    ones = torch.cat([x, x.new_ones(20, 1)], 1)
    (layer,) = layers_of(net)
    hessian = torch.autograd.functional.hessian(
        lambda w: cross_entropy(ones @ w.reshape(4, 4).mT, y, reduction="sum"), layer.matrix.flatten()
    )
    torch.testing.assert_close(ggn(net, [layer], x, True), hessian)


@pytest.mark.parametrize("number", [0, 2])
def test_the_ggn_of_one_layer_is_its_block_of_all(number):
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5)).double(), torch.randn(20, 3).double()
    every, layer = layers_of(net), layers_of(net)[number // 2]
    block = slice(0, 16) if number == 0 else slice(16, 41)
    torch.testing.assert_close(ggn(net, [layer], x, True), ggn(net, every, x, True)[block, block])


def test_products_with_the_jacobian_are_those_of_autograd():
    net, x = conv(), torch.randn(4, 1, 4, 4, dtype=torch.float64)
    layers = layers_of(net)
    J, (_, found) = jacobian(net, layers, x), parts(net, layers, x)
    vectors = torch.randn(J.shape[-1], 3, dtype=torch.float64)
    pieces = vectors.split([layer.matrix.numel() for layer in layers])
    total = sum(part.along(piece) for part, piece in zip(found, pieces, strict=True))
    torch.testing.assert_close(total, J @ vectors)


@pytest.mark.parametrize("classes", [True, False])
def test_kronecker_factors_are_exact_for_one_row_of_linear_layers(classes):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3 if classes else 1)).double()
    x = torch.randn(1, 3, dtype=torch.float64)
    for layer, (A, G) in zip(layers_of(net), kfac(net, layers_of(net), x, classes), strict=True):
        torch.testing.assert_close(torch.kron(G, A), ggn(net, [layer], x, classes))


def test_kronecker_factors_of_a_linear_regression_are_its_ggn():
    net, x = nn.Linear(3, 1).double(), torch.randn(9, 3, dtype=torch.float64)
    ((A, G),) = kfac(net, layers_of(net), x, False)
    torch.testing.assert_close(torch.kron(G, A), ggn(net, layers_of(net), x, False))


def test_a_layer_that_is_called_twice_is_refused():
    layer = nn.Linear(3, 3)
    net = nn.Sequential(layer, nn.Tanh(), layer)
    with pytest.raises(ValueError, match="layer '0' is called 2 times for a row"):
        parts(net, layers_of(net), torch.randn(2, 3))
