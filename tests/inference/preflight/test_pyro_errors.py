"""Errors of Pyro's name the site, the plate and the remedy in credo's words; other errors stay as they are."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal

import credo
from credo.inference.preflight.pyro_errors import explained
from tests.cases.checked import X, belief, look, world


def named_twice(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    for row in x:
        pyro.sample("x", dist.Normal(mu, 1.0), obs=row)


def other_plate(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", 30):
        pyro.sample("x", dist.Normal(mu * x, 1.0), obs=x)


def colliding(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("a", len(x), dim=-1), pyro.plate("b", 2, dim=-1):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def no_latents(x):
    pyro.sample("x", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("model", "guide", "words"),
    [
        (named_twice, belief, r"the model has two sites named 'x'.*f'x_\{i\}'"),
        (other_plate, belief, r"site 'x' \(in the model\).*40 rows in dim -1, where plate 'rows' has 30.*to_event"),
        (colliding, belief, r"plates 'b' and 'a' of the model.*dim=-1 and dim=-2"),
        (no_latents, AutoDiagonalNormal(no_latents), r"no latent site for AutoDiagonalNormal.*lambda \*data: None"),
    ],
)
def test_the_site_and_the_remedy_are_named(model, guide, words):
    with pytest.raises(ValueError, match=words) as caught:
        look(model, guide, X)
    assert caught.value.__cause__ is not None  # Pyro's own error is not lost


def test_a_negative_scale_names_the_line_and_the_constraint():
    def guide(x):
        pyro.sample("mu", dist.Normal(0.0, pyro.param("s", torch.tensor(-1.0))))

    words = (
        r"the guide builds a Normal whose scale is -1.0, .* at test_pyro_errors.py:\d+: .*constraint=constraints.pos"
    )
    with pytest.raises(ValueError, match=words):
        look(world, guide, X)


def test_a_long_tensor_is_shown_by_its_first_entries():
    def guide(x):
        pyro.sample("mu", dist.Normal(0.0, -torch.ones(60)).to_event(1))

    with pytest.raises(ValueError, match=r"scale is tensor\(\[(-1., ){5,20}\.\.\., wanted"):
        look(world, guide, X)


@pytest.mark.parametrize("guide", [None, "map"])
def test_a_count_that_no_automatic_guide_draws_is_named(guide):
    def counted(x):
        pyro.sample("N", dist.Poisson(15.0))
        pyro.sample("x", dist.Normal(pyro.sample("mu", dist.Normal(0.0, 1.0)), 1.0).expand(x.shape).to_event(1), obs=x)

    words = r"site 'N' is discrete and cannot be summed out.*truncate it, pyro.sample\('N', dist.Categorical"
    with pytest.raises(ValueError, match=words):
        credo.fit(counted, guide, X, progress=False)


@pytest.mark.parametrize(
    ("guide", "program"),
    [(belief, "model"), (None, r"model, at the starting values of its autoguide \(init_loc_fn=init_to_median .*\),")],
)
def test_a_covariance_that_is_never_positive_definite_is_named_with_the_sites_and_the_remedy(guide, program):
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.MultivariateNormal(mu.expand(len(x)), -torch.linalg.cholesky(-torch.eye(len(x)))), obs=x)

    words = (
        rf"the {program} asks for the Cholesky factor of a matrix that is not positive definite at the values drawn "
        r"\(sites until then: 'mu'\), at test_pyro_errors.py:\d+: .*add jitter"
    )
    with pytest.raises(ValueError, match=words):
        credo.fit(model, guide, X, progress=False)


def test_two_chains_in_one_loop_are_refused_and_in_one_after_the_other_are_not():
    def chain(i, before, name):
        return pyro.sample(f"{name}{i}", dist.Bernoulli(0.3 + 0.4 * before))

    def zipped(x):
        mu, s, t = pyro.sample("mu", dist.Normal(0.0, 1.0)), 0.0, 0.0
        for i, j in zip(pyro.markov(range(3)), pyro.markov(range(3)), strict=True):
            s, t = chain(i, s, "s"), chain(j, t, "t")
            pyro.sample(f"x{i}", dist.Normal(mu + s + t, 1.0), obs=x[i])

    def in_turn(x):
        mu, s, t = pyro.sample("mu", dist.Normal(0.0, 1.0)), 0.0, 0.0
        for i in pyro.markov(range(3)):
            s, t = chain(i, s, "s"), chain(i, t, "t")
            pyro.sample(f"x{i}", dist.Normal(mu + s + t, 1.0), obs=x[i])

    with pytest.raises(ValueError, match=r"leaves one pyro.markov .* share one: for i in pyro.markov"):
        credo.fit(zipped, None, X, steps=2, progress=False)
    credo.fit(in_turn, None, X, steps=2, progress=False)


def test_other_errors_stay_as_they_are():
    assert explained("model", RuntimeError("something else")) is None
    look(world, belief, X)
