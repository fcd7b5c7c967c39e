"""Moments of transformed distributions, compared with scipy's and with those of many draws."""

import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from torch.distributions.transforms import AffineTransform, ExpTransform, ReshapeTransform, SigmoidTransform

from credo.inference.distributions.transformed import GammaPower, Transformed

pytestmark = pytest.mark.usefixtures("double")


def test_the_moments_of_exp_of_a_normal_are_those_of_a_lognormal():
    found = Transformed(dist.Normal(torch.tensor([0.3, -1.0]), torch.tensor([0.5, 1.2])), ExpTransform())
    mean, variance = stats.lognorm.stats(s=[0.5, 1.2], scale=[1.3498588075760032, 0.36787944117144233])
    assert found.mean.tolist() == pytest.approx(mean.tolist()) and found.variance.tolist() == pytest.approx(
        variance.tolist()
    )


def test_the_moments_of_a_logistic_normal_are_those_of_quadrature():
    loc, scale = 0.7, 1.5
    found = Transformed(dist.Normal(torch.tensor(loc), scale), SigmoidTransform())

    def moment(k):
        return quad(lambda u: stats.norm.pdf(u, loc, scale) * (1 + 2.718281828459045**-u) ** -k, -20, 20)[0]

    assert found.mean.item() == pytest.approx(moment(1), rel=1e-7)
    assert found.variance.item() == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-7)


def test_affine_and_reshaped_moments_are_those_of_the_draws():
    affine = Transformed(dist.Gamma(torch.tensor(2.0), 0.5), AffineTransform(1.0, -3.0))
    assert (affine.mean.item(), affine.variance.item()) == pytest.approx((1 - 3 * 4.0, 9 * 8.0))
    base = dist.Normal(torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])).to_event(1)
    matrix = Transformed(base, ReshapeTransform((4,), (2, 2)))
    draws = matrix.sample((20_000,))
    assert draws.shape == (20_000, 2, 2)
    assert ((draws.mean(0) - matrix.mean).abs() < 5 * matrix.variance.sqrt() / 20_000**0.5).all()
    torch.testing.assert_close(draws.var(0), matrix.variance, rtol=0.06, atol=0)


@pytest.mark.parametrize("power", [1.0, -1.0, -2.0, 2.0])
def test_a_power_of_a_gamma_has_its_density_and_moments(power):
    """z^power ~ Gamma: p(z) = gamma(z^power) |power| z^(power - 1)."""
    a, b = 3.5, 2.0
    found = GammaPower(torch.tensor(a), torch.tensor(b), power)

    def density(z):
        return stats.gamma.pdf(z**power, a, scale=1 / b) * abs(power) * z ** (power - 1)

    z = torch.tensor([0.4, 0.9, 1.7])
    assert found.log_prob(z).exp().tolist() == pytest.approx([density(x) for x in z.tolist()])
    first, second = (quad(lambda x, k=k: x**k * density(x), 0, float("inf"))[0] for k in (1, 2))
    assert found.mean.item() == pytest.approx(first, rel=1e-5)
    assert found.variance.item() == pytest.approx(second - first**2, rel=1e-4)
    assert (found.concentration.item(), found.rate.item()) == (a, b)


def test_a_moment_that_does_not_exist_is_infinite():
    """1 / Gamma(a, b) has a mean from a > 1 on, and a variance from a > 2 on."""
    found = GammaPower(torch.tensor([0.5, 1.5, 2.5]), torch.tensor(1.0), -1.0)
    assert found.mean.isinf().tolist() == [True, False, False]
    assert found.variance[1].isinf() and found.variance[2].item() == pytest.approx(1 / (1.5**2 * 0.5))
