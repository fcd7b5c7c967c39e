"""Narrow spikes are found where the points are close, and the repr says how close they are."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.exact.points import Checked

Y = torch.tensor([1.1, 0.4, 1.9, 0.2, 1.3])


def normal_mean(bump=None, prior=None):
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0) if prior is None else prior)
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
        if bump is not None:
            pyro.factor("bump", bump(mu))

    return model


def bell(at, width, height):
    return lambda mu: torch.log1p(torch.exp(height - 0.5 * ((mu - at) / width) ** 2))


def box(at, width, height):
    return lambda mu: height * ((mu - at).abs() < width).double()


def share_of_spike(bump, at, width):
    """Of the posterior mass, by the trapezoid rule."""
    z = torch.linspace(-6.0, 6.0, 1_200_001).double()
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z[:, None], 1.0).log_prob(Y.double()).sum(1) + bump(z)
    p = (log_p - log_p.max()).exp()
    return (p[(z - at).abs() < 4 * width].sum() / p.sum()).item()


@pytest.mark.parametrize("at", [-2.5, -1.234, 1.05, 2.2])
@pytest.mark.parametrize("bump", [bell, box])
def test_a_spike_that_holds_mass_is_refused_wherever_it_is(bump, at):
    spike = bump(at, 0.003, 45.0)
    assert share_of_spike(spike, at, 0.003) > 0.1
    with pytest.raises(credo.NoClosedForm, match="site 'mu'"):
        credo.exact(normal_mean(spike), Y)


def in_a_coin(y):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    pyro.factor("bump", 9.0 * ((p - 0.637).abs() < 0.0007).double())
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(p), obs=(y > 1).double())


def in_a_rate(y):
    r = pyro.sample("r", dist.Gamma(2.0, 2.0))
    pyro.factor("bump", 9.0 * ((r - 1.637).abs() < 0.0021).double())
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(r), obs=y.round())


def in_one_of_two(y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.factor("bump", 9.0 * ((w[0] - 0.7).abs() < 0.003).double())
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(w.sum(), 1.0), obs=y)


def in_one_component(y):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    mu = pyro.sample("mu", dist.Normal(2 * k, 1.0))
    pyro.factor("bump", 12.0 * ((mu - 0.7).abs() < 0.003).double())
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def in_the_likelihood(y):
    """A second mode: for a narrow range of mu the data is as likely as for the best."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    mean = torch.where((mu + 2.7).abs() < 0.003, torch.full_like(mu, 0.98), mu)
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mean, 0.1), obs=y)


@pytest.mark.parametrize("model", [in_a_coin, in_a_rate, in_one_of_two, in_one_component, in_the_likelihood])
def test_so_is_one_on_other_supports_and_in_one_of_several_latents(model):
    with pytest.raises(credo.NoClosedForm):
        credo.exact(model, Y)


def normal_gamma(y):
    t = pyro.sample("t", dist.Gamma(2.0, 1.0))
    mu = pyro.sample("mu", dist.Normal(0.0, t.rsqrt()))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mu, t.rsqrt()), obs=y)


def skewed_coin(y):
    p = pyro.sample("p", dist.Beta(0.01, 0.01))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(p), obs=(y > 1).double())


def infinite_mean(y):
    s = pyro.sample("s", dist.InverseGamma(1.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.0, s.sqrt()), obs=y)


SOUND = [
    normal_mean(),
    normal_mean(prior=dist.Normal(0.0, 1e6)),
    normal_mean(prior=dist.Normal(0.0, 1e-6)),
    normal_gamma,
    skewed_coin,
    infinite_mean,
]


@pytest.mark.parametrize("model", SOUND)
def test_what_has_no_spike_is_found_and_says_how_closely_it_was_checked(model):
    posterior = credo.exact(model, Y)
    assert posterior.checked.apart < 0.006 and posterior.checked.points > 3000
    assert str(posterior.checked) in repr(posterior)
    assert "constant" not in repr(posterior) and posterior.improper == ()


def test_much_data_is_checked_at_fewer_points_which_the_repr_says():
    posterior = credo.exact(normal_mean(), torch.randn(20_000))
    assert posterior.checked.points < 300 and posterior.checked.apart > 0.05


def test_finite_latents_alone_are_summed_over_and_not_checked_at_points():
    def model(y):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    assert credo.exact(model, Y).checked is None


def test_few_points_have_no_distance():
    assert str(Checked(11, float("inf"))) == "checked at 11 points"
    assert str(Checked(3211, 0.004)) == "checked at 3,211 points, at most 0.004 prior sds apart"


class Flat(dist.Normal):
    """A density of 1 on the real line, which can be drawn from."""

    def log_prob(self, value):
        return torch.zeros_like(value)


class Own(dist.Normal):
    """A proper density of the user's own."""


@pytest.mark.parametrize("prior", [Flat(0.0, 1.0), dist.Normal(0.0, 1.0).mask(False)], ids=["class", "mask"])
def test_the_evidence_under_a_flat_prior_is_named_for_what_it_is(prior):
    """log of the integral of the likelihood over mu, in closed form."""
    posterior = credo.exact(normal_mean(prior=prior), Y)
    n, mean = len(Y), Y.double().mean()
    wanted = dist.Normal(mean, 1.0).log_prob(Y.double()).sum() + 0.5 * torch.log(
        torch.tensor(2 * torch.pi / n).double()
    )
    assert posterior.log_evidence == pytest.approx(wanted.item(), abs=1e-6)
    assert posterior.improper == ("mu",)
    assert "up to an arbitrary constant: the prior of site 'mu' does not integrate to 1" in repr(posterior)
    assert posterior.update(Y).improper == ("mu",)


def test_a_proper_prior_of_ones_own_is_not():
    assert credo.exact(normal_mean(prior=Own(0.0, 1.0)), Y).improper == ()
