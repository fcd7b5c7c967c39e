"""What has no closed form is refused, with the site and a true reason; nothing is approximated."""

import re

import pyro
import pyro.distributions as dist
import pytest

import credo
from tests.cases.posterior import ACCEPTED
from tests.cases.posterior.oracles import refused, t
from tests.cases.posterior.refused import REFUSED

MEASURED = set(REFUSED) - {  # those where a family was tried: the message says by how much it failed
    "mixture of 50 rows",
    "site there only at times",
    "subsampled plate",
    "dropout",
    "dropout in a network",
    "poisson latent",
    "geometric latent",
    "LKJ",
    "von mises",
    "branch",
    "branch, 3 sds away",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_closed_form_is_refused_with_the_site_and_the_reason(name):
    case = REFUSED[name]
    message = refused(case.model, case.data)
    assert any(repr(site) in message for site in case.sites), message
    assert re.search(case.words, message, re.IGNORECASE), message
    assert name not in MEASURED or re.search(r"\d", message), message


@pytest.mark.parametrize("name", ["t with 300 dof", "weak exotic term", "relu, 5 sds away", "step, 4 sds away"])
def test_what_is_nearly_conjugate_is_refused_whatever_the_seed_outside(name):
    case = REFUSED[name]
    for seed in range(5):
        pyro.set_rng_seed(seed)
        refused(case.model, case.data)


def test_a_refusal_is_a_value_error_and_leaves_nothing_behind(unchanged):
    assert issubclass(credo.NoClosedForm, ValueError)
    for name in ("t with 30 dof", "subsampled plate", "branch", "dropout in a network"):
        with unchanged():
            refused(REFUSED[name].model, REFUSED[name].data)


def test_a_conjugate_site_beside_one_that_is_not_does_not_save_the_model():
    def model(y):
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("flip", dist.Bernoulli(p), obs=(y > 0).to(y.dtype))
            pyro.sample("y", dist.StudentT(5.0, z, 1.0), obs=y)

    message = refused(model, (t(1.3, 0.2, 2.0, -0.7),))
    assert "'z'" in message


def test_an_improper_posterior_is_refused():
    """exp(+z^2) outgrows the prior: the integral over z is infinite."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("push", z**2)

    assert "'z'" in refused(model, ())


def test_data_outside_the_support_is_refused():
    """Bernoulli's formula has a value at 2, and it is no log density."""
    model = ACCEPTED["coin"].model
    with pytest.raises(ValueError, match="flip"):
        credo.exact(model, t(1.0, 2.0, 0.0))
