"""The look at a fit by all rows: a guide that is off is corrected, another mode is found, the price is told."""

import dataclasses

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.importance.look_at_all_rows import TooLong, look_at_all_rows
from credo.inference.storage.absent import Absent
from credo.inference.streaming.source import source_of
from tests.cases.windows import FEW, MEAN, SD, N, X, Z, in_files, regression, small_windows

G = torch.Generator().manual_seed(3)
MIXED = torch.where(torch.rand(N, generator=G) < 0.5, 3.0, -3.0) + torch.randn(N, generator=G)


def mixture(y):
    m = pyro.sample("m", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        two = dist.Normal(torch.stack([m, -m]), 1.0)
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), two), obs=y)


def guide_of(name, loc, scale):
    def guide(*data):
        fn = dist.Normal(pyro.param("loc", loc), pyro.param("scale", scale, constraint=dist.constraints.positive))
        pyro.sample(name, fn.to_event(loc.dim()))

    return guide


def fit_of(model, guide, data):
    """A fit at the parameters that its guide starts from, with some of its rows."""
    fit = credo.fit(model, guide, *data, steps=1, lr=1e-12, plan="fast", compile=False, progress=False)
    some = Absent(value[torch.randperm(N, generator=torch.Generator().manual_seed(0))[:FEW]] for value in data)
    some.streamed, some.free = N, frozenset({"guide", "sample"})
    return dataclasses.replace(fit, data=some)


@pytest.fixture
def looked(tmp_path, monkeypatch):
    small_windows(monkeypatch, rows=333)

    def at(model, guide, *data, **options):
        fit = fit_of(model, guide, data)
        source = source_of(model, in_files(tmp_path, *data), 1)
        return look_at_all_rows(fit, source, **{"seconds": 60.0, **options})

    return at


@pytest.mark.parametrize(("shift", "width"), [(0.0, 1.0), (4.0, 2.0), (40.0, 0.2)])
def test_a_guide_beside_the_posterior_is_corrected(shift, width, looked):
    look = looked(regression, guide_of("w", (MEAN + shift * SD).float(), (width * SD).float()), X, Z)
    assert look.correction.trusted, look.correction.doubt
    weights, w = look.correction.importance.log_weights.exp(), look.correction.values["w"]
    mean = weights @ w
    assert ((mean - MEAN) / SD).abs().max() < 0.1
    assert ((weights @ (w - mean).square()).sqrt() / SD - 1).abs().max() < 0.08
    assert look.importance.reliable == (shift == 0.0)
    exact = dist.MultivariateNormal(
        torch.zeros(N).double(), 0.49 * torch.eye(N).double() + 100 * X.double() @ X.double().T
    )
    assert look.correction.importance.log_evidence == pytest.approx(exact.log_prob(Z.double()).item(), abs=0.05)


def test_the_other_mode_is_found_and_has_its_half_of_the_mass(looked):
    look = looked(mixture, guide_of("m", torch.tensor(3.0), torch.tensor(0.02)), MIXED)
    assert look.correction.trusted, look.correction.doubt
    weights, m = look.correction.importance.log_weights.exp(), look.correction.values["m"]
    assert weights[m > 0].sum().item() == pytest.approx(0.5, abs=0.05)
    assert look.importance.reliable  # the guide's own weights do not see it


def test_a_look_that_takes_too_long_says_how_long(looked):
    with pytest.raises(TooLong, match=r"takes about \d+ seconds of CPU, and 0.001 are given"):
        looked(regression, guide_of("w", MEAN.float(), SD.float()), X, Z, seconds=1e-3)


def test_many_latents_are_not_looked_at(looked):
    def wide(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(120), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ w[:2], 0.7), obs=y)

    assert "120 latents" in looked(wide, guide_of("w", torch.zeros(120), torch.ones(120)), X, Z)


def test_a_finite_latent_of_the_guide_is_not_summed_out(looked):
    def coin(y):
        z = pyro.sample("z", dist.Bernoulli(0.5))
        m = pyro.sample("m", dist.Normal(z, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    def guide(y):
        pyro.sample("z", dist.Bernoulli(pyro.param("p", torch.tensor(0.5))))
        pyro.sample("m", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.02))

    assert "finite latents" in looked(coin, guide, MIXED)
