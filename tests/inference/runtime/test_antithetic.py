"""Antithetic noise: pairs are opposite, each draw is still one of q, and means stay as they are."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import kstest, norm
from torch.distributions import Normal, kl_divergence

import credo
from credo.inference.runtime.vectorise import each, repeat
from tests.cases.elbo.expectations import Case, Y, coin, coin_of, log_normal, param, positive
from tests.cases.gradients import draws_and_exact

LOC = torch.tensor([1.0, -2.0])


def draws_of(fn, n, antithetic=True):
    return repeat(lambda: pyro.sample("z", fn), n, True, antithetic)


@pytest.mark.parametrize("n", [2, 3, 8, 9])
@pytest.mark.parametrize("kind", ["Normal", "MultivariateNormal", "LogNormal"])
def test_the_second_half_has_the_noise_of_the_first_turned_round(n, kind):
    fn = {
        "Normal": dist.Normal(LOC, 0.7).to_event(1),
        "MultivariateNormal": dist.MultivariateNormal(LOC, scale_tril=torch.tensor([[1.0, 0.0], [0.4, 0.5]])),
        "LogNormal": dist.LogNormal(LOC, 0.7).to_event(1),
    }[kind]
    z, half = draws_of(fn, n), n // 2
    z = z.log() if kind == "LogNormal" else z
    torch.testing.assert_close(z[:half] + z[half : 2 * half], (2 * LOC).expand(half, 2), atol=1e-5, rtol=0)
    assert len(z.unique(dim=0)) == n  # the odd one has noise of its own, and so has each pair
    plain = draws_of(fn, n, antithetic=False)
    plain = plain.log() if kind == "LogNormal" else plain
    assert (plain[:half] + plain[half : 2 * half] - 2 * LOC).abs().min() > 1e-4


def test_one_particle_has_noise_like_any_other():
    assert draws_of(dist.Normal(0.0, 1.0), 1).abs() > 0


@pytest.mark.parametrize("n", [4, 6])
def test_inside_of_an_inner_vmap_it_is_still_the_particles_that_are_paired(n):
    """A grid of four values, as many as particles in one of the cases: each has noise of its own."""
    values = torch.arange(4.0)

    def program():
        return each(lambda k: pyro.sample("z", dist.Normal(10 * k, 1.0)), values, True)

    z = repeat(program, n, True, True)
    assert z.shape == (n, 4)
    torch.testing.assert_close(z[: n // 2] + z[n // 2 :], (20 * values).expand(n // 2, 4), atol=1e-4, rtol=0)
    noise = (z - 10 * values)[: n // 2]
    assert len(noise.flatten().unique()) == noise.numel()
    assert (noise.sum(1).abs() > 1e-3).all()  # not paired across the grid


def test_each_half_is_drawn_from_the_distribution():
    z = draws_of(dist.Normal(torch.tensor(1.5), 0.4), 4000)
    for part in (z[:2000], z[2000:], torch.cat([z[:1000], z[3000:]])):  # the last: of no pair both
        assert kstest(part.numpy(), "norm", (1.5, 0.4)).pvalue > 1e-4


def test_what_has_no_path_gets_no_opposite_noise():
    for fn in (dist.Normal(0.0, 1.0), dist.MultivariateNormal(torch.zeros(2), torch.eye(2))):
        fn.has_rsample = False
        z = draws_of(fn, 8)
        assert ((z[:4] + z[4:]).abs() > 1e-4).all()


def straight_model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def straight_guide(y):
    pyro.sample("z", dist.Normal(param("m", 0.4), positive("s", 0.6)))


def straight_elbo(p):
    kl = kl_divergence(Normal(p["m"], p["s"]), Normal(0.0, 1.0))
    return log_normal(Y.double(), p["m"], 1.0, p["s"] ** 2).sum() - kl


def coin_model(y):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z + 2 * k, 1.0), obs=y)


def coin_guide(y):
    k = pyro.sample("k", dist.Bernoulli(logits=param("u", 0.3)))
    pyro.sample("z", dist.Normal(param("m", 0.4) - param("a", 0.5) * k, positive("s", 0.6)))


def coin_elbo(p):
    total = 0.0
    for k in (0, 1):
        log_q, mean = coin(p["u"], k), p["m"] - p["a"] * k
        fit = log_normal(Y.double(), mean + 2 * k, 1.0, p["s"] ** 2).sum()
        given = fit - kl_divergence(Normal(mean, p["s"]), Normal(0.0, 1.0))
        total = total + log_q.exp() * (coin_of(0.3, k) - log_q + given)
    return total


def joint_model(y):
    z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z[..., 0] + w, 1.0), obs=y)


def joint_guide(y):
    m = param("m", [0.4, -0.3])
    pyro.sample("z", dist.MultivariateNormal(m, scale_tril=torch.tensor([[0.6, 0.0], [0.2, 0.5]])))
    pyro.sample("w", dist.Normal(param("v", 0.5), 0.7))


def joint_elbo(p):
    tril = torch.tensor([[0.6, 0.0], [0.2, 0.5]]).double()
    q = torch.distributions.MultivariateNormal(p["m"], scale_tril=tril)
    kl = kl_divergence(q, torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()))
    kl = kl + kl_divergence(Normal(p["v"], 0.7), Normal(0.0, 1.0))
    return log_normal(Y.double(), p["m"][0] + p["v"], 1.0, 0.6**2 + 0.7**2).sum() - kl


STRAIGHT = Case(straight_model, straight_guide, straight_elbo)
COIN = Case(coin_model, coin_guide, coin_elbo)
JOINT = Case(joint_model, joint_guide, joint_elbo)
RUNS = {
    "linear and Gaussian": (STRAIGHT, None),
    "its normal by the score": (STRAIGHT, {"z": "score"}),
    "beside an enumerated coin": (COIN, None),
    "after a coin that is flipped": (COIN, {"k": "one-flip"}),
    "after a coin by its score": (COIN, {"k": "score"}),
    "a joint normal": (JOINT, None),
    "a joint normal by the score": (JOINT, {"z": "score"}),
}


def runner_of(case, plan, particles, antithetic=True, term=None):
    runner = credo.SVI(case.model, case.guide, plan=plan, particles=particles, seed=5, progress=False)
    made = runner.prepare(*case.data).with_antithetic(antithetic)
    runner.plan = made if term is None else made.with_term(term)
    return runner


def draws(case, plan, particles, n, antithetic=True, term=None):
    return draws_and_exact(runner_of(case, plan, particles, antithetic, term), case.data, case.elbo, n)


@pytest.mark.parametrize("name", RUNS)
def test_the_mean_gradient_is_unbiased(name):
    case, plan = RUNS[name]
    runner = runner_of(case, plan, 20)
    for term in ("analytic KL", "sticking the landing"):
        runner.plan = runner.plan.with_term(term)
        rows, exact = draws_and_exact(runner, case.data, case.elbo, 40)
        error, off = rows.std(0) / 40**0.5, rows.mean(0) - exact
        noisy = error > 1e-5 * (1 + exact.abs())
        assert (off.abs() <= 5e-5 * (1 + exact.abs()))[~noisy].all(), off
        assert (off / error)[noisy].abs().max() < 1.15 * norm.isf(1e-4 / 2 / len(off)), off / error


@pytest.mark.parametrize("term", ["analytic KL", "sticking the landing", "log q"])
def test_what_is_linear_in_the_noise_is_exact_in_the_location(term):
    rows, exact = draws(STRAIGHT, None, 2, 10, term=term)
    torch.testing.assert_close(rows[:, 1], exact[1].expand(10), atol=1e-5, rtol=1e-5)
    assert draws(STRAIGHT, None, 2, 10, antithetic=False)[0][:, 1].std() > 0.1


def test_beside_an_enumerated_coin_too():
    """The noise of a pair is opposite at each of the coin's values: exact by m, not by u."""
    rows, exact = draws(COIN, None, 2, 10, term="analytic KL")
    torch.testing.assert_close(rows[:, 2:4], exact[2:4].expand(10, 2), atol=1e-5, rtol=1e-5)
    assert draws(COIN, None, 2, 10, antithetic=False, term="analytic KL")[0][:, 2].std() > 0.1
