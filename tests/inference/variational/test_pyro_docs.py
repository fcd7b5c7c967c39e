"""The examples of Pyro's documentation and tutorials, small, by credo's runner without the name of an ELBO.

After a few steps the loss that credo estimates is the exact -ELBO at the parameters where it stands, and the plan is
the estimator that the tutorial chooses by hand. `test_pyro_programs` runs those that keep Pyro's own SVI,
`test_pyro_docs_finite` those with finite latents, and the auto-encoders.
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.testing.fakes import NonreparameterizedBeta
from pyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal, AutoMultivariateNormal
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import Beta, Gamma, MultivariateNormal, Normal, kl_divergence

import credo
from tests.cases.elbo.expectations import param, positive

STEPS, LOOKS = 50, 40


def check(model, guide, data, exact):
    """The fit after some steps. There the mean loss is `exact` of the parameters, up to the noise of its draws."""
    runner = credo.SVI(model, guide, progress=False)
    fit = runner.run(*data, steps=STEPS)
    assert len(fit.losses) == STEPS and len(set(fit.losses)) > 1
    losses = torch.tensor([runner.evaluate_loss(*data) for _ in range(LOOKS)]).double()
    wanted = exact({name: value.double() for name, value in runner.params.items()}).item()
    assert losses.mean().item() == pytest.approx(wanted, rel=1e-5, abs=4.5 * losses.std().item() / LOOKS**0.5)
    assert losses.std() < 0.2 * abs(wanted)  # or the line above says nothing
    return fit


# SVI parts I, II and III: a coin, its flips in every form the tutorials write them.

FLIPS = torch.tensor([1.0] * 4 + [0.0] * 2)


def loop(flips, f):
    for i in range(len(flips)):
        pyro.sample(f"obs_{i}", dist.Bernoulli(f), obs=flips[i])


def sequential(flips, f):
    for i in pyro.plate("data_loop", len(flips)):
        pyro.sample(f"obs_{i}", dist.Bernoulli(f), obs=flips[i])


def vectorised(flips, f):
    with pyro.plate("observe_data", len(flips)):
        pyro.sample("obs", dist.Bernoulli(f), obs=flips)


def without_size(flips, f):
    with pyro.plate("observe_data"):
        pyro.sample("obs", dist.Bernoulli(f), obs=flips)


def few_in_a_loop(flips, f):
    for i in pyro.plate("data_loop", len(flips), subsample_size=3):
        pyro.sample(f"obs_{i}", dist.Bernoulli(f), obs=flips[i])


def few(flips, f):
    with pyro.plate("observe_data", size=6, subsample_size=3) as rows:
        pyro.sample("obs", dist.Bernoulli(f), obs=flips.index_select(0, rows))


def coin(observe):
    def model(flips):
        observe(flips, pyro.sample("latent_fairness", dist.Beta(torch.tensor(10.0), torch.tensor(10.0))))

    return model


def fairness(kind=dist.Beta, **infer):
    def guide(flips):
        pyro.sample("latent_fairness", kind(positive("alpha_q", 15.0), positive("beta_q", 15.0)), infer=infer)

    return guide


def coin_loss(p):
    q = Beta(p["alpha_q"], p["beta_q"])
    heads, tails, both = (torch.digamma(n) for n in (q.concentration1, q.concentration0, p["alpha_q"] + p["beta_q"]))
    ten = torch.tensor(10.0).double()
    return kl_divergence(q, Beta(ten, ten)) - 4 * (heads - both) - 2 * (tails - both)


@pytest.mark.parametrize(
    "observe", [loop, sequential, vectorised, few_in_a_loop, few, without_size], ids=lambda f: f.__name__
)
def test_a_coin_and_its_conditionally_independent_flips(observe):
    fit = check(coin(observe), fairness(), (FLIPS,), coin_loss)
    assert fit.plan.estimator("latent_fairness") == "pathwise"


NET = nn.Linear(1, 1)
BASELINES = {
    "none": {},
    "decaying average": {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}},
    "network": {"baseline": {"nn_baseline": NET, "nn_baseline_input": torch.ones(1)}},
}


@pytest.mark.parametrize("name", BASELINES)
def test_a_beta_that_cannot_be_reparametrised_gets_the_score_and_a_baseline(name):
    guide = fairness(NonreparameterizedBeta, **BASELINES[name])
    fit = check(coin(vectorised), guide, (FLIPS,), coin_loss)
    assert fit.plan.estimator("latent_fairness") == "score"
    assert fit.plan.frame["baseline"].item() != "-"


# TraceMeanField_ELBO: KL in closed form.


def mean_field_model(y):
    rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
    with pyro.plate("weights", 2):
        pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("obs", dist.Poisson(rate), obs=y)


def mean_field_guide(y):
    pyro.sample("rate", dist.Gamma(positive("a", 2.0), positive("b", 1.0)))
    with pyro.plate("weights", 2):
        pyro.sample("loc", dist.Normal(param("m", [0.3, -0.2]), positive("s", [0.5, 0.8])))


def test_the_mean_field_elbo():
    y = torch.tensor([1.0, 3.0, 2.0])

    def exact(p):
        q, two = Gamma(p["a"], p["b"]), torch.tensor(2.0).double()
        log_rate = torch.digamma(p["a"]) - p["b"].log()
        fit = (y.double() * log_rate - p["a"] / p["b"] - torch.lgamma(y.double() + 1)).sum()
        return kl_divergence(q, Gamma(two, two)) + kl_divergence(Normal(p["m"], p["s"]), Normal(0.0, 1.0)).sum() - fit

    fit = check(mean_field_model, mean_field_guide, (y,), exact)
    assert set(fit.plan.frame["estimator"]) == {"pathwise"} and set(fit.plan.frame["term"]) <= {
        "analytic KL",
        "sticking the landing",
    }


# Bayesian regression: a PyroModule with priors on its weights, and automatic guides.

X, SD = torch.tensor([-1.0, -0.3, 0.4, 1.2]), 0.5
TARGET = 1.5 * X + 0.3 + torch.tensor([0.1, -0.2, 0.3, 0.0])


class Regression(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](1, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 1]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 2.0).expand([1]).to_event(1))

    def forward(self, x, y=None):
        mean = self.linear(x[:, None]).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("obs", dist.Normal(mean, SD), obs=y)
        return mean


def belief(kind, p):
    """The normal q over (weight, bias) that an automatic guide's parameters mean."""
    p = {name.split(".")[-1]: value for name, value in p.items()}
    if kind is AutoDiagonalNormal:
        return MultivariateNormal(p["loc"], scale_tril=torch.diag(p["scale"]))
    if kind is AutoMultivariateNormal:
        return MultivariateNormal(p["loc"], scale_tril=p["scale"][:, None] * p["scale_tril"])
    factor = p["cov_factor"] * p["scale"][:, None]
    return MultivariateNormal(p["loc"], factor @ factor.T + torch.diag(p["scale"] ** 2))


@pytest.mark.parametrize("kind", [AutoDiagonalNormal, AutoMultivariateNormal, AutoLowRankMultivariateNormal])
def test_bayesian_regression_with_an_automatic_guide(kind):
    """-ELBO = KL(q || posterior) - log evidence; both are normal."""
    design = torch.stack([X, torch.ones(4)], 1).double()
    prior = torch.diag(torch.tensor([1.0, 4.0]).double())
    precision = prior.inverse() + design.T @ design / SD**2
    posterior = MultivariateNormal(precision.inverse() @ design.T @ TARGET.double() / SD**2, precision_matrix=precision)
    spread = design @ prior @ design.T + SD**2 * torch.eye(4).double()
    evidence = MultivariateNormal(torch.zeros(4).double(), spread).log_prob(TARGET.double())
    pyro.set_rng_seed(0)
    model = Regression()

    def exact(p):
        return kl_divergence(belief(kind, p), posterior) - evidence

    fit = check(model, kind(model), (X, TARGET), exact)
    assert "score" not in set(fit.plan.frame["estimator"])
