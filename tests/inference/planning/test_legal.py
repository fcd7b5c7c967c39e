"""Laws that every estimator of the list obeys, and what a pair's checks find."""

from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from credo.inference.estimators import estimator as contract
from credo.inference.estimators.recipe import Recipe
from credo.inference.pair.pair import Pair
from credo.inference.planning.legal import BY_NAME, ESTIMATORS, examine, fullest

X = torch.tensor([0.2, 1.4])


def model(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    n = pyro.sample("n", dist.Poisson(2.0))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(w + k + n, 1.0), obs=x)


def guide(x):
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0))
    pyro.sample("n", dist.Poisson(torch.tensor(2.0)))
    with pyro.plate("N", len(x)):
        pyro.sample("k", dist.Bernoulli(logits=pyro.param("logit", torch.zeros(2))))


@pytest.fixture
def seen():
    with pyro.validation_enabled(False):  # as in a run: validation reads values, which `vmap` refuses
        return examine(Pair(model, guide, (X,)), poutine.trace(guide).get_trace(X), True)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: e.name)
def test_an_estimator_has_the_name_of_its_file_and_an_answer_for_every_site(estimator, seen):
    assert (Path(contract.__file__).parent / f"{estimator.name.replace('-', '_')}.py").is_file()
    with pyro.validation_enabled(False):
        found = estimator.why_not(seen)
    assert found.keys() == {"w", "n", "k"} and all(why is None or why for why in found.values())
    for site, why in found.items():
        if why is None:
            assert estimator.because(site, seen, seen.facts.options[site])
    assert estimator.enter(Recipe(), contract.Choice([], {}, seen.facts)) == Recipe()


def test_the_options_are_what_the_distributions_allow(seen):
    options = seen.facts.options
    legal = {site: {word for word, why in found.items() if why is None} for site, found in options.items()}
    assert legal == {"w": {"pathwise", "score"}, "n": {"sampled", "score"}, "k": {"enumerate", "one-flip", "score"}}
    assert seen.facts.kl == {"w": "w", "k": "k", "n": "n"} and seen.facts.values["k"].tolist() == [0.0, 1.0]
    assert list(BY_NAME) == list(seen.facts.options["w"])


def test_of_some_traces_the_fullest_is_taken():
    def branching(x):
        if pyro.sample("a", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0)) > 0:
            pyro.sample("b", dist.Normal(pyro.param("n", torch.tensor(0.0)), 1.0))

    pair = Pair(model, branching, (X,))
    traces = [poutine.trace(branching).get_trace(X) for _ in range(20)]
    smallest = min(traces, key=lambda trace: len(trace.nodes))
    assert "b" not in smallest.nodes and "b" in fullest(pair, smallest).nodes
