"""What tells a sweep from another: code, bound settings, layers and data, but not lines, names of files or weights."""

import functools

import numpy as np
import torch
from torch import nn

from credo.sweeps.identity import program_identity, sweep_identity


def test_the_code_of_a_function_tells_it_and_its_lines_do_not():
    programs = {}
    for name, text in {
        "one": "def f(x):\n    return [x + 1 for _ in x]",
        "two": "\n\n# moved\ndef f(x):\n\n    return [x + 1 for _ in x]",
        "other": "def f(x):\n    return [x + 2 for _ in x]",
    }.items():
        exec(text, names := {})
        programs[name] = program_identity(names["f"])
    assert programs["one"] == programs["two"] != programs["other"]

    def f(x, sd=1.0):
        return x

    assert program_identity(functools.partial(f, sd=1.0)) == program_identity(functools.partial(f, sd=1.0))
    bound = [program_identity(functools.partial(f, **settings))[1] for settings in ({}, {"sd": 1.0}, {"sd": 2.0})]
    assert len(set(bound)) == 3


def test_data_by_values_networks_by_layers_and_large_arrays_by_rows_spread_over_them(tmp_path):
    def f(net, x):
        return x

    def told(net, x):
        return sweep_identity(f, (net, x))

    x = torch.arange(6.0)
    assert told(nn.Linear(2, 3), x) == told(nn.Linear(2, 3), x.clone()) != told(nn.Linear(2, 3), x + 1)
    assert told(nn.Linear(2, 3), x) != told(nn.Linear(2, 4), x)
    large = np.memmap(tmp_path / "x", np.uint8, "w+", shape=(2**19, 70))
    before = told(nn.Linear(2, 3), large)
    large[:: len(large) // 1000] += 1
    assert told(nn.Linear(2, 3), large) != before
