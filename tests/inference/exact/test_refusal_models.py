"""What has no closed form is refused, with the site and a true reason; nothing is approximated."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases.posterior import ACCEPTED
from tests.cases.posterior.oracles import randn, refused, t
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


WEIGHTS = [1.0, 0.1, 0.01, 1e-3]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_part_of_the_likelihood_that_fits_no_family_is_found_however_light(weight):
    """One row of a t beside 20 normal ones, its log density weighted."""

    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(z, 0.7), obs=y)
        pyro.factor("t", weight * dist.StudentT(4.0, z, 1.0).log_prob(torch.tensor(0.5)))

    assert "'z'" in refused(model, (torch.linspace(-1, 2, 20, dtype=torch.float64),))


def test_one_row_of_a_plate_that_fits_no_family_is_found():
    """A thousand normal rows, and one of Student's t."""

    def model(y):
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 2.0))
            odd = torch.arange(len(y)) == 617
            with pyro.poutine.mask(mask=~odd):
                pyro.sample("y", dist.Normal(z, 0.7), obs=y)
            with pyro.poutine.mask(mask=odd):
                pyro.sample("t", dist.StudentT(4.0, z, 1.0), obs=y)

    assert "'z'" in refused(model, (torch.linspace(-1, 2, 1000, dtype=torch.float64),))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("i", range(20))
def test_a_kink_five_sds_away_in_one_of_twenty_coefficients_is_found(i, sign):
    def model(X, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(20, dtype=X.dtype), 1.0).to_event(1))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(X @ w + torch.relu(sign * w[i] - 5), 1.0), obs=y)

    assert "'w'" in refused(model, (randn(71, 40, 20), randn(72, 40)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("i", [0, 250, 500, 999])
def test_a_kink_five_sds_away_in_one_row_of_a_thousand_is_found(i, sign):
    def model(y):
        odd = (torch.arange(len(y)) == i).to(y.dtype)
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z + odd * torch.relu(sign * z - 5), 1.0), obs=y)

    assert "'z'" in refused(model, (randn(73, 1000),))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_latent_that_matters_only_four_sds_out_is_found(sign):
    """The evidence of the jointly normal model would be wrong by 4e-6 nats."""

    def model(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(a + torch.relu(sign * b - 4), 0.7), obs=y)

    refused(model, (t(1.3, 0.2, 2.0, -0.7, 0.9, 1.1),))


@pytest.mark.parametrize("width", [0.3, 0.1, 0.05])
@pytest.mark.parametrize("place", [0.0, 1.0, -1.5, 2.0])
def test_a_dent_in_the_density_is_found(place, width):
    """A tenth of a nat deep. The evidence would be wrong by 5e-4 nats where it is narrowest and farthest out."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("dent", -0.1 * torch.exp(-(((z - place) / width) ** 2)))

    assert "'z'" in refused(model, ())


@pytest.mark.parametrize("counts", [t(0, 0, 1), t(0, 0, 0)])
def test_a_rate_that_is_held_from_below_is_refused(counts):
    """The evidence would be wrong by 5e-6 and 8e-6 nats."""

    def model(counts):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("row", len(counts)):
            pyro.sample("count", dist.Poisson(rate.clamp(min=0.01)), obs=counts)

    assert "'rate'" in refused(model, (counts,))


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
