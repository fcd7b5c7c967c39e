"""The gap between a network's normals and the best ones of each row, which are known for a model of normals."""

import dataclasses

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.posterior.verdict import Verdict
from credo.inference.variational.amortisation import amortisation_gap, with_gap

X = torch.linspace(-2.0, 2.0, 16)


def model(x):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


@pytest.fixture(scope="module")
def fit():
    how = {"steps": 1, "lr": 1e-9, "compile": False, "progress": False, "plan": "fast"}
    return credo.fit(model, "amortised", X, **how)


def test_the_gap_is_the_divergence_of_the_network_from_the_posterior(fit):
    """An untrained network says N(0, .1^2) of each row, whose posterior is N(.8 x, .2)."""
    q, p = dist.Normal(0.0, 0.1), dist.Normal(0.8 * X, 0.2**0.5)
    wanted = torch.distributions.kl_divergence(q, p).mean().item()
    before = {name: value.clone() for name, value in fit.params.items()}
    gap = amortisation_gap(fit)
    assert gap.rows == 16 and gap.nats == pytest.approx(wanted, rel=0.25)
    assert all(torch.equal(fit.params[name], value) for name, value in before.items())


def test_a_large_gap_is_a_no(fit):
    unknown = Verdict("unknown", 0.5, ("17 latents",), "")
    found = with_gap(fit, unknown, 30.0)
    assert found.trust == "no" and found.reasons[0].startswith("amortisation gap") and "mean_field" in found.remedy
    assert with_gap(fit, unknown, 0.1).reasons[-1] == "amortisation gap not looked at: credo.check(fit)"
    other = dataclasses.replace(fit, guide=lambda x: None)
    assert amortisation_gap(other) is None and with_gap(other, unknown, 30.0) is unknown
