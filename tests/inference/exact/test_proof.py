"""Dents, kinks and light parts of a density that fit no family: each is found, and the model refused."""

from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.exact import proof
from tests.cases.posterior.oracles import randn, refused, t

WEIGHTS = [1.0, 0.1, 0.01, 1e-3]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_part_of_the_likelihood_that_fits_no_family_is_found_however_light(weight):
    """One row of a t beside 20 normal ones, its log density weighted."""

    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(z, 0.7), obs=y)
        pyro.factor("t", weight * dist.StudentT(4.0, z, 1.0).log_prob(torch.tensor(0.5)))

    assert "'z'" in refused(model, (torch.linspace(-1, 2, 20, dtype=torch.float64),))


def test_one_row_of_a_plate_that_fits_no_family_is_found():
    """A thousand normal rows, and one of Student's t."""

    def model(y):
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 2.0))
            odd = torch.arange(len(y)) == 617
            with pyro.poutine.mask(mask=~odd):
                pyro.sample("y", dist.Normal(z, 0.7), obs=y)
            with pyro.poutine.mask(mask=odd):
                pyro.sample("t", dist.StudentT(4.0, z, 1.0), obs=y)

    assert "'z'" in refused(model, (torch.linspace(-1, 2, 1000, dtype=torch.float64),))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("i", range(20))
def test_a_kink_five_sds_away_in_one_of_twenty_coefficients_is_found(i, sign):
    def model(X, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(20, dtype=X.dtype), 1.0).to_event(1))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(X @ w + torch.relu(sign * w[i] - 5), 1.0), obs=y)

    assert "'w'" in refused(model, (randn(71, 40, 20), randn(72, 40)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("i", [0, 250, 500, 999])
def test_a_kink_five_sds_away_in_one_row_of_a_thousand_is_found(i, sign):
    def model(y):
        odd = (torch.arange(len(y)) == i).to(y.dtype)
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z + odd * torch.relu(sign * z - 5), 1.0), obs=y)

    assert "'z'" in refused(model, (randn(73, 1000),))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_latent_that_matters_only_four_sds_out_is_found(sign):
    """The evidence of the jointly normal model would be wrong by 4e-6 nats."""

    def model(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(a + torch.relu(sign * b - 4), 0.7), obs=y)

    refused(model, (t(1.3, 0.2, 2.0, -0.7, 0.9, 1.1),))


@pytest.mark.parametrize("width", [0.3, 0.1, 0.05])
@pytest.mark.parametrize("place", [0.0, 1.0, -1.5, 2.0])
def test_a_dent_in_the_density_is_found(place, width):
    """A tenth of a nat deep. The evidence would be wrong by 5e-4 nats where it is narrowest and farthest out."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("dent", -0.1 * torch.exp(-(((z - place) / width) ** 2)))

    assert "'z'" in refused(model, ())


@pytest.mark.parametrize("counts", [t(0, 0, 1), t(0, 0, 0)])
def test_a_rate_that_is_held_from_below_is_refused(counts):
    """The evidence would be wrong by 5e-6 and 8e-6 nats."""

    def model(counts):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("row", len(counts)):
            pyro.sample("count", dist.Poisson(rate.clamp(min=0.01)), obs=counts)

    assert "'rate'" in refused(model, (counts,))


@pytest.mark.parametrize(
    "prior", [lambda: dist.Normal(torch.zeros(20), 1.0).to_event(1), lambda: dist.Normal(0.0, 1.0).expand([20])]
)
@pytest.mark.parametrize("place", [-1.5, 0.0, 2.0])
def test_a_dent_in_one_of_twenty_numbers_is_found(prior, place):
    def model():
        with nullcontext() if prior().event_shape else pyro.plate("N", 20):
            z = pyro.sample("z", prior())
        pyro.factor("dent", -0.1 * torch.exp(-(((z[7] - place) / 0.05) ** 2)))

    with pytest.raises(credo.NoClosedForm, match="'z'"):
        credo.exact(model)


@pytest.mark.parametrize("place", [-1.5, 0.0, 2.0])
def test_a_dent_in_each_component_of_a_mixture_is_found(place):
    def model():
        pyro.sample("k", dist.Categorical(torch.ones(50) / 50))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("dent", -0.1 * torch.exp(-(((z - place) / 0.05) ** 2)))

    with pytest.raises(credo.NoClosedForm, match="'z'"):
        credo.exact(model)


def test_a_candidate_so_far_away_that_rounding_hides_everything_is_refused():
    """Points around a mode at e^300 make the density 1e70 nats, where no check can tell a family from another."""

    def model(y):
        r = pyro.sample("r", dist.Gamma(0.5, 1.0))
        s = pyro.sample("s", dist.Gamma(1.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.NegativeBinomial(r + 1, logits=s), obs=y)

    with pytest.raises(credo.NoClosedForm, match="'r', 's'"):
        credo.exact(model, torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0, 1.0]))


def test_a_precise_measurement_is_no_rounding():
    """A likelihood 1e-6 sds wide: log p is 1e12 nats away from the data, and the closed form is right."""

    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1e-6), obs=y)

    found = credo.exact(model, torch.tensor(0.3, dtype=torch.float64))
    assert found.marginals["z"].mean.item() == pytest.approx(0.3, rel=1e-9)


@pytest.mark.parametrize("at_once", [True, False])
def test_points_at_once_and_one_by_one_give_the_same_answer(at_once, monkeypatch):
    """The conjugate posterior of 3 heads of 4 after Beta(2, 3), and a prior that is bent by 1e-6 nats."""
    if not at_once:
        monkeypatch.setattr("credo.inference.exact.proof.off_at_once", lambda *of: None)

    def model(flips, bend):
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        pyro.factor("bend", bend * (7 * p).sin())
        with pyro.plate("N", len(flips)):
            pyro.sample("flips", dist.Bernoulli(p), obs=flips)

    flips = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    exact = credo.exact(model, flips, 0.0)
    beta = torch.lgamma(torch.tensor([5.0, 4.0, 9.0, 2.0, 3.0, 5.0], dtype=torch.float64))
    wanted = beta[0] + beta[1] - beta[2] - (beta[3] + beta[4] - beta[5])
    assert exact.log_evidence == pytest.approx(wanted.item(), abs=1e-12)
    assert "'p'" in refused(model, (flips, 1e-6))


def test_close_points_that_nearly_coincide_hide_no_spike_and_count_once(monkeypatch):
    """Twenty points at the edge of a rate, where rounding is largest, and then one in a dent of the density."""

    def model(flips, deep):
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        pyro.factor("dent", -deep * torch.exp(-(((p - 0.31415) / 1e-5) ** 2)))
        with pyro.plate("N", len(flips)):
            pyro.sample("flips", dist.Bernoulli(p), obs=flips)

    logits = torch.tensor([0.0, 0.31415], dtype=torch.float64).logit(eps=1e-9)
    places = torch.cat([logits[:1].expand(4000) + 1e-9 * torch.arange(4000).double(), logits[1:]])[:, None]
    bend = proof.off_at_once

    def off(problem, candidates, xs, log_evidence, numbers):
        found = bend(problem, candidates, xs, log_evidence, numbers)
        return found + 1.0 * (xs[:, 0] < -10) if len(xs) > 1000 else found  # as rounding may be

    monkeypatch.setattr(proof, "close_points", lambda problem, prior, n: places)
    monkeypatch.setattr(proof, "off_at_once", off)
    flips = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    few = credo.exact(model, flips, 0.0).checked.points
    assert few < 4000
    assert "'p'" in refused(model, (flips, 0.1))
