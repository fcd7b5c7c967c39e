"""Why a site has its estimator and none of the others: the words of a plan and of its refusals."""

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.planning.reasons import nothing_left, reason, refuse_unknown, ruled_out
from tests.cases.planned import X, guide, model


def test_what_was_ruled_out_says_why():
    table = credo.plan(model, guide, X).frame["ruled_out"]
    for site, words in {
        "loc": ["local, flipout: the model reads it in", "times the variance x work"],
        "k": ["pathwise: Bernoulli has no rsample"],
    }.items():
        for word in words:
            assert word in table[site]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"z": "score"}, ["'z'", "no latent site", "'loc'"]),
        ({"loc": "magic"}, ["'loc'", "'magic'", "'sampled', 'enumerate', 'one-flip'"]),
        ({"k": "pathwise"}, ["'k'", "Bernoulli has no rsample", "use 'enumerate' or 'one-flip' or 'score'"]),
        ({"point": "score"}, ["'point'", "no density", "use 'pathwise'"]),
    ],
)
def test_an_illegal_override_is_refused_with_the_reason(override, words, unchanged):
    with unchanged(), pytest.raises(ValueError) as caught:
        credo.plan(model, guide, X, plan=override)
    for word in words:
        assert word in str(caught.value)


def no_way(x):
    z = pyro.sample("z", dist.Uniform(0.0, 2.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal((z > 1).float(), 1.0), obs=x)


def no_way_guide(x):
    pyro.sample("z", dist.Uniform(0.0, pyro.param("top", torch.tensor(1.5), constraint=constraints.positive)))


def test_where_nothing_is_unbiased_the_error_names_the_site_the_reasons_and_the_remedy():
    with pytest.raises(ValueError) as caught:
        credo.fit(no_way, no_way_guide, X)
    for words in ("'z'", "pathwise: the log density jumps", "score: its support moves", "with a fixed support"):
        assert words in str(caught.value)


def test_an_estimator_that_was_asked_for_says_what_would_be_taken_instead():
    options = {"z": {"pathwise": None, "score": None, "enumerate": "z has no values"}}
    seen = SimpleNamespace(facts=SimpleNamespace(options=options))
    assert reason("z", "pathwise", True, seen) == "asked for"
    assert reason("z", "score", True, seen).startswith("asked for; pathwise is legal too")
    assert reason("z", "enumerate", True, seen) == "forced, though z has no values"


def test_one_cause_is_given_once_and_a_point_has_none():
    options = {"pathwise": "it jumps", "score": "its support moves", "sampled": None}
    found = ruled_out({"fn": dist.Normal(0.0, 1.0), "infer": {}}, options | {"score": "it jumps"})
    assert found == ("pathwise, score: it jumps",)
    assert ruled_out({"fn": dist.Delta(torch.tensor(0.0)), "infer": {}}, options) == ()
    assert "pathwise: it jumps; score: its support moves" in nothing_left("z", options)


def test_an_unknown_site_or_estimator_is_refused_and_a_known_one_is_not():
    refuse_unknown({"z": "score"}, {"z": None})
    with pytest.raises(ValueError, match=r"'w' is no latent site of the guide; its sites are \['z'\]"):
        refuse_unknown({"w": "score"}, {"z": None})
    with pytest.raises(ValueError, match=r"got estimator 'scores', wanted one of .*'pathwise', 'score'"):
        refuse_unknown({"z": "scores"}, {"z": None})
