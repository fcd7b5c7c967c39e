"""Mistakes about parameters are warned of by name; tied weights and shared or frozen networks are not."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal
from torch import nn

import credo
from tests.cases.checked import X, belief, look, positive, warned, world

ZERO = torch.tensor(0.0)
LOOSE = torch.tensor(0.0, requires_grad=True)


def two(x):
    """x ~ N(a - b, 1)."""
    a, b = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "ab")
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(a - b, 1.0), obs=x)


def learned_noise(x, name="s"):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    scale = positive(name)
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, scale), obs=x)


def test_one_parameter_of_model_and_guide_is_warned_of():
    """The guide's sd and the noise of the model share a name: the answer is neither."""
    with pytest.warns(UserWarning, match=r"parameter 's' is in the model and in the guide \(.*checked.py:\d+"):
        credo.fit(learned_noise, belief, X, steps=2)
    assert warned(lambda x: learned_noise(x, "noise"), belief, X) == ""


def created_twice(x):
    pyro.sample("a", dist.Normal(pyro.param("m", ZERO), 1.0))
    pyro.sample("b", dist.Normal(pyro.param("m", ZERO), 2.0))


def fetched_again(x):
    pyro.sample("a", dist.Normal(pyro.param("m", ZERO), 1.0))
    pyro.sample("b", dist.Normal(pyro.param("m"), 2.0))


def tied_scale(x):
    scale = positive("scale")
    pyro.sample("a", dist.Normal(pyro.param("m", ZERO), scale))
    pyro.sample("b", dist.Normal(pyro.param("k", ZERO), scale))


def in_a_loop(x):
    for name in "ab":
        pyro.sample(name, dist.Normal(pyro.param("m", ZERO), positive("scale")))


def own_in_a_loop(x):
    for name in "ab":
        pyro.sample(name, dist.Normal(pyro.param(f"m of {name}", ZERO), positive(f"scale of {name}")))


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (created_twice, "parameter 'm' is created twice in the guide"),
        (in_a_loop, "sites 'a', 'b': the guide draws them from one distribution with the same parameters"),
    ],
)
def test_a_parameter_for_two_sites_by_mistake_is_warned_of(guide, words):
    assert words in warned(two, guide, X)


def located(name):
    """A helper that creates: the parameter has one line, its two callers have two."""
    return pyro.param(name, ZERO)


def one_loc_by_a_helper(x):
    pyro.sample("a", dist.Normal(located("m"), 1.0))
    pyro.sample("b", dist.Normal(located("m"), 2.0))


def one_scale_by_a_helper(x):
    pyro.sample("a", dist.Normal(located("m"), positive("s")))
    pyro.sample("b", dist.Normal(located("k"), positive("s")))


def one_loc_in_a_loop(x):
    for name in "ab":
        pyro.sample(name, dist.Normal(located("m"), positive(f"s of {name}")))


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (one_loc_by_a_helper, "parameter 'm' is created anew for each of sites 'a', 'b' in the guide, and is the loc"),
        (one_scale_by_a_helper, "parameter 's' is created anew for each of sites 'a', 'b' in the guide, and is the sc"),
        (one_loc_in_a_loop, "parameter 'm' is created anew for each of sites 'a', 'b'"),
    ],
)
def test_a_parameter_that_a_helper_creates_for_two_sites_is_warned_of(guide, words):
    assert words in warned(two, guide, X)


def one_scale_of_a_loop(x):
    for name in "ab":
        pyro.sample(name, dist.Normal(located(f"m of {name}"), positive("s")))


def one_variable(x):
    loc = located("m")
    pyro.sample("a", dist.Normal(loc, 1.0))
    pyro.sample("b", dist.Normal(loc, 2.0))


def one_network(x):
    """An encoder, called for each site on other data: its weights are one parameter."""

    def encoded(rows):
        return pyro.param("weight", torch.tensor(0.5)) * rows.mean() + located("bias")

    pyro.sample("a", dist.Normal(encoded(x[:20]), 1.0))
    pyro.sample("b", dist.Normal(encoded(x[20:]), 2.0))


@pytest.mark.parametrize("guide", [one_scale_of_a_loop, one_variable, one_network])
def test_a_parameter_that_is_shared_on_purpose_is_not(guide):
    assert warned(two, guide, X) == ""


def entries_of_one_parameter(x):
    m, s = pyro.param("m", torch.zeros(2)), pyro.param("s", torch.ones(2), constraint=dist.constraints.positive)
    pyro.sample("a", dist.Normal(m[0], s[0]))
    pyro.sample("b", dist.Normal(m[1], s[1]))


@pytest.mark.parametrize("guide", [fetched_again, tied_scale, own_in_a_loop, entries_of_one_parameter])
def test_tied_weights_are_fine(guide):
    assert warned(two, guide, X) == ""


def test_parameters_that_start_from_one_tensor_are_two_and_leave_it_as_it_is():
    """Pyro trains the tensor itself: the parameters would be one, and the data would change."""

    def guide(x):
        for name in "ab":
            pyro.sample(name, dist.Normal(pyro.param(f"m of {name}", ZERO), positive(f"s of {name}")))
        pyro.param("of the data", x)

    before = X.clone()
    with pytest.warns(UserWarning, match="'of the data' gets no gradient"):
        fit = credo.fit(two, guide, X, steps=300, progress=False, compile=False)
    a, b = fit.params["m of a"].item(), fit.params["m of b"].item()
    assert a == pytest.approx(X.mean().item() / 2, abs=0.3) and b == pytest.approx(-a, abs=0.3)
    assert ZERO.item() == 0 and not ZERO.requires_grad and torch.equal(X, before) and not X.requires_grad


def loose(x):
    pyro.sample("mu", dist.Normal(LOOSE, positive("s")))


def test_a_tensor_that_is_no_parameter_is_warned_of_by_name():
    found = warned(world, loose, X)
    assert "the tensor 'LOOSE' requires a gradient but is no parameter" in found and "pyro.param('LOOSE'" in found


def test_a_tensor_of_a_closure_too():
    held = torch.tensor([1.0], requires_grad=True)

    def guide(x):
        pyro.sample("mu", dist.Normal(held[0], positive("s")))

    assert "'held'" in warned(world, guide, X)


def test_data_that_requires_a_gradient_is_fine():
    assert warned(world, belief, X.clone().requires_grad_()) == ""


def with_network(net, register):
    def guide(x):
        if register:
            pyro.module("net", net)
        pyro.sample("mu", dist.Normal(net(x[:3])[0], positive("s")))

    return guide


def test_a_network_that_nobody_registers_is_warned_of_and_a_frozen_one_is_not():
    found = warned(world, with_network(nn.Linear(3, 1), False), X)
    assert "2 weights of a network (Linear) are not trained" in found and "pyro.module" in found
    frozen = nn.Linear(3, 1).requires_grad_(False)
    for net, register in ((nn.Linear(3, 1), True), (frozen, False), (nn.Linear(3, 1).eval(), False)):
        assert warned(world, with_network(net, register), X) == ""


def test_a_network_that_model_and_guide_share_is_fine():
    net = nn.Linear(3, 1)

    def model(x):
        pyro.module("net", net)
        mu = pyro.sample("mu", dist.Normal(net(x[:3])[0], 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    assert warned(model, with_network(net, True), X) == ""


def test_two_sites_of_one_encoder_are_fine():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def guide(x):
        pyro.module("net", net)
        out = net(x[:3])
        for i, name in enumerate("ab"):
            pyro.sample(name, dist.Normal(out[i], 1.0))

    assert warned(two, guide, X) == ""


def test_a_pair_whose_parameters_enter_no_density_is_refused():
    def detached(x):
        pyro.sample("mu", dist.Normal(pyro.param("m", ZERO).detach(), 1.0))

    with pytest.raises(ValueError, match=r"no density depends on a parameter \('m'\)"):
        credo.fit(world, detached, X)


def test_entries_of_one_parameter_are_fine():
    def guide(x):
        m = pyro.param("m", torch.zeros(2))
        for i, name in enumerate("ab"):
            pyro.sample(name, dist.Normal(m[i], 1.0))

    assert warned(two, guide, X) == ""


def test_a_starting_value_outside_of_its_constraint_is_refused():
    with pytest.raises(ValueError, match=r"parameter 's': its starting value \[-1.0\] does not satisfy its constraint"):
        look(world, lambda x: pyro.sample("mu", dist.Normal(0.0, positive("s", -1.0))), X)
    with pytest.raises(ValueError, match=r"parameter 'm': its starting value \[nan\]"):
        look(world, lambda x: pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(torch.nan)), 1.0)), X)


def test_the_sites_of_an_autoguide_are_points_and_fine():
    for kind in (AutoMultivariateNormal, AutoDiagonalNormal):
        assert warned(two, kind(two), X) == ""


def test_sites_of_other_shapes_in_one_plate_have_no_distribution_in_common():
    """The points of AutoMultivariateNormal: one number and two for each row, of one batch shape, from one normal."""

    def rows(y):
        with pyro.plate("N", len(y)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("y", dist.StudentT(4.0, a + b.sum(-1), 1.0), obs=y)

    assert warned(rows, AutoMultivariateNormal(rows), torch.randn(4)) == ""


def test_an_entry_of_a_list_is_named():
    several = [torch.tensor(1.0, requires_grad=True)]
    found = warned(world, lambda x: pyro.sample("mu", dist.Normal(several[0], positive("s"))), X)
    assert "the tensor 'several[0]' requires a gradient" in found


def test_the_points_of_an_autoguide_with_one_vector_are_not_taken_for_one_distribution():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(mu, s), obs=y)

    y = torch.tensor([0.3, 1.1, 0.7])
    plan = credo.SVI(model, AutoDiagonalNormal(model), progress=False).prepare(y)
    assert plan.kl == frozenset()
