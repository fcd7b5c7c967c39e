"""Latents that are normal given a few others: weighted draws beside quadrature, however many the latents."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.gaussian.psis import weighted_moments
from credo.inference.importance.budget import OutOfTime, deadline
from credo.inference.importance.chart import Chart
from credo.inference.importance.correction import correction
from credo.inference.importance.nested import nested
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered

CPU = torch.device("cpu")
T = 50
Y = torch.randn(T, generator=torch.Generator().manual_seed(0)).cumsum(0) * 0.5 + 0.5 * torch.randn(
    T, generator=torch.Generator().manual_seed(1)
)


def walk(y):
    q = pyro.sample("q", dist.HalfNormal(1.0))
    e = pyro.sample("e", dist.Normal(torch.zeros(len(y)), 1.0).to_event(1))
    with pyro.plate("T", len(y)):
        pyro.sample("y", dist.Normal(q * e.cumsum(-1), 0.5), obs=y)


def funnel(y):
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    with pyro.plate("J", len(y)):
        theta = pyro.sample("theta", dist.Normal(0.0, tau))
        pyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def signs(y):
    """Each of the latents z has two modes, z and -z."""
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    with pyro.plate("J", len(y)):
        z = pyro.sample("z", dist.StudentT(2.0, 0.0, tau))
        pyro.sample("y", dist.Normal(z**2, 0.3), obs=y)


def regression(y):
    """A posterior without a scalar latent."""
    w = pyro.sample("w", dist.Normal(torch.zeros(len(y)), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(w, 1.0).to_event(1), obs=y)


def many_scales(y):
    """As many scales as other latents: none of them bends all the others."""
    with pyro.plate("J", len(y)):
        scale = pyro.sample("scale", dist.HalfCauchy(1.0))
        theta = pyro.sample("theta", dist.Normal(0.0, scale))
        pyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def by_quadrature(covariance_of, y):
    """(log p(y), the mean and the sd of the logarithm of a half normal scale) where y is normal given it."""
    logs = torch.linspace(-7, 2, 601, dtype=torch.float64)
    zero = torch.zeros(len(y), dtype=torch.float64)
    likelihood = torch.stack([dist.MultivariateNormal(zero, covariance_of(x)).log_prob(y.double()) for x in logs.exp()])
    joint = likelihood + dist.HalfNormal(1.0).log_prob(logs.exp()) + logs
    weights = joint.softmax(0)
    mean = weights @ logs
    step = logs[1] - logs[0]
    return (joint.logsumexp(0) + step.log()).item(), mean.item(), (weights @ (logs - mean).square()).sqrt().item()


def of_walk(q):
    t = torch.arange(1.0, T + 1, dtype=torch.float64)
    return q**2 * torch.minimum(t[:, None], t) + 0.25 * torch.eye(T, dtype=torch.float64)


def of_funnel(tau):
    return (tau**2 + 1) * torch.eye(T, dtype=torch.float64)


def around(model, *data, mean=None, sd=0.3):
    density, state, _ = prepared(model, data, CPU, 0)
    D = len(density.first)
    centre = torch.zeros(D, dtype=torch.float64) if mean is None else mean
    return density, state, FullRankNormal(centre, sd * torch.eye(D, dtype=torch.float64))


@pytest.mark.parametrize(("model", "covariance_of"), [(walk, of_walk), (funnel, of_funnel)], ids=["walk", "funnel"])
def test_scale_of_many_latents_beside_quadrature(model, covariance_of):
    density, state, normal = around(model, Y)  # a normal that is far from right
    with entered(state), default_dtype(torch.float64):
        found = nested(Chart(density), normal, draws=2000)
    evidence, mean, sd = by_quadrature(covariance_of, Y)
    assert found.importance.reliable and found.importance.ess > 1000
    assert found.importance.log_evidence == pytest.approx(evidence, abs=4 * found.importance.log_evidence_error)
    means, sds = weighted_moments(found.importance.log_weights, found.us)
    error = 4 * sd / math.sqrt(found.importance.ess)
    assert means[0] == pytest.approx(mean, abs=error) and sds[0] == pytest.approx(sd, abs=error)


def test_correction_takes_them_where_a_mixture_is_worth_little():
    density, state, normal = around(walk, Y)
    with entered(state), default_dtype(torch.float64):
        found = correction(density, [normal], search=False)
    assert found.trusted
    assert found.importance.log_evidence == pytest.approx(by_quadrature(of_walk, Y)[0], abs=0.05)


def test_other_mode_is_no_case_for_them():
    y = torch.full((8,), 4.0)
    density, state, normal = around(signs, y, mean=torch.tensor([1.0] + 8 * [2.0], dtype=torch.float64), sd=0.08)
    with entered(state), default_dtype(torch.float64):
        other = normal._replace(mean=normal.mean * torch.tensor([1.0] + 8 * [-1.0]))
        found = correction(density, [normal, other], draws=400, search=False)
    assert not found.trusted  # 256 modes, of which 2 are known


def test_scales_of_their_own_leave_weights_that_are_no_good():
    density, state, normal = around(many_scales, 3 * Y)
    with entered(state), default_dtype(torch.float64):
        assert nested(Chart(density), normal, draws=400) is None
        found = correction(density, [normal], search=False, draws=400)
    assert not found.trusted


def test_no_scalar_latent():
    density, state, normal = around(regression, Y)
    with entered(state), default_dtype(torch.float64):
        assert nested(Chart(density), normal, draws=400) is None


def test_nodes_end_in_time():
    density, state, normal = around(walk, Y)
    with entered(state), default_dtype(torch.float64):
        with pytest.raises(OutOfTime):
            nested(Chart(density, by=deadline(-1.0, CPU)), normal, draws=400)
        assert nested(Chart(density, by=deadline(10.0, CPU)), normal, draws=400).importance.reliable
