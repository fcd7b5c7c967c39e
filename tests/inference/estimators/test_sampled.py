"""Sites without parameters are drawn; one that gets parameters later is refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints as c

import credo

Y = torch.tensor([1.3, 0.2, 2.0])


class Later:
    """The units' probability depends on a parameter when somebody says so."""

    def __init__(self, finite: bool) -> None:
        self.learnt, self.finite = False, finite

    def model(self, y):
        mask = pyro.sample("mask", dist.Bernoulli(torch.full((2,), 0.9)).to_event(1))
        z = pyro.sample("z", dist.Bernoulli(0.5) if self.finite else dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z * mask.sum(), 1.0), obs=y)

    def guide(self, y):
        loc = pyro.param("loc", torch.tensor(0.0))
        p = 0.9 + 0.01 * loc if self.learnt else torch.tensor(0.9)
        pyro.sample("mask", dist.Bernoulli(p.expand(2)).to_event(1))
        pyro.sample("z", dist.Bernoulli(logits=loc) if self.finite else dist.Normal(loc, 1.0))


@pytest.mark.parametrize("vectorised", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("finite", [False, True], ids=["alone", "beside a finite site"])
def test_a_site_without_parameters_that_gets_one_later_is_refused(finite, vectorised):
    pair = Later(finite)
    runner = credo.SVI(pair.model, pair.guide)
    plan = runner.prepare(Y)
    assert plan.estimator("mask") == "sampled" and plan.estimator("z") == ("enumerate" if finite else "pathwise")
    runner._steps.vectorised = vectorised
    runner.step(Y)
    pair.learnt = True
    with pytest.raises(ValueError, match=r"'mask'.*depends on parameters"):
        runner.step(Y)


def test_a_site_without_parameters_of_any_kind_is_sampled():
    """A Poisson has no finite support: where it has parameters it is a case for the score function."""

    def counts(rate):
        def guide(y):
            pyro.sample("n", dist.Poisson(rate()))
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

        return guide

    def model(y):
        n = pyro.sample("n", dist.Poisson(2.0))
        pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)) * n, 1.0), obs=y[0])

    fixed = credo.plan(model, counts(lambda: torch.tensor(2.0)), Y).frame
    assert fixed.loc["n", "estimator"] == "sampled" and "no parameters" in fixed.loc["n", "reason"]
    learnt = credo.plan(model, counts(lambda: pyro.param("r", torch.tensor(2.0), constraint=c.positive)), Y).frame
    assert learnt.loc["n", "estimator"] == "score" and "Poisson has no finite support" in learnt.loc["n", "reason"]
