"""Models without a closed form are refused, by the name of the site and with a true reason."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn.functional import softplus

import credo

torch.manual_seed(0)
NOISE = torch.randn(20)


def of_mean(likelihood, prior=None):
    """A model whose latent w enters the density of 20 rows by this function."""

    def model(x):
        w = pyro.sample("w", prior or dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", likelihood(w), obs=x)

    return model


def signed(w):
    return w if w > -5 else -w


REFUSED = {
    "student t, a million": (of_mean(lambda w: dist.StudentT(1e6, w, 1.0)), "Normal"),
    "relu, 500 sds away": (of_mean(lambda w: dist.Normal(torch.relu(w + 500), 1.0)), "Normal"),
    "a branch": (of_mean(lambda w: dist.Normal(signed(w), 1.0)), "from Python"),
    "softplus": (of_mean(lambda w: dist.Normal(softplus(w + 30), 1.0)), "Normal"),
    "laplace": (of_mean(lambda w: dist.Laplace(w, 1.0)), "Normal"),
    "half-normal sd": (of_mean(lambda w: dist.Normal(0.0, w), dist.HalfNormal(1.0)), "Gamma"),
    "log-normal precision": (of_mean(lambda w: dist.Normal(0.0, w**-0.5), dist.LogNormal(0.0, 1.0)), "Gamma"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_almost_conjugate_is_refused(case):
    model, words = REFUSED[case]
    with pytest.raises(credo.NoClosedForm, match=words):
        credo.exact(model, NOISE)


def test_a_support_that_depends_on_a_latent_is_refused():
    with pytest.raises(credo.NoClosedForm, match=r"'x' \(Uniform\)"):
        credo.exact(of_mean(lambda w: dist.Uniform(0.0, w), dist.Gamma(2.0, 1.0)), NOISE.abs())


def test_a_clamp_far_from_the_posterior_is_found():
    model = of_mean(lambda w: dist.Bernoulli(w.clamp(1e-6, 1 - 1e-6)), dist.Beta(2.0, 2.0))
    with pytest.raises(credo.NoClosedForm, match="Beta"):
        credo.exact(model, (NOISE > 0).float())


def two_factors(x):
    w, v = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "wv")
    pyro.sample("x", dist.Normal(w * v, 1.0), obs=x[0])


def mean_apart_from_precision(x):
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.0))
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, tau**-0.5), obs=x)


def some_values_only(x):
    if pyro.sample("k", dist.Bernoulli(0.5)) > 0:
        pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(0.0, 1.0), obs=x[0])


def many_assignments(x):
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(mu[k.long()], 1.0), obs=x)


def part_of_the_rows(x):
    p = pyro.sample("p", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x), subsample_size=5) as rows:
        pyro.sample("x", dist.Normal(p, 1.0), obs=x[rows])


def improper_rate(x):
    rate = pyro.sample("rate", dist.Gamma(0.5, 1.0))
    pyro.factor("more", -2 * rate.log())
    pyro.sample("x", dist.Poisson(rate), obs=torch.zeros(()))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (two_factors, "'w', 'v'.*depend on each other"),
        (mean_apart_from_precision, "'tau', 'mu'.*normal-gamma"),
        (some_values_only, "'a' exists for some values"),
        (many_assignments, "'k'.*too many"),
        (part_of_the_rows, "subsampled to 5 of 20"),
        (improper_rate, "'rate': the posterior is improper"),
    ],
)
def test_the_reason_names_the_site(model, words):
    with pytest.raises(credo.NoClosedForm, match=words):
        credo.exact(model, NOISE)


def beside(x):
    """The Beta is conjugate; z is not."""
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("flip", dist.Bernoulli(p), obs=(x > 0).double())
        pyro.sample("x", dist.StudentT(5.0, z, 1.0), obs=x)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (of_mean(lambda w: dist.StudentT(30.0, w, 1.0)), r"site 'w'.*nearest is Normal: .* nats within \d+ sds? of"),
        (
            of_mean(lambda w: dist.Normal(0.0, w.exp())),
            r"site 'w'.*Normal: .* varies by [\d.e+]+ nats (within|over)",
        ),
        (beside, "^site 'z': no closed form; nearest is Normal"),
    ],
)
def test_the_site_that_fails_nearest_to_the_posterior_is_named_and_how_near_that_is(model, words):
    with pytest.raises(credo.NoClosedForm, match=words):
        credo.exact(model, NOISE)
