"""Delta sites computed from auxiliary noise are warned of where their log_density is not that of the noise."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch.distributions import constraints

import credo
from tests.cases.checked import X, positive, warned, world

MANY = 200  # numbers: more than a Jacobian is computed for


def real(name, value=0.0):
    return pyro.param(name, torch.as_tensor(value))


def noise(loc, scale, name="e"):
    return pyro.sample(name, dist.Normal(loc, scale), infer={"is_auxiliary": True})


def without_density(x):
    """The mistake at a scale of 1, where the density of the Delta happens to be right."""
    pyro.sample("mu", dist.Delta(real("m") + positive("s") * noise(0.0, 1.0)))


def with_density(x):
    s = positive("s")
    pyro.sample("mu", dist.Delta(real("m") + s * noise(0.0, 1.0), log_density=-s.log()))


def other_sign(x):
    s = positive("s", 0.5)
    pyro.sample("mu", dist.Delta(real("m") + s * noise(0.0, 1.0), log_density=s.log()))


def shifted(x):
    """|det| = 1: no density is due."""
    pyro.sample("mu", dist.Delta(real("m") + noise(0.0, positive("s"))))


def factor_of_the_guide(x):
    s = positive("s", 0.5)
    pyro.sample("mu", dist.Delta(real("m") + s * noise(0.0, 1.0)))
    pyro.factor("det", -s.log(), has_rsample=True)


def only_beside_noise(x):
    """A point estimate; the noise moves nothing."""
    noise(0.0, 1.0)
    pyro.sample("mu", dist.Delta(real("m")))


def point_of_a_point(x):
    """A point estimate: the auxiliary site is a point too, and no noise."""
    pyro.sample("mu", dist.Delta(2 * pyro.sample("e", dist.Delta(real("m")), infer={"is_auxiliary": True})))


def masked(x):
    with poutine.mask(mask=False):
        pyro.sample("mu", dist.Delta(real("m") + positive("s", 0.5) * noise(0.0, 1.0)))


@pytest.mark.parametrize("guide", [without_density, other_sign])
def test_a_wrong_density_of_one_number_is_warned_of(guide):
    assert "site 'mu': a Delta of the guide is computed from the draw of site 'e'" in warned(world, guide, X)


@pytest.mark.parametrize(
    "guide", [with_density, shifted, factor_of_the_guide, only_beside_noise, point_of_a_point, masked]
)
def test_the_right_density_of_one_number_is_not(guide):
    assert "Delta" not in warned(world, guide, X)


def test_with_the_density_the_fit_is_the_posterior():
    precision = len(X) + 0.01
    fit = credo.fit(world, with_density, X, steps=1500, progress=False)
    draws = fit.sample(10_000)["mu"]
    assert draws.mean().item() == pytest.approx(X.sum().item() / precision, abs=0.05)
    assert draws.std().item() == pytest.approx(precision**-0.5, rel=0.1)


def many(x, n):
    """z: n numbers, the first of which are rows of x."""
    z = pyro.sample("z", dist.Normal(torch.zeros(n), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(z[0] + z[1], 1.0), obs=x)


@pytest.mark.parametrize("n", [3, MANY])
def test_a_scale_for_each_number(n):
    def guide(x, counted):
        e = pyro.sample("e", dist.Normal(torch.zeros(n), 1.0).to_event(1), infer={"is_auxiliary": True})
        s = pyro.param("s", 0.5 * torch.ones(n), constraint=constraints.positive)
        density = -s.log().sum() if counted else 0.0
        pyro.sample("z", dist.Delta(real("m", torch.zeros(n)) + s * e, log_density=density, event_dim=1))

    assert "site 'z': a Delta" in warned(lambda x: many(x, n), lambda x: guide(x, False), X)
    assert warned(lambda x: many(x, n), lambda x: guide(x, True), X) == ""


def test_a_full_matrix_and_a_coupling():
    """L e has |det L|; a shear, as in NICE, has |det| = 1 without a word of it."""

    def guide(x, part):
        e = pyro.sample("e", dist.Normal(torch.zeros(2), 1.0).to_event(1), infer={"is_auxiliary": True})
        if part == "shear":
            value, density = torch.stack([e[0], e[1] + real("w", 0.7) * e[0]]), 0.0
        else:
            root = pyro.param("root", 2 * torch.eye(2), constraint=constraints.lower_cholesky)
            value, density = root @ e, -root.diagonal().log().sum() if part == "counted" else 0.0
        pyro.sample("z", dist.Delta(value, log_density=density, event_dim=1))

    found = {part: warned(lambda x: many(x, 2), lambda x, p=part: guide(x, p), X) for part in ("", "counted", "shear")}
    assert "a Delta" in found[""] and found["counted"] == found["shear"] == ""


def test_two_sites_cut_from_one_draw_as_autoguides_do():
    def model(x):
        a, b = (pyro.sample(name, dist.LogNormal(0.0, 1.0)) for name in "ab")
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

    def guide(x, counted):
        loc, scale = real("m", torch.zeros(2)), pyro.param("s", torch.ones(2), constraint=constraints.positive)
        e = pyro.sample("e", dist.Normal(loc, scale).to_event(1), infer={"is_auxiliary": True})
        for i, name in enumerate("ab"):
            pyro.sample(name, dist.Delta(e[i].exp(), log_density=-e[i] if counted else torch.tensor(0.0)))

    assert warned(model, lambda x: guide(x, True), X) == ""
    assert "sites 'a', 'b': a Delta" in warned(model, lambda x: guide(x, False), X)
    assert warned(model, AutoNormal(model), X) == warned(model, AutoMultivariateNormal(model), X) == ""


def test_a_simplex_which_has_a_number_more_than_its_noise():
    def model(x):
        p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(p[0], 1.0), obs=x)

    def guide(x):
        e = pyro.sample("e", dist.Normal(real("m", torch.zeros(2)), 1.0).to_event(1), infer={"is_auxiliary": True})
        to_simplex = dist.transforms.StickBreakingTransform()
        p = to_simplex(e)
        pyro.sample("p", dist.Delta(p, log_density=-to_simplex.log_abs_det_jacobian(e, p), event_dim=1))

    assert warned(model, guide, X) == ""
