"""The objects that a program can reach, in each way that Python lets it, and those that it cannot."""

import functools
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from credo.inference.runtime.reachable import find_modules, is_the_users, reachable

GLOBAL = nn.Linear(1, 1)


class Holder:
    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def method(self) -> nn.Module:
        return self.net


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)


def by_global():
    return GLOBAL


def through_another():
    return by_global()


def closure(net):
    return lambda: net


def default(net):
    return lambda x=net: x


def keyword(net):
    return lambda *, x=net: x


WAYS = {
    "itself": lambda net: net,
    "a list in a dict": lambda net: {"nets": [(net,)]},
    "a closure": closure,
    "a closure of a closure": lambda net: closure(closure(net)),
    "a default": default,
    "a keyword default": keyword,
    "a partial's argument": lambda net: functools.partial(print, net),
    "a partial's keyword": lambda net: functools.partial(print, end=net),
    "a method": lambda net: Holder(net).method,
    "an attribute": lambda net: Holder(Holder(net)),
    "a method of a partial": lambda net: functools.partial(Holder(net).method),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_network_is_found_by(way):
    net = nn.Linear(1, 1)
    assert find_modules([WAYS[way](net), WAYS[way](net)]) == [net]  # once


@pytest.mark.parametrize("function", [by_global, through_another])
def test_a_global_of_the_functions_file_is_found(function):
    assert find_modules(function) == [GLOBAL]


def test_networks_and_libraries_are_not_entered():
    net = Net()
    assert find_modules(net) == [net]  # its layers are part of it
    array, tensor = np.zeros(2).view(np.ndarray), torch.zeros(2)
    tensor.hidden = nn.Linear(1, 1)  # an attribute that somebody set on a library's object
    assert find_modules([array, tensor, torch, OrderedDict]) == []
    assert [is_the_users(thing) for thing in (Holder(net), tensor, array, torch, Holder, 3.0)] == [True] + 5 * [False]


def test_what_reaches_itself_ends_and_a_name_without_value_is_no_error():
    loop = Holder(GLOBAL)
    loop.net = [loop]
    assert sum(thing is loop for thing in reachable(loop)) == 1

    def early():
        return later

    assert list(reachable(early)) == [early, None]  # its defaults; `later` has no value yet
    later = GLOBAL
    assert find_modules(early) == [later]
