"""The form of the normal follows the latents of the model."""

import pyro
import pyro.distributions as dist
import torch

from credo.inference.gaussian.approximate import approximate
from credo.inference.gaussian.arrow_normal import ArrowNormal
from credo.inference.gaussian.density import prepared
from credo.inference.gaussian.full_rank import weights_of
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.gaussian.low_rank_normal import LowRankNormal
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered


def fitted(model, *data, draws=0, seed=0):
    density, state, _ = prepared(model, data, torch.device("cpu"), seed)
    with entered(state), default_dtype(density.first.dtype):
        found = approximate(density, seed)
        return found, weights_of(density.at_each, found.normal, draws, 99) if draws else None


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def hierarchy(group, y):
    """Groups with a normal prior of unknown mean and scale, as the radon data."""
    mean, tau = pyro.sample("mean", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfNormal(1.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("groups", int(group.max()) + 1):
        a = pyro.sample("a", dist.Normal(mean, tau))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a[group], sigma), obs=y)


def groups_of(J):
    group = torch.arange(J * 10) % J
    return group, (torch.randn(J, generator=noise()) / 2)[group] + torch.randn(J * 10, generator=noise(1))


def test_a_hierarchy_of_60_groups_beside_importance_sampling():
    found, weighed = fitted(hierarchy, *groups_of(60), draws=20_000)
    assert isinstance(found.normal, FullRankNormal) and "60 groups" in found.method and found.converged
    assert weighed.importance.reliable and weighed.mean_errors.abs().max() < 0.08
    assert (weighed.sd_ratios.median() - 1).abs() < 0.05


def test_three_thousand_rows_with_latents_of_their_own_are_no_dense_matrix():
    def model(y):
        mean, tau = pyro.sample("mean", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfNormal(2.0))
        with pyro.plate("N", len(y)):
            z = pyro.sample("z", dist.Normal(mean, tau))
            pyro.sample("y", dist.Normal(z, 0.5), obs=y)

    y = 1 + 2 * torch.randn(3000, generator=noise())
    found, _ = fitted(model, y)
    assert isinstance(found.normal, ArrowNormal) and found.converged
    # z given the rest: the precision is 1 / tau^2 + 4; the mean is that of y
    tau2 = (y.var() - 0.25).item()
    sd = (1 / tau2 + 4) ** -0.5
    z, z_sd = found.normal.mean[found.normal.blocks.local[:, 0]], found.normal.sd[found.normal.blocks.local[:, 0]]
    assert (z - (y.mean() / tau2 + 4 * y) * sd**2).abs().max() < 0.05 * sd and (z_sd / sd - 1).abs().max() < 0.05


def test_many_latents_without_groups_get_few_directions():
    x = torch.randn(40, 2500, generator=noise())

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2500), 0.1).to_event(1))
        with pyro.plate("N", 40):
            pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)

    y = 3 * torch.randn(40, generator=noise(1))
    found, _ = fitted(model, x, y)
    x, y = x.double(), y.double()
    inner = torch.linalg.inv(torch.eye(40) + 0.01 * x @ x.T)  # Woodbury: the posterior is normal
    mean, sd = 0.01 * x.T @ inner @ y, (0.01 - 1e-4 * (x.T @ inner * x.T).sum(1)).sqrt()
    assert isinstance(found.normal, LowRankNormal) and found.converged
    assert ((found.normal.mean - mean) / sd).abs().max() < 0.05 and (found.normal.sd / sd - 1).abs().max() < 0.05
