"""DisARM: the law of the mirrored draw, and its gradient against sums over all values."""

from functools import partial
from itertools import product

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.distributions.finite import mirrored_draw
from credo.inference.estimators import disarm
from tests.cases.elbo.expectations import coin, coin_of, log_normal, param
from tests.cases.gradients import assert_unbiased

Y = torch.tensor([0.5, -0.3, 1.2])
UNITS = 3


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few units, so that all their values can be summed over."""
    monkeypatch.setattr(disarm, "FEW", 1)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_mirror_has_the_law_of_mirrored_noise(p):
    torch.manual_seed(0)
    n = 40_000
    fn = dist.Bernoulli(torch.full((n,), p)).to_event(1)
    value = fn.sample()
    other, slopes = mirrored_draw(fn, value)
    u = torch.rand(n)
    mine, mirror = (u < p).float(), (1 - u < p).float()
    for a, b in product((0.0, 1.0), repeat=2):
        found, wanted = (((v == a) & (o == b)).float().mean() for v, o in ((value, other[0]), (mine, mirror)))
        assert abs(found - wanted) <= 4.5 * (0.5 / n) ** 0.5
    assert slopes.shape == (1,) and torch.isfinite(slopes).all()


def test_of_a_linear_cost_the_gradient_is_that_of_the_mean():
    """E[sum_j c_j b_j] = sum_j c_j p_j."""
    p = torch.tensor([0.2, 0.5, 0.9], requires_grad=True)
    c = torch.tensor([1.0, -2.0, 3.0])
    n = 20_000
    fn = dist.Bernoulli(p.expand(n, 3)).to_event(1)
    torch.manual_seed(0)
    value = fn.sample()
    other, slopes = mirrored_draw(fn, value)
    total = slopes[0] * ((value - other[0]) @ c)
    (found,) = torch.autograd.grad(total.mean(), p)
    assert (found - c).abs().max() <= 4.5 * 10 / n**0.5


def shared_model(y):
    h = pyro.sample("h", dist.Bernoulli(torch.full((UNITS,), 0.3)).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal((h * torch.tensor([1.0, -0.5, 2.0])).sum(-1), 1.0), obs=y)


def shared_guide(y):
    pyro.sample("h", dist.Bernoulli(logits=param("u", [0.3, -0.4, 1.5])).to_event(1))


def shared_elbo(p):
    total, c = 0.0, torch.tensor([1.0, -0.5, 2.0]).double()
    for bits in product((0, 1), repeat=UNITS):
        log_q = sum(coin(p["u"][j], bit) for j, bit in enumerate(bits))
        log_p = sum(coin_of(0.3, bit) for bit in bits)
        total = total + log_q.exp() * (log_p + log_normal(Y.double(), c @ torch.tensor(bits).double()).sum() - log_q)
    return total


def rows_model(y):
    with pyro.plate("N", len(y)):
        h = pyro.sample("h", dist.Bernoulli(torch.full((2,), 0.3)).to_event(1))
        pyro.sample("y", dist.Normal(h[..., 0] - 2 * h[..., 1] * h[..., 0], 1.0), obs=y)


def rows_guide(y):
    u = param("u", [[0.4, -0.6], [0.9, 0.0], [-1.0, 2.0]])
    with pyro.plate("N", len(y)):
        pyro.sample("h", dist.Bernoulli(logits=u).to_event(1))


def rows_elbo(p):
    total = 0.0
    for a, b in product((0, 1), repeat=2):
        log_q = coin(p["u"][:, 0], a) + coin(p["u"][:, 1], b)
        log_p = coin_of(0.3, a) + coin_of(0.3, b) + log_normal(Y.double(), a - 2 * a * b)
        total = total + (log_q.exp() * (log_p - log_q)).sum()
    return total


@pytest.mark.parametrize(
    ("model", "guide", "elbo"),
    [(shared_model, shared_guide, shared_elbo), (rows_model, rows_guide, rows_elbo)],
)
@pytest.mark.parametrize("term", ["analytic KL", "log q"])
def test_the_mean_gradient_is_that_of_the_sum_over_all_values(model, guide, elbo, term, monkeypatch):
    monkeypatch.setattr(credo, "SVI", partial(credo.SVI, plan={"h": "disarm"}))
    assert_unbiased(model, guide, (Y,), elbo, term=term, particles=50, n=20)


def test_it_is_less_noisy_than_the_score_function_and_says_when_it_is_not_due(monkeypatch):
    def variance(word):
        svi = credo.SVI(shared_model, shared_guide, particles=2, plan={"h": word}, progress=False, compile=False)
        return torch.stack([svi.gradients(Y)["u"] for _ in range(60)]).var(0).sum()

    assert variance("disarm") < variance("score")
    monkeypatch.setattr(disarm, "FEW", 16)
    with pytest.raises(ValueError, match="each of its 3 units can be tried by itself"):
        credo.plan(shared_model, shared_guide, Y, plan={"h": "disarm"})
