"""Which networks are packed, and the words for those that are not; outputs are compared in test_packed.py."""

import re

import pytest
from torch import nn

from credo.sparsity.pack import pack

CONVOLUTION = nn.Conv2d(1, 2, 3)
REFUSED = {
    "Conv2d has strides": nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Flatten(), nn.Linear(8, 2)),
    "Conv2d has padding='same'": nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten(), nn.Linear(8, 2)),
    "Conv2d has padding=.*circular": nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
    "Conv2d reads the outputs of a linear layer": nn.Sequential(nn.Linear(3, 3), CONVOLUTION),
    "MaxPool2d has padding": nn.Sequential(CONVOLUTION, nn.MaxPool2d(2, padding=1)),
    "or comes before convolutions": nn.Sequential(nn.MaxPool2d(2), CONVOLUTION),
    "Flatten comes between linear layers": nn.Sequential(nn.Linear(3, 3), nn.Flatten(), nn.Linear(3, 3)),
    "Linear reads images": nn.Sequential(CONVOLUTION, nn.Linear(3, 3)),
    "ReLU comes before": nn.Sequential(nn.ReLU(), nn.Linear(3, 3)),
    "GELU is none of the layers": nn.Sequential(nn.Linear(3, 3), nn.GELU()),
    "it does not end in linear layers": nn.Sequential(CONVOLUTION, nn.ReLU()),
    "Linear has weights of torch.float64": nn.Linear(3, 3).double(),
    "Linear has 65,537 inputs": nn.Linear(65_537, 1),
    "Bilinear is none": nn.Bilinear(2, 2, 2),
    "it does not end": nn.Sequential(),
}


@pytest.mark.parametrize("why", REFUSED)
def test_other_networks_are_refused_in_words(why):
    found = pack(REFUSED[why].eval())
    assert isinstance(found, str)
    assert re.search(why, found)


def test_hooks_are_refused():
    layer = nn.Linear(3, 3)
    layer.register_forward_hook(lambda *_: None)
    assert pack(layer) == "Linear has hooks"
