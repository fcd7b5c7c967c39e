"""Posteriors found by `credo.exact` beside the textbooks'; oracles and tolerances: `tests.cases.posterior.oracles`."""

import dataclasses
import math
import pickle

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import config_enumerate

import credo
from tests.cases.posterior import ACCEPTED, EITHER
from tests.cases.posterior.oracles import check, close

SINGULAR = "ignore:Singular sample detected"  # torch says so of every Wishart draw


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_posterior_of_the_textbook_is_found(name):
    case = ACCEPTED[name]
    check(credo.exact(case.model, *case.data), case)


@pytest.mark.filterwarnings(SINGULAR)
@pytest.mark.parametrize("name", EITHER)
def test_what_is_beyond_the_promise_is_right_or_refused(name):
    case = EITHER[name]
    try:
        exact = credo.exact(case.model, *case.data)
    except credo.NoClosedForm as error:
        sites = poutine.trace(case.model).get_trace(*case.data).nodes
        assert any(f"site {site!r}" in str(error) for site in sites), error
    else:
        check(exact, case)


def test_nothing_else_in_the_process_changes(unchanged):
    for name in ("coin", "regression, float32", "last layer, float32", "sprinkler", "fair or biased"):
        case = ACCEPTED[name]
        net = [m.state_dict() for m in case.data if isinstance(m, torch.nn.Module)]
        before = [{k: v.clone() for k, v in state.items()} for state in net]
        with unchanged():
            credo.exact(case.model, *case.data)
        pyro.clear_param_store()
        for old, new in zip(before, net, strict=True):
            assert all(torch.equal(old[k], new[k]) and old[k].dtype == new[k].dtype for k in old)


@pytest.mark.parametrize(
    "name", ["coin", "normal-gamma", "regression", "sprinkler", "change point", "eight schools, known sd"]
)
def test_the_answer_is_the_same_whatever_the_seed_outside(name):
    case, found = ACCEPTED[name], []
    for seed in (1, 2):
        pyro.set_rng_seed(seed)
        found.append(credo.exact(case.model, *case.data))
    assert found[0].log_evidence == pytest.approx(found[1].log_evidence, abs=1e-10)
    draws = [exact.sample(10, seed=3) for exact in found]
    for site in case.marginals:  # torch's sums round differently where a tensor is aligned differently
        close(site, draws[0][site].double(), draws[1][site].double(), 1e-10)


@pytest.mark.parametrize("name", ["coin", "normal-gamma", "regression", "sprinkler", "fair or biased"])
def test_the_default_dtype_does_not_matter(name, double):
    case = ACCEPTED[name]
    check(credo.exact(case.model, *case.data), case)


def test_the_result_is_frozen():
    exact = credo.exact(ACCEPTED["coin"].model, *ACCEPTED["coin"].data)
    assert dataclasses.is_dataclass(exact) and isinstance(exact.log_evidence, float)
    with pytest.raises(dataclasses.FrozenInstanceError):
        exact.log_evidence = 0.0


@pytest.mark.parametrize("sigma", [0.7, None])
def test_the_posterior_by_hand_of_the_linear_regression_agrees(sigma):
    pair = credo.load("linear_regression")
    X, y = (v.double() for v in pair.data())
    by_hand = pair.posterior(X, y, sigma=sigma)
    exact = credo.exact(lambda X, y: pair.model(X, y, sigma=sigma), X, y)
    same(exact, by_hand)


def test_the_posterior_by_hand_of_the_coin_agrees():
    pair = credo.load("coin_toss")
    (flips,) = pair.data()
    same(credo.exact(pair.model, flips[:5000]), pair.posterior(flips[:5000]))


def same(exact, by_hand):
    assert exact.log_evidence == pytest.approx(by_hand.log_evidence, abs=1e-6)
    for site, oracle in by_hand.marginals.items():
        mean, sd = oracle.mean.double(), oracle.variance.double().sqrt()
        close(site, exact.marginals[site].mean, mean, 1e-8 * torch.maximum(mean.abs(), sd))
        close(site, exact.marginals[site].variance.sqrt(), sd, 1e-8 * sd)


def test_tables_and_arrays_are_taken_as_by_fit():
    case = ACCEPTED["regression"]
    X, y = case.data
    check(credo.exact(case.model, X.numpy(), y.numpy()), case)
    check(credo.exact(case.model, pd.DataFrame(X.numpy()), pd.Series(y.numpy())), case)


def test_what_pyro_wants_said_of_finite_sites_may_be_said():
    case = ACCEPTED["sprinkler"]
    check(credo.exact(config_enumerate(case.model), *case.data), case)


def shifted_coin(flips):
    """A parameter and a deterministic site are no latents."""
    a = pyro.param("a", torch.tensor(2.0))
    p = pyro.sample("p", dist.Beta(a, 3.0))
    pyro.deterministic("odds", p / (1 - p))
    with pyro.plate("flip rows", len(flips)):
        pyro.sample("flip", dist.Bernoulli(p), obs=flips)


def test_parameters_of_the_model_and_deterministic_sites_are_no_latents():
    case = ACCEPTED["coin"]
    check(credo.exact(shifted_coin, *case.data), case)


def test_a_model_of_many_plated_latents_is_solved_at_once():
    """1,000 Betas; their evidence by the formula of one, added up."""
    trials = 5.0 + torch.arange(1000).double() % 7
    hits = (torch.arange(1000).double() * 0.37 % 1 * trials).floor()

    def model(trials, hits):
        with pyro.plate("group", len(hits)):
            p = pyro.sample("p", dist.Beta(1.5, 2.0))
            pyro.sample("hits", dist.Binomial(trials, p), obs=hits)

    exact = credo.exact(model, trials, hits)
    a, b = 1.5 + hits, 2.0 + trials - hits
    close("p", exact.marginals["p"].mean, a / (a + b), 1e-8)
    log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    prior = math.lgamma(1.5) + math.lgamma(2.0) - math.lgamma(3.5)
    ways = torch.lgamma(trials + 1) - torch.lgamma(hits + 1) - torch.lgamma(trials - hits + 1)
    assert abs(exact.log_evidence - (log_beta - prior + ways).sum().item()) <= 1e-6


def two_latents(y):
    s = pyro.sample("s", dist.Gamma(2.0, 2.0))
    m = pyro.sample("m", dist.Normal(0.0, s**-0.5))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, s**-0.5), obs=y)


@pytest.mark.parametrize("updated", [False, True])
def test_a_posterior_is_stored_with_all_it_knows(updated):
    found = credo.exact(two_latents, torch.tensor([1.0, 2.0]))
    found = found.update(torch.tensor([3.0])) if updated else found
    again = pickle.loads(pickle.dumps(found))
    assert (again.log_evidence, again.updated) == (found.log_evidence, updated)
    assert torch.equal(again.sample(5)["m"], found.sample(5)["m"])
    # The sums run over other memory: vectorised code may add in another order, in the last digit.
    more = torch.tensor([4.0])
    assert again.update(more).log_evidence == pytest.approx(found.update(more).log_evidence, rel=1e-12)
