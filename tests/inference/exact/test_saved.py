"""Closed forms of every family as data, and back: the same draws and densities."""

import json

import pytest
import torch

import credo
from credo.inference.exact.mixture import log_prob
from credo.inference.exact.saved import MAKERS, STORED, components_of_file, exact_as_data
from credo.inference.storage.values import restored
from tests.cases.posterior import ACCEPTED

FAST = (
    "regression",
    "eight schools, known sd",
    "urns",
    "hidden markov, 100 sites",
    "fair or biased",
    "place and speed",
)


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in ACCEPTED])
def test_a_closed_form_is_the_same_again(name):
    exact, tensors = credo.exact(ACCEPTED[name].model, *ACCEPTED[name].data), {}
    described = json.loads(json.dumps(exact_as_data(exact, tensors, True), allow_nan=False))
    components = components_of_file(restored(described["components"], tensors, STORED))
    torch.manual_seed(0)
    before = exact.components[0].blocks[0].sample(3) if exact.components[0].blocks else {}
    torch.manual_seed(0)
    again = components[0].blocks[0].sample(3) if components[0].blocks else {}
    assert before.keys() == again.keys() and all(torch.equal(before[site], again[site]) for site in before)
    z = {site: value[0] for site, value in exact._latents(1, 1).items()}
    assert torch.equal(log_prob(components, z), log_prob(exact.components, z))
    assert [c.log_weight for c in components] == [c.log_weight for c in exact.components]


def test_a_block_of_another_maker_is_refused():
    with pytest.raises(KeyError):
        components_of_file([[{}, 0.0, [["os.system", ()]], None]])
    assert sorted(MAKERS) == ["family", "finite", "gaussian", "normal-gamma"]
