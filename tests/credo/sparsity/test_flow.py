"""What a sequence of layers reads and keeps, by hand."""

import torch
from torch import nn

from credo.sparsity.flow import flow, is_weighted


def filled(layer, weight, bias):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight).reshape(layer.weight.shape))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def test_a_constant_goes_through_layers_and_activations():
    first = filled(nn.Linear(2, 2), [[0.0, 0.0], [0.0, 1.0]], [-3.0, 1.0])
    second = filled(nn.Linear(2, 2), [[2.0, 0.0], [0.0, 1.0]], [7.0, 0.0])
    third = filled(nn.Linear(2, 1), [[1.0, 1.0]], [0.0])
    (a, b, c), walls = flow([first, nn.ReLU(), second, nn.Tanh(), third])
    assert not walls
    assert b.known.isnan().tolist() == [False, True] and b.known[0] == 0  # ReLU(-3)
    assert c.known.isnan().tolist() == [False, True]
    torch.testing.assert_close(c.known[0], torch.tensor(7.0, dtype=torch.float64).tanh())
    assert (a.reads.tolist(), a.keeps.tolist()) == ([False, True], [False, True])
    assert (b.reads.tolist(), b.keeps.tolist()) == ([False, True], [False, True])
    assert (c.reads.tolist(), c.keeps.tolist()) == ([False, True], [True])


def test_a_constant_channel_ends_at_padded_edges_unless_it_is_zero():
    for bias, ends in ((2.0, True), (-2.0, False)):
        first = filled(nn.Conv2d(1, 2, 1), [0.0, 1.0], [bias, 0.0])
        (_, padded), _ = flow([first, nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1)])
        (_, plain), _ = flow([first, nn.ReLU(), nn.Conv2d(2, 1, 3)])
        (_, pooled), _ = flow([first, nn.ReLU(), nn.AvgPool2d(2, padding=1), nn.Conv2d(2, 1, 3)])
        assert bool(padded.known[0].isnan()) == bool(pooled.known[0].isnan()) == ends
        assert plain.known[0] == max(bias, 0.0)


def test_flatten_spreads_a_channel_over_its_places():
    layers = [filled(nn.Conv2d(1, 2, 1), [0.0, 1.0], [2.0, 0.0]), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 1)]
    with torch.no_grad():
        layers[-1].weight.copy_(torch.tensor([[1.0, 1, 1, 1, 0, 0, 5, 0]]))
    (first, last), _ = flow(layers)
    assert last.spread == 4 and last.known[:4].tolist() == [2.0] * 4 and last.known[4:].isnan().all()
    assert last.reads.nonzero()[:, 0].tolist() == [6] and first.keeps.tolist() == [False, True]


def test_a_layer_keeps_an_input_where_all_are_idle():
    (first, last), _ = flow([filled(nn.Linear(2, 1), [[0.0, 0.0]], [1.0]), filled(nn.Linear(1, 1), [[1.0]], [0.0])])
    assert first.reads.tolist() == [True, False] and last.reads.tolist() == [True]


def test_convolutions_with_groups_or_other_edges_are_not_known():
    assert is_weighted(nn.Conv2d(2, 2, 3)) and is_weighted(nn.Linear(2, 2))
    assert not is_weighted(nn.Conv2d(2, 2, 3, groups=2))
    assert not is_weighted(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"))
    found, walls = flow([nn.Linear(2, 2), nn.Conv2d(2, 2, 1, groups=2), nn.Linear(2, 2)])
    assert walls == [1] and found[0].keeps.all() and not found[1].free
