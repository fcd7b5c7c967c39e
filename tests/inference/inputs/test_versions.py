"""Data of a call before: the same objects, and unchanged."""

import numpy as np
import torch

from credo.inference.inputs.versions import unchanged, versions


def test_tensors_are_known_until_they_change_in_place():
    x, net = torch.zeros(3), torch.nn.Linear(1, 1)
    before = versions((x, net, None, 2.0))
    assert unchanged((x, net, None, 2.0), versions((x, net, None, 2.0)))
    assert not unchanged((x, net, None), before) and not unchanged((x.clone(), net, None, 2.0), before)
    x += 1
    assert not unchanged((x, net, None, 2.0), before)


def test_nothing_counts_the_changes_of_an_array():
    x = np.zeros(3)
    assert not unchanged((x,), versions((x,)))
