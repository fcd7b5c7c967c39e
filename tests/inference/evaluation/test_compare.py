"""The comparison finds the exact posterior by itself, and does not believe a negative KL."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import credo
from tests.cases.normal_mean import Y, answer, guide, model


def test_comparing_leaves_the_process_as_it_was(fit, derived, unchanged):
    with unchanged():
        credo.compare(fit)


def test_another_models_posterior_is_found_out(derived):
    """Of other data: the evidence is too low for this fit."""
    fit = credo.fit(model, guide, torch.zeros(3), steps=0)
    derived.answer = answer(torch.tensor([4.0, -5.0, 6.0]))
    with pytest.warns(UserWarning, match="other data"):
        credo.compare(fit)


def test_vectors_that_are_gaussian_are_compared_as_a_whole():
    S = torch.tensor([[1.0, 0.6], [0.6, 1.0]]).double()

    def pair(y):
        z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2, dtype=y.dtype), S.to(y.dtype)))
        pyro.sample("y", dist.Normal(z.sum(), 1e3), obs=y)  # next to nothing is learnt

    def apart(y):
        m = pyro.param("m", torch.zeros(2))
        pyro.sample("z", dist.Normal(m, 1.0).to_event(1))

    fit = credo.fit(pair, apart, torch.tensor(0.0), steps=0)
    log_evidence = Normal(0.0, (1e6 + 3.2) ** 0.5).log_prob(torch.tensor(0.0)).item()
    exact = SimpleNamespace(marginals={"z": MultivariateNormal(torch.zeros(2).double(), S)}, log_evidence=log_evidence)
    table = credo.compare(fit, exact)
    assert table["kl"].tolist() == pytest.approx([0.0, 0.0], abs=1e-9)  # the marginals agree, the whole does not
    kl, w2 = table.attrs["joint"]["z"]
    # KL(N(0, I) || N(0, S)) = (tr S^-1 - 2 + log det S) / 2, W2^2 = sum (1 - sqrt(eigenvalue))^2
    assert kl == pytest.approx((2 / 0.64 - 2 + math.log(0.64)) / 2, rel=1e-6)
    assert w2 == pytest.approx(math.hypot(1 - 1.6**0.5, 1 - 0.4**0.5), rel=1e-6)
    assert table.attrs["evidence_gap"] == pytest.approx(kl, abs=5 * table.attrs["elbo_error"] + 1e-3)


def test_a_dirichlet_is_compared_share_by_share():
    counts = torch.tensor([3.0, 1.0, 0.0])

    def shares(n):
        p = pyro.sample("p", dist.Dirichlet(torch.ones(3, dtype=n.dtype)))
        pyro.sample("n", dist.Multinomial(total_count=4, probs=p), obs=n)

    def belief(n):
        a = pyro.param("a", torch.tensor([2.0, 2.0, 2.0]), constraint=dist.constraints.positive)
        pyro.sample("p", dist.Dirichlet(a))

    posterior = dist.Dirichlet(counts.double() + 1)
    # 4! / (3! 1!) * B(a + n) / B(a), all a = 1
    log_evidence = math.log(4) + math.log(math.factorial(3) * 2 / math.factorial(6))
    fit = credo.fit(shares, belief, counts, steps=0)
    table = credo.compare(fit, SimpleNamespace(marginals={"p": posterior}, log_evidence=log_evidence))
    wanted = [kl_divergence(dist.Beta(t(2.0), t(4.0)), dist.Beta(t(a), t(7 - a))).item() for a in (4.0, 2.0, 1.0)]
    assert table["kl"].tolist() == pytest.approx(wanted, rel=1e-5) and "W2" not in table
    kl = kl_divergence(dist.Dirichlet(torch.full((3,), 2.0).double()), posterior).item()
    assert table.attrs["evidence_gap"] == pytest.approx(kl, abs=5 * table.attrs["elbo_error"])


def test_an_automatic_guide_has_densities_too(derived):
    """Gamma-Poisson under AutoNormal, which believes in a log-normal: KL by the trapezoid rule over the log."""

    def counts(n):
        rate = pyro.sample("rate", dist.Gamma(2.0, torch.ones(2)).to_event(1))
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        pyro.sample("n", dist.Poisson(rate).to_event(1), obs=n)
        pyro.sample("m", dist.Normal(shift, 1.0), obs=n.sum())

    p = dist.Gamma(torch.tensor([5.0, 3.0]).double(), torch.tensor(2.0).double())
    shift = dist.Normal(t(2.0), t(0.5**0.5))
    log_evidence = math.log(4 / 2**5) + math.log(2 / 2**3) + Normal(0.0, 2**0.5).log_prob(torch.tensor(4.0)).item()
    derived.answer = SimpleNamespace(marginals={"rate": p, "shift": shift}, log_evidence=log_evidence)
    fit = credo.fit(counts, None, torch.tensor([3.0, 1.0]), steps=300)
    table = credo.compare(fit)
    u = torch.linspace(-8, 6, 20_001).double()
    loc, scale = (fit.params[f"AutoNormal.{what}.rate"].double() for what in ("locs", "scales"))
    q = torch.distributions.Normal(loc, scale)
    log_q, x = q.log_prob(u[:, None]), u[:, None].exp()
    wanted = torch.trapezoid(log_q.exp() * (log_q - u[:, None] - p.log_prob(x)), u, dim=0)
    assert table["kl"].tolist()[:2] == pytest.approx(wanted.tolist(), rel=1e-4)
    assert table.loc["shift", "mean"] == pytest.approx(fit.params["AutoNormal.locs.shift"].item(), rel=1e-6)
    assert table.loc["shift", "sd"] == pytest.approx(fit.params["AutoNormal.scales.shift"].item(), rel=1e-6)
    gap = table["kl"].sum()  # all of them independent, in q and in p
    assert table.attrs["evidence_gap"] == pytest.approx(gap, abs=5 * table.attrs["elbo_error"] + 1e-4)


def test_latents_that_are_summed_out_have_no_row():
    def coin(y):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        k = pyro.sample("k", dist.Bernoulli(0.5))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z + 0 * k, 1.0), obs=y)

    fit = credo.fit(coin, guide, Y, steps=0)
    exact = answer(Y)
    exact.marginals["k"] = dist.Bernoulli(torch.tensor(0.5).double())
    assert list(credo.compare(fit, exact).index) == ["z"]


def test_a_posterior_of_other_sites_is_refused(fit):
    exact = answer(Y)
    with pytest.raises(ValueError, match=r"the fit has sites \['z'\], the exact posterior \['w'\]"):
        credo.compare(fit, SimpleNamespace(marginals={"w": exact.marginals["z"]}, log_evidence=0.0))


def t(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def test_a_guide_without_a_mean_is_unknown_in_words():
    def heavy(y):
        pyro.sample("m", dist.Cauchy(pyro.param("l", torch.tensor(0.5)), 0.5))

    def normal(y):
        pyro.sample("y", dist.Normal(pyro.sample("m", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    table = credo.compare(credo.fit(normal, heavy, torch.tensor(1.0), steps=0))
    assert table["error in sds"].isna().all() and "not finite" in str(table)
    assert table.attrs["in_words"] == "m: unknown: a mean or an sd is not finite"
