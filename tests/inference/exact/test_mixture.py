"""Mixtures over the values of finite latents: compared with Bayes' rule over a list of these values.

Then the joint normal of all latents: compared with covariances by hand.
"""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.exact.block_posterior import BlockPosterior
from credo.inference.exact.mixture import Component, joint
from tests.cases.posterior import ACCEPTED
from tests.cases.posterior.oracles import close, t


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


def modes(x):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
    mu = pyro.sample("mu", dist.Normal(torch.tensor([-3.0, 0.0, 3.0])[k], 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def test_a_mixture_over_a_finite_latent():
    x = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = credo.exact(modes, x)
    prior = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    cov = torch.eye(2, dtype=torch.float64) + 1.0
    each = [
        torch.distributions.MultivariateNormal(torch.full((2,), m, dtype=torch.float64), cov).log_prob(x)
        for m in (-3, 0, 3)
    ]
    logs = torch.stack(each) + prior.log()
    assert abs(found.log_evidence - logs.logsumexp(0).item()) < 1e-9
    weights = logs.softmax(0)
    near(found.marginals["k"].probs, weights)
    near(found.marginals["mu"].mean, (weights * (torch.tensor([-3.0, 0.0, 3.0]) + 1.5) / 3).sum())
    drawn = found.sample(20_000)
    assert abs(drawn["mu"].mean() - found.marginals["mu"].mean) < 0.02


JOINT = ["sum of two", "regression", "eight schools, known sd", "crossed effects", "random walk of 100 sites"]


@pytest.mark.parametrize("name", JOINT)
def test_the_joint_of_a_gaussian_has_its_evidence_covariance_and_marginals(name):
    """In whatever order its sites are laid out: the sorted variances, and every covariance, are there."""
    case = ACCEPTED[name]
    joint = credo.exact(case.model, *case.data).joint
    variances = torch.cat([fn.variance.reshape(-1) for fn in case.marginals.values()])
    close("variances", joint.variance.reshape(-1).sort().values, variances.sort().values, 1e-8 * variances.max())
    entries = joint.covariance_matrix.flatten()
    for cov in case.covariances.values():
        distance = (entries[:, None] - cov.flatten()).abs().min(0).values
        assert distance.max() <= 1e-8 * variances.max()


def test_there_is_no_joint_of_different_families():
    for name in ("two unrelated latents", "fair or biased"):
        assert credo.exact(ACCEPTED[name].model, *ACCEPTED[name].data).joint is None


def block(gaussian, **marginals):
    """A block with these marginals, of which only the mean and the covariance are asked."""
    return BlockPosterior("", marginals, None, None, None, None, lambda: gaussian)


def test_blocks_are_put_where_their_sites_stand_and_are_not_correlated():
    a, b, c = dist.Normal(t(1.0), 2.0), dist.Normal(t(-1.0, 5.0), 1.0).to_event(1), dist.Normal(t(3.0), 1.0)
    far = block((t(1.0, 3.0), t([4.0, 0.5], [0.5, 1.0])), a=a, c=c)
    alone = block((t(-1.0, 5.0), t([1.0, 0.2], [0.2, 1.0])), b=b)
    found = joint({"a": a, "b": b, "c": c}, [Component({}, 0.0, (far, alone))])
    assert found.mean.tolist() == [1.0, -1.0, 5.0, 3.0]
    wanted = t([4.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.2, 0.0], [0.0, 0.2, 1.0, 0.0], [0.5, 0.0, 0.0, 1.0])
    close("covariance", found.covariance_matrix, wanted, 1e-12)


def test_a_single_site_has_its_marginal_and_what_is_not_normal_has_none():
    a, p = dist.Normal(t(1.0), 2.0), dist.Beta(t(1.0), 2.0)
    blocks = (block((t(1.0).reshape(1), t(4.0).reshape(1, 1)), a=a), block(None, p=p))
    assert joint({"p": p}, [Component({}, 0.0, blocks[1:])]) is p
    assert joint({"a": a, "p": p}, [Component({}, 0.0, blocks)]) is None
