"""The models and guides of Pyro's tutorials, small: coins, regression, mixtures, topics.

Each function makes a pair with its data anew: (model, guide or None, data). `tests.cases.tutorials.deep` has those with
networks, `_topics` the words. Pyro's text is followed in names, priors and starting values; sizes are not.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.testing.fakes import NonreparameterizedBeta
from pyro.infer import config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal, init_to_sample
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import constraints

# SVI parts I to III: is the coin fair?

FLIPS = torch.tensor([1.0] * 6 + [0.0] * 4)


def fairness():
    return pyro.sample("latent_fairness", dist.Beta(torch.tensor(10.0), torch.tensor(10.0)))


def believed(kind=dist.Beta, **infer):
    alpha = pyro.param("alpha_q", torch.tensor(15.0), constraint=constraints.positive)
    beta = pyro.param("beta_q", torch.tensor(15.0), constraint=constraints.positive)
    pyro.sample("latent_fairness", kind(alpha, beta), infer=infer)


def guide(data):
    believed()


def part_one():
    """The data are a list of tensors."""

    def model(data):
        f = fairness()
        for i in range(len(data)):
            pyro.sample(f"obs_{i}", dist.Bernoulli(f), obs=data[i])

    return model, guide, (list(FLIPS),)


def part_two_sequential():
    def model(data):
        f = fairness()
        for i in pyro.plate("data_loop", len(data)):
            pyro.sample(f"obs_{i}", dist.Bernoulli(f), obs=data[i])

    return model, guide, (FLIPS,)


def part_two():
    def model(data):
        f = fairness()
        with pyro.plate("observe_data"):
            pyro.sample("obs", dist.Bernoulli(f), obs=data)

    return model, guide, (FLIPS,)


def part_two_subsampled():
    def model(data):
        f = fairness()
        with pyro.plate("observe_data", size=10, subsample_size=5) as ind:
            pyro.sample("obs", dist.Bernoulli(f), obs=data.index_select(0, ind))

    return model, guide, (FLIPS,)


def part_two_loop_subsampled():
    """Which rows are taken is known to Python: their numbers are in the names of the sites."""

    def model(data):
        f = fairness()
        for i in pyro.plate("data_loop", len(data), subsample_size=5):
            pyro.sample(f"obs_{i}", dist.Bernoulli(f), obs=data[i])

    return model, guide, (FLIPS,)


def part_two_local():
    """A latent and parameters for each row, subsampled in the guide; the model takes the same rows."""

    def model(data):
        beta = pyro.sample("beta", dist.Normal(0.0, 1.0))
        with pyro.plate("locals", 10, subsample_size=5) as ind:
            z = pyro.sample("z", dist.Normal(beta, 1.0))
            pyro.sample("obs", dist.Normal(z, 0.5), obs=data[ind])

    def guide(data):
        loc, scale = pyro.param("beta_loc", torch.zeros(())), pyro.param("beta_scale", torch.tensor(0.3))
        pyro.sample("beta", dist.Normal(loc, scale.abs() + 1e-3))
        with pyro.plate("locals", 10, subsample_size=5) as ind:
            locs = pyro.param("locs", torch.zeros(10))
            scales = pyro.param("scales", torch.full((10,), 0.5), constraint=constraints.positive)
            pyro.sample("z", dist.Normal(locs[ind], scales[ind]))

    return model, guide, (FLIPS,)


def part_three():
    """A Beta that is not reparametrised, with a decaying average for a baseline."""

    def model(data):
        f = fairness()
        with pyro.plate("data_plate"):
            pyro.sample("obs", dist.Bernoulli(f), obs=data)

    def guide(data):
        believed(NonreparameterizedBeta, baseline={"use_decaying_avg_baseline": True, "baseline_beta": 0.9})

    return model, guide, (FLIPS,)


# Bayesian regression: log GDP by ruggedness, continent, and both.


class BayesianRegression(PyroModule):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = PyroModule[nn.Linear](in_features, out_features)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([out_features, in_features]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([out_features]).to_event(1))

    def forward(self, x, y=None):
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("obs", dist.Normal(mean, sigma), obs=y)
        return mean


def nations():
    """(x, y): 40 rows of ruggedness, a continent of 0 or 1, and their product; y, noisy."""
    noise = torch.Generator().manual_seed(0)
    rugged, africa = torch.rand(40, generator=noise) * 6, (torch.arange(40) % 2).float()
    x = torch.stack([africa, rugged, africa * rugged], -1)
    return x, 9.2 - 1.8 * africa - 0.2 * rugged + 0.4 * x[:, 2] + 0.9 * torch.randn(40, generator=noise)


def regression_diagonal():
    model = BayesianRegression(3, 1)
    return model, AutoDiagonalNormal(model), nations()


def regression_multivariate():
    model = BayesianRegression(3, 1)
    return model, AutoMultivariateNormal(model, init_loc_fn=init_to_sample), nations()


def regression_mean_field():
    return BayesianRegression(3, 1), None, nations()


def regression_by_hand():
    """Bayesian regression part II: the same model as a function, with a guide written out."""

    def model(is_cont_africa, ruggedness, log_gdp=None):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
        b_a = pyro.sample("bA", dist.Normal(0.0, 1.0))
        b_r = pyro.sample("bR", dist.Normal(0.0, 1.0))
        b_ar = pyro.sample("bAR", dist.Normal(0.0, 1.0))
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        mean = a + b_a * is_cont_africa + b_r * ruggedness + b_ar * is_cont_africa * ruggedness
        with pyro.plate("data", len(ruggedness)):
            return pyro.sample("obs", dist.Normal(mean, sigma), obs=log_gdp)

    def guide(is_cont_africa, ruggedness, log_gdp=None):
        a_loc = pyro.param("a_loc", torch.tensor(0.0))
        a_scale = pyro.param("a_scale", torch.tensor(1.0), constraint=constraints.positive)
        sigma_loc = pyro.param("sigma_loc", torch.tensor(1.0), constraint=constraints.positive)
        weights_loc = pyro.param("weights_loc", torch.zeros(3))
        weights_scale = pyro.param("weights_scale", torch.ones(3), constraint=constraints.positive)
        pyro.sample("a", dist.Normal(a_loc, a_scale))
        pyro.sample("bA", dist.Normal(weights_loc[0], weights_scale[0]))
        pyro.sample("bR", dist.Normal(weights_loc[1], weights_scale[1]))
        pyro.sample("bAR", dist.Normal(weights_loc[2], weights_scale[2]))
        pyro.sample("sigma", dist.LogNormal(sigma_loc.log(), torch.tensor(0.05)))

    x, y = nations()
    return model, guide, (x[:, 0], x[:, 1], y)


# The mixture of normals.

K, POINTS = 2, torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])


@config_enumerate
def mixture(data):
    weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(K)))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
    with pyro.plate("components", K):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(data)):
        assignment = pyro.sample("assignment", dist.Categorical(weights))
        pyro.sample("obs", dist.Normal(locs[assignment], scale), obs=data)


def starts(site):
    """Of the tutorial: equal weights, the spread of the data, two of the data as means."""
    starts = {"weights": torch.ones(K) / K, "scale": (POINTS.var() / 2).sqrt(), "locs": POINTS[[1, 3]]}
    return starts[site["name"]]


def points():
    """The tutorial's AutoDelta for all but the assignments."""
    return AutoDelta(poutine.block(mixture, expose=["weights", "locs", "scale"]), init_loc_fn=starts)


def mixture_of_points():
    return mixture, points(), (POINTS,)


def mixture_by_map():
    return mixture, "map", (POINTS,)


def mixture_mean_field():
    return mixture, None, (POINTS,)


def mixture_assigned():
    """The tutorial's full guide: points, and probabilities for each assignment."""
    others = points()

    @config_enumerate
    def full_guide(data):
        others(data)
        with pyro.plate("data", len(data)):
            probs = pyro.param("assignment_probs", torch.ones(len(data), K) / K, constraint=constraints.simplex)
            pyro.sample("assignment", dist.Categorical(probs))

    return mixture, full_guide, (POINTS,)


COINS = [part_one, part_two_sequential, part_two, part_two_subsampled, part_two_local, part_three]
REGRESSIONS = [regression_diagonal, regression_multivariate, regression_mean_field, regression_by_hand]
MIXTURES = [mixture_of_points, mixture_by_map, mixture_mean_field, mixture_assigned]
TUTORIALS = COINS + REGRESSIONS + MIXTURES
EAGER = [part_two_loop_subsampled]  # a loop over a plate asks in Python which rows were drawn
