"""Closed forms of KL that disagree with draws are not used; those that agree are, whatever the guide looks like."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints as c
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from torch.distributions import kl_divergence, register_kl

import credo

Y = torch.tensor([0.3, -0.4, 1.1])


def pair_of(q, p):
    """A model whose data says nothing of its latent, with the prior p(), and the guide q()."""

    def model(y):
        z = pyro.sample("z", p())
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(torch.zeros(()), 1.0), obs=y)
        return z

    def guide(y):
        pyro.sample("z", q())

    return model, guide


def positive(name, start):
    return pyro.param(name, torch.tensor(start), constraint=c.positive)


LIKE_LOG_NORMAL = {
    "Gamma": lambda: dist.Gamma(positive("a", 3.0), positive("b", 2.0)),
    "Exponential": lambda: dist.Exponential(positive("a", 0.7)),
    "HalfNormal": lambda: dist.HalfNormal(positive("a", 0.7)),
    "Weibull": lambda: dist.Weibull(positive("a", 1.7), positive("b", 2.0)),
    "LogNormal": lambda: dist.LogNormal(pyro.param("a", torch.tensor(0.4)), positive("b", 0.5)),
}


def minus_elbo_by_quadrature(q, p):
    """KL(q || p) - log p(y), nats: by the trapezoid rule over u, z = e^u."""
    u = torch.linspace(-40.0, 8.0, 400_001).double()
    z = u.exp()
    log_q = q.log_prob(z)
    kl = torch.trapezoid((log_q + u).exp() * (log_q - p.log_prob(z)), u)
    return (kl - dist.Normal(0.0, 1.0).log_prob(Y).sum()).item()


@pytest.mark.parametrize("family", LIKE_LOG_NORMAL)
def test_a_guide_of_another_family_under_a_log_normal_prior_has_its_own_divergence(family):
    p = dist.LogNormal(torch.tensor(0.3), 0.8)
    model, guide = pair_of(LIKE_LOG_NORMAL[family], lambda: p)
    runner = credo.SVI(model, guide, particles=20_000, progress=False)
    assert runner.prepare(Y).kl == ({"z"} if family == "LogNormal" else frozenset())
    with pyro.get_param_store().scope():
        q = LIKE_LOG_NORMAL[family]()
        wanted = minus_elbo_by_quadrature(q, p)
    assert runner.evaluate_loss(Y) == pytest.approx(wanted, abs=0.03)


def test_a_uniform_under_a_logit_normal_prior_too():
    def prior():
        return dist.TransformedDistribution(dist.Normal(0.2, 1.3), [dist.transforms.SigmoidTransform()])

    model, guide = pair_of(lambda: dist.Beta(positive("a", 1.0), positive("b", 1.0)), prior)
    runner = credo.SVI(model, guide, particles=20_000, progress=False)
    assert runner.prepare(Y).kl == frozenset()
    z = (torch.arange(100_000).double() + 0.5) / 100_000
    wanted = -prior().log_prob(z).mean() - dist.Normal(0.0, 1.0).log_prob(Y).sum()
    assert runner.evaluate_loss(Y) == pytest.approx(wanted.item(), abs=0.03)


class Bell(dist.Normal):
    """A normal with a KL of its own."""


def registered(kl):
    register_kl(Bell, Bell)(kl)
    torch.distributions.kl._KL_MEMOIZE.clear()


def exact(q, p):
    return kl_divergence(dist.Normal(q.loc, q.scale), dist.Normal(p.loc, p.scale))


WRONG = {
    "twice": lambda q, p: 2 * exact(q, p),
    "the other way round": lambda q, p: exact(p, q),
    "right at the start alone": lambda q, p: exact(dist.Normal(p.loc, q.scale), p),
}


@pytest.mark.parametrize("rows", [1, 300])
@pytest.mark.parametrize("how", [*WRONG, "right"])
def test_a_registered_divergence_that_is_wrong_is_named_and_a_right_one_used(how, rows):
    registered(WRONG.get(how, exact))
    start = 0.0 if how == "right at the start alone" else 0.4

    def q():
        return Bell(pyro.param("m", torch.full((rows,), start)), positive("s", 0.6)).to_event(1)

    plan = credo.SVI(*pair_of(q, lambda: Bell(torch.zeros(rows), 1.0).to_event(1)), progress=False).prepare(Y)
    assert plan.kl == ({"z"} if how == "right" else frozenset())
    if how != "right":
        assert "disagrees with draws of log q - log p" in plan.facts.no_kl["z"]


@pytest.mark.parametrize("error", [RuntimeError, ValueError, IndexError])
def test_whatever_a_divergence_raises_it_is_not_known(error):
    def raising(q, p):
        raise error("shapes")

    registered(raising)
    model, guide = pair_of(lambda: Bell(pyro.param("m", torch.tensor(0.3)), 1.0), lambda: Bell(torch.tensor(0.0), 1.0))
    plan = credo.SVI(model, guide, progress=False).prepare(Y)
    assert plan.kl == frozenset() and "no KL in closed form is known" in plan.facts.no_kl["z"]


def observed_mean(y, prior=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0) if prior is None else prior)
    with pyro.plate("d", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def by_hand(y):
    """mu = m + s e by hand; it looks like an AutoNormal where m = 0 and s = 1."""
    m, s = pyro.param("m", torch.tensor(0.0)), positive("s", 1.0)
    e = pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    pyro.sample("mu", dist.Delta(m + s * e, log_density=-s.log()))


def by_hand_with_an_event(y):
    m, s = pyro.param("m", torch.zeros(1)), positive("s", 1.0)
    e = pyro.sample("e", dist.Normal(torch.zeros(1), 1.0).to_event(1), infer={"is_auxiliary": True})
    pyro.sample("mu", dist.Delta((m + s * e).squeeze(-1), log_density=-s.log()))


@pytest.mark.parametrize("guide", [by_hand, by_hand_with_an_event])
def test_a_guide_that_scales_and_shifts_its_own_draw_has_the_posterior(guide):
    x = 2 + torch.randn(100, generator=torch.Generator().manual_seed(0))
    runner = credo.SVI(observed_mean, guide, progress=False)
    assert runner.prepare(x).kl == frozenset()
    fit = runner.run(x, steps=1500)
    assert fit.params["s"].item() == pytest.approx((100.01) ** -0.5, rel=0.03)
    assert fit.params["m"].item() == pytest.approx(x.sum().item() / 100.01, abs=0.01)


@pytest.mark.parametrize(
    ("make", "known"),
    [(AutoNormal, {"mu_unconstrained"}), (AutoDiagonalNormal, frozenset()), (AutoMultivariateNormal, frozenset())],
)
def test_autoguides_keep_what_they_had(make, known):
    plan = credo.SVI(observed_mean, make(observed_mean), progress=False).prepare(Y)
    assert plan.kl == known


@pytest.mark.parametrize("where", ["handler", "distribution"])
def test_a_site_masked_on_both_sides_costs_nothing(where):
    def fn(loc):
        return dist.Normal(loc, 1.0) if where == "handler" else dist.Normal(loc, 1.0).mask(False)

    def model(y):
        with poutine.mask(mask=where != "handler"):
            pyro.sample("z", fn(torch.zeros(())))
        observed_mean(y)

    def guide(y):
        pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.3)), 0.5))
        with poutine.mask(mask=where != "handler"):
            pyro.sample("z", fn(torch.tensor(0.4)))

    def without(y):
        pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.3)), 0.5))

    both = [
        credo.SVI(m, g, particles=4000, progress=False).evaluate_loss(Y)
        for m, g in ((model, guide), (observed_mean, without))
    ]
    assert both[0] == pytest.approx(both[1], abs=0.05)


def test_masks_that_differ_leave_the_site_to_its_draws():
    one, two = torch.tensor([True, False, True]), torch.tensor([True, True, False])

    def model(y):
        with pyro.plate("N", 3):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).mask(two))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y):
        with pyro.plate("N", 3):
            pyro.sample("z", dist.Normal(pyro.param("m", torch.full((3,), 0.3)), 1.0).mask(one))

    assert credo.SVI(model, guide, progress=False).prepare(Y).kl == frozenset()


def test_the_callers_generators_are_left_as_they_were():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    credo.SVI(observed_mean, by_hand, progress=False).prepare(Y)
    assert torch.equal(before, torch.random.get_rng_state())


def test_parameters_that_are_impossible_nearby_are_no_error():
    """A scale without a constraint is negative where the parameters are moved."""

    def q():
        return dist.Normal(pyro.param("m", torch.zeros(40)), pyro.param("s", torch.full((40,), 0.05))).to_event(1)

    model, guide = pair_of(q, lambda: dist.Normal(torch.zeros(40), 1.0).to_event(1))
    assert credo.SVI(model, guide, progress=False).prepare(Y).kl == {"z"}


class Flat(dist.TorchDistribution):
    """p(z) = e^constant over the real numbers, which cannot be drawn from."""

    arg_constraints = {}  # noqa: RUF012
    support = c.real

    def __init__(self, constant):
        self.constant = constant
        super().__init__(torch.Size(), validate_args=False)

    def log_prob(self, value):
        return self.constant + 0 * value

    def sample(self, sample_shape=()):
        raise NotImplementedError("improper")


def test_the_divergence_from_an_improper_prior_is_taken_as_given():
    """The density has no scale, so that the KL is known up to a constant only."""

    @register_kl(dist.Normal, Flat)
    def kl(q, p):
        return 5 - q.scale.log()

    torch.distributions.kl._KL_MEMOIZE.clear()

    def guide(y):
        pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.3)), positive("s", 0.5)))

    def model(y):
        observed_mean(y, Flat(-3.0))

    assert credo.SVI(model, guide, progress=False).prepare(Y).kl == {"mu"}
