"""Which exact posterior a fit is compared with: the one beside its model, else the one that is derived."""

import functools
import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal, kl_divergence

import credo
from credo.inference.evaluation.oracle import find_oracle, name_of
from tests.cases import beside
from tests.cases.normal_mean import Y, answer, guide


def test_the_exact_posterior_is_derived_where_none_stands_beside_the_model(fit, derived):
    table = credo.compare(fit)
    wanted = answer(Y)
    q, p = Normal(torch.tensor(0.5).double(), torch.tensor(0.6).double()), wanted.marginals["z"]
    row = table.loc["z"]
    assert row["exact mean"] == pytest.approx(p.mean.item()) and row["exact sd"] == pytest.approx(p.stddev.item())
    assert row["kl"] == pytest.approx(kl_divergence(q, p).item(), rel=1e-5)
    assert row["W2"] == pytest.approx(math.hypot(0.5 - p.mean.item(), 0.6 - p.stddev.item()), rel=1e-5)
    assert table.attrs["against"] == "credo.exact"
    gap = table.attrs["evidence_gap"]
    assert gap == pytest.approx(kl_divergence(q, p).item(), abs=5 * table.attrs["elbo_error"])
    assert f"{gap:.4g}" in table.attrs["gap_in_words"]


def test_a_posterior_beside_the_model_goes_first(derived):
    coin = credo.load("coin_toss")
    table = credo.compare(credo.fit(coin.model, coin.guide, torch.ones(3), steps=0))
    assert not derived.calls and "beside the model" in table.attrs["against"]


def test_no_closed_form_is_said_with_the_reason_and_the_remedy(fit, derived):
    derived.answer = credo.NoClosedForm("site 'z': tried Normal, off by 0.3 nats")
    with pytest.raises(ValueError, match=r"'model': site 'z': tried Normal.*credo.reference\(model, \*data\)"):
        credo.compare(fit)


@pytest.mark.parametrize("more", [(), (torch.nn.Identity(),)], ids=["tensors", "a network"])
@pytest.mark.parametrize("words", ["p(w) is improper: there is nothing to draw from", ""], ids=["words", "no word"])
def test_a_prior_without_draws_has_no_exact_posterior(more, words):
    """p(w) = 1 / |w|, as that of bnn_sparse: the model runs with its guide only."""

    class LogUniform(dist.TorchDistribution):
        support, arg_constraints = dist.constraints.real, {}

        def sample(self, sample_shape=()):
            raise NotImplementedError(words)

        def log_prob(self, value):
            return -value.abs().log()

    def improper(y, net=None):
        z = pyro.sample("z", LogUniform(validate_args=False))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def anywhere(y, net=None):
        guide(y)

    fit = credo.fit(improper, anywhere, Y, *more, steps=0)
    with pytest.raises(ValueError, match=rf"'improper': .*prior.*: {re.escape(words)}.*function posterior"):
        credo.compare(fit)


def test_trained_parameters_of_the_model_are_held(derived):
    """Empirical Bayes: the prior's mean is learnt, and the posterior is that of the mean it has come to."""
    seen = []

    def learnt(y):
        z = pyro.sample("z", dist.Normal(pyro.param("prior", torch.tensor(3.0)), 2.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def find(y):
        nodes = pyro.poutine.trace(derived.calls[-1][0]).get_trace(y).nodes
        seen.append(nodes["z"]["fn"].loc.item())
        return answer(y, seen[-1])

    derived.answer = find
    fit = credo.fit(learnt, guide, Y, steps=50)
    table = credo.compare(fit)
    assert seen == [pytest.approx(fit.params["prior"].item())] and abs(seen[0] - 3.0) > 0.1
    assert table.attrs["evidence_gap"] == pytest.approx(table["kl"].item(), abs=5 * table.attrs["elbo_error"] + 1e-6)


@pytest.mark.parametrize("mean", [0.0, 7.0])
def test_a_setting_of_the_model_is_one_of_the_posterior_beside_it(derived, mean):
    program = functools.partial(functools.partial(beside.model, prior_mean=1.0), prior_mean=mean)
    found, where = find_oracle(credo.fit(program, guide, Y, steps=0), seed=0)
    wanted = answer(Y, mean)
    assert where == "the function posterior beside the model" and not derived.calls
    assert found.marginals["z"].mean.item() == pytest.approx(wanted.marginals["z"].mean.item())
    assert found.log_evidence == pytest.approx(wanted.log_evidence)


def test_the_posterior_beside_another_model_is_not_taken(derived):
    """A function of the same file that is not its `model`: the posterior there is none of it."""

    def other(y):
        beside.model(y, 3.0)

    other.__module__ = beside.__name__
    _, where = find_oracle(credo.fit(other, guide, Y, steps=0), seed=0)
    assert where == "credo.exact" and len(derived.calls) == 1


def test_the_derived_posterior_is_the_closed_form(fit):
    found, where = find_oracle(fit, seed=0)
    wanted = answer(Y)
    assert where == "credo.exact"
    assert found.log_evidence == pytest.approx(wanted.log_evidence, rel=1e-5)
    assert found.marginals["z"].mean.item() == pytest.approx(wanted.marginals["z"].mean.item(), rel=1e-5)
    assert name_of(found) == "what was given"
