"""Which densities may be differentiated through a draw: kinks and steep slopes may, steps in whatever dress may not."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal, init_to_value
from torch import nn
from torch.distributions import constraints as c

import credo
from tests.cases.repeats import seeds

Y = torch.tensor([1.3, 0.2, 2.0])


def guide(y):
    m, s = pyro.param("m", torch.tensor(0.4)), pyro.param("s", torch.tensor(0.6), constraint=c.positive)
    pyro.sample("z", dist.Normal(m, s))


def with_mean(f):
    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(f(z), 1.0), obs=y)

    return model


ROUGH = {
    "a step": lambda z: torch.where(z > 0, 2.0, 0.0),
    "a small step on a slope": lambda z: z + 0.2 * (z > 0),
    "a sign": torch.sign,
    "a floor": lambda z: torch.floor(5 * z) / 5,
    "a cast": lambda z: z.long().float(),
    "a thousand small steps": lambda z: (z > torch.linspace(-2, 2, 1000)).float().mean(),
    "a detach": lambda z: z.detach(),
    "half a detach": lambda z: z + z.detach(),
    "a Python branch": lambda z: 2.0 if z > 0 else 0.0,
    "a value taken out": lambda z: torch.tensor(z.item()),
}
SMOOTH = {
    "the identity": lambda z: z,
    "a kink": torch.relu,
    "forty kinks": lambda z: torch.relu(z - torch.linspace(-2, 2, 40)).sum(),
    "a steep slope": lambda z: torch.sigmoid(300 * z),
    "a very steep slope": lambda z: torch.sigmoid(2000 * z),
    "a wave": lambda z: torch.sin(20 * z),
    "growth": lambda z: (3 * z).exp(),
    "a smooth Python branch": lambda z: z**2 if z > 0 else torch.zeros(()),
    "nothing": lambda z: 0.3,
}


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("name", ROUGH)
def test_a_density_that_jumps_gets_the_score_and_the_reason(name, seed):
    row = credo.plan(with_mean(ROUGH[name]), guide, Y, seed=seed).frame.loc["z"]
    assert row["estimator"] == "score" and "has rsample, but the log density jumps along its draws" in row["reason"]


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("name", SMOOTH)
def test_a_density_without_jumps_stays_pathwise(name, seed):
    assert credo.plan(with_mean(SMOOTH[name]), guide, Y, seed=seed).estimator("z") == "pathwise"


def test_an_override_against_a_jump_is_refused():
    with pytest.raises(ValueError, match="'z': 'pathwise' is not legal: the log density jumps along its draws"):
        credo.plan(with_mean(torch.sign), guide, Y, plan={"z": "pathwise"})
    assert credo.plan(with_mean(torch.sign), guide, Y, plan={"z": "score"}).estimator("z") == "score"


def test_of_two_sites_the_one_that_jumps_is_named():
    def model(y):
        a, b = pyro.sample("a", dist.Normal(0.0, 1.0)), pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(a + torch.sign(b), 1.0), obs=y)

    def both(y):
        m = pyro.param("m", torch.zeros(2))
        pyro.sample("a", dist.Normal(m[0], 0.7))
        pyro.sample("b", dist.Normal(m[1], 0.7))

    plan = credo.plan(model, both, Y)
    assert (plan.estimator("a"), plan.estimator("b")) == ("pathwise", "score")


@pytest.mark.parametrize(("f", "estimator"), [(torch.relu, "pathwise"), (torch.sign, "score")])
def test_an_autoguide_is_seen_through(f, estimator):
    """Its draws are those of an auxiliary site; the site of the model follows them."""
    model = with_mean(f)
    guide = AutoNormal(model, init_loc_fn=init_to_value(values={"z": torch.tensor(0.02)}))
    plan = credo.plan(model, guide, Y)
    assert {e.estimator for e in plan.entries if e.distribution == "Normal"} == {estimator}


@pytest.mark.parametrize(
    ("prior", "belief"),
    [
        (lambda: dist.Beta(2.0, 2.0), lambda u: dist.Beta(1 + u.exp(), torch.tensor(2.0))),
        (lambda: dist.Gamma(2.0, 2.0), lambda u: dist.Gamma(1 + u.exp(), torch.tensor(2.0))),
        (lambda: dist.Uniform(0.0, 1.0), lambda u: dist.Beta(1 + u.exp(), torch.tensor(2.0))),
        (lambda: dist.Dirichlet(torch.ones(3)), lambda u: dist.Dirichlet(1 + u.exp() * torch.ones(3))),
    ],
    ids=["Beta", "Gamma", "Uniform", "Dirichlet"],
)
def test_the_way_between_two_draws_stays_inside_the_support(prior, belief):
    for f, estimator in ((lambda z: z, "pathwise"), (lambda z: (z > 0.4).float(), "score")):

        def model(y, f=f):
            z = pyro.sample("z", prior())
            with pyro.plate("N", len(y)):
                pyro.sample("y", dist.Normal(f(z).sum(), 0.5), obs=y)

        def q(y):
            pyro.sample("z", belief(pyro.param("u", torch.tensor(0.5))))

        assert credo.plan(model, q, Y).estimator("z") == estimator


def test_a_network_with_kinks_and_dropout_is_smooth():
    net = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2))
    net.requires_grad_(False)  # the pairs refuse dropout in training mode

    def model(x, y):
        first = pyro.sample("first", dist.Normal(torch.zeros(3, 20), 1.0).to_event(2))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Categorical(logits=net(x @ first)), obs=y)

    plan = credo.plan(model, "mean_field", torch.randn(30, 3), torch.arange(30) % 2)
    assert {e.estimator for e in plan.entries} <= {"pathwise", "local"}


def test_a_jump_met_on_the_way_is_warned_of():
    """At the start the guide is far from the step, at the end it sits on it: the data are split."""

    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z + 0.5 * (z > 1.0), 0.3), obs=y)

    def narrow(y):
        m, s = pyro.param("m", torch.tensor(-3.0)), pyro.param("s", torch.tensor(0.01), constraint=c.positive)
        pyro.sample("z", dist.Normal(m, s))

    assert credo.plan(model, narrow, Y).estimator("z") == "pathwise"
    with pytest.warns(UserWarning, match=r"site 'z': the log density jumps .* plan={'z': 'score'}"):
        credo.fit(model, narrow, Y + 0.2, progress=False)


def test_looking_moves_no_parameter_and_no_generator(unchanged):
    with unchanged():
        credo.plan(with_mean(torch.sign), guide, Y)
