"""Which sites natural gradients move: guides of every kind, told apart by what their distributions are."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

import credo
from credo.inference.pair.pair import Pair
from credo.inference.runtime.parameters import flat_parameters, unconstrained
from credo.inference.updates.natural import mean_step
from credo.inference.updates.normals import normals

X = torch.linspace(-1, 1, 6)
POSITIVE = {
    "softplus": constraints.softplus_positive,
    "exp": constraints.positive,
}


def model(x):
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    b = pyro.sample("b", dist.LogNormal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(a.sum(-1), b), obs=x)


def normal(name, form="softplus", shape=(2,)):
    loc = pyro.param(f"{name}.loc", torch.zeros(shape))
    if form == "half_exp":
        return loc, (0.5 * pyro.param(f"{name}.log_sd2", torch.full(shape, -4.0))).exp()
    return loc, pyro.param(f"{name}.scale", torch.full(shape, 0.1), constraint=POSITIVE[form])


def guide(form="softplus", a=None, b=None):
    def program(x):
        loc, scale = normal("a", form)
        drawn = pyro.sample("a", (a or (lambda *given: dist.Normal(*given).to_event(1)))(loc, scale))
        loc, scale = normal("b", shape=())
        pyro.sample("b", (b or (lambda loc, scale, drawn: dist.LogNormal(loc, scale)))(loc, scale, drawn))

    return program


def prepared(guide, model=model, **options):
    svi = credo.SVI(model, guide, "natural", progress=False, plan="fast", compile=False, **options)
    svi.prepare(X)
    return svi


def moved(svi):
    """{name of loc: (name of scale, form)}."""
    group = svi._steps.optimiser.param_groups[0]
    names = {id(p): name for name, p in svi._prepared.state.store["params"].items()}
    found = [names.get(id(p), "") for p in group["params"]]
    return {found[i]: (found[j], form) for i, j, form in group["pairs"]}


@pytest.mark.parametrize("form", ["softplus", "exp", "half_exp"])
def test_a_normal_and_a_lognormal_move_in_every_form_of_the_scale(form):
    svi = prepared(guide(form))
    scale = "a.log_sd2" if form == "half_exp" else "a.scale"
    assert moved(svi) == {"a.loc": (scale, form), "b.loc": ("b.scale", "softplus")}
    assert svi.plan.updates == "natural gradients for sites 'a', 'b'"
    assert "Updates: natural gradients" in repr(svi.plan)


OTHERS = {
    "a point": (lambda loc, scale: dist.Delta(loc + 0 * scale).to_event(1), "a point"),
    "a loc that is a function": (lambda loc, scale: dist.Normal(2 * loc, scale).to_event(1), "its loc"),
    "a scale that is another function": (lambda loc, scale: dist.Normal(loc, 2 * scale).to_event(1), "its scale"),
    "a scale that mixes": (lambda loc, scale: dist.Normal(loc, scale.flip(0)).to_event(1), "its scale"),
    "one scale for both": (lambda loc, scale: dist.Normal(loc, scale.mean()).to_event(1), "its scale"),
    "both in both": (lambda loc, scale: dist.Normal(loc, scale * loc.exp()).to_event(1), "one parameter each"),
    "another family": (lambda loc, scale: dist.Laplace(loc, scale).to_event(1), "a Laplace"),
    "a full covariance": (lambda loc, scale: dist.MultivariateNormal(loc, scale.diag()), "a MultivariateNormal"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_no_such_normal_is_left_to_adam_with_the_reason(case):
    fn, why = OTHERS[case]
    svi = prepared(guide(a=fn))
    assert moved(svi) == {"b.loc": ("b.scale", "softplus")}
    assert "for site 'b', Adam for all other parameters ('a': " in svi.plan.updates and why in svi.plan.updates


def test_a_loc_that_follows_another_draw_is_none_and_the_other_site_stays_one():
    svi = prepared(guide(b=lambda loc, scale, a: dist.LogNormal(loc + a.sum(), scale)))
    assert list(moved(svi)) == ["a.loc"]


def test_parameters_that_two_sites_share_are_left_to_adam():
    def shared(x):
        loc, scale = normal("a")
        pyro.sample("a", dist.Normal(loc, scale).to_event(1))
        pyro.sample("b", dist.LogNormal(pyro.param("b.loc", torch.zeros(())), scale[0]))

    with pytest.raises(ValueError, match=r"optim: 'natural' moves independent normals.*another site.*Adam"):
        prepared(shared)


def test_a_guide_without_normals_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"the guide has none \(.*MultivariateNormal.*guide='mean_field'.*optim=None"):
        prepared(AutoMultivariateNormal(model))


@pytest.mark.parametrize("make", [AutoNormal, lambda model: "mean_field"], ids=["AutoNormal", "mean_field"])
def test_the_normals_of_automatic_guides_move_in_unconstrained_space(make):
    svi = prepared(make(model))
    assert len(svi._steps.optimiser.param_groups[0]["pairs"]) == 2


def test_rows_of_their_own_in_batches_are_left_to_adam():
    """A batch takes some entries of the parameters: one update of all would move the others without a gradient."""

    def rows(x):
        with pyro.plate("N", len(x), subsample_size=3) as index:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])

    def own(x):
        loc, scale = normal("z", shape=(len(x),))
        with pyro.plate("N", len(x), subsample_size=3) as index:
            pyro.sample("z", dist.Normal(loc[index], scale[index]))

    with pytest.raises(ValueError, match="'z': its loc is not a parameter itself"):
        prepared(own, rows)


def test_it_changes_no_parameter_and_no_generator():
    pyro.clear_param_store()
    program = guide()
    program(X)
    torch.manual_seed(3)
    before, state = flat_parameters(unconstrained().values()), torch.get_rng_state()
    normals(Pair(model, program, (X,)), 0)
    assert torch.equal(before, flat_parameters(unconstrained().values())) and torch.equal(state, torch.get_rng_state())


def test_the_step_of_the_means_knows_the_batches():
    def one(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def own(x):
        loc, scale = normal("z", shape=())
        pyro.sample("z", dist.Normal(loc, scale))

    rows = torch.linspace(-1, 1, 640)
    svi = credo.SVI(one, own, "natural", batch_size=10, progress=False, plan="fast")
    svi.prepare(rows)
    assert svi._steps.optimiser.param_groups[0]["mean"] == mean_step(64.0)


def test_the_step_of_the_means_knows_the_batches_of_a_loop_of_ones_own_and_of_a_models_own_plate():
    """Both take 10 of 640 rows: without that knowledge their noise moved the means by 8 times as much."""

    def one(x, size=None):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x), subsample_size=size) as index:
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])

    def own(x, size=None):
        pyro.sample("z", dist.Normal(*normal("z", shape=())))

    rows, options = torch.linspace(-1, 1, 640), {"progress": False, "plan": "fast", "compile": False}
    looped = credo.SVI(one, own, "natural", **options)
    for start in (0, 10):
        looped.step(rows[start : start + 10], rows=640)
        assert looped._steps.optimiser.param_groups[0]["mean"] == mean_step(64.0)
    drawn = credo.SVI(one, own, "natural", **options)
    drawn.step(rows, 10)
    assert drawn._steps.optimiser.param_groups[0]["mean"] == mean_step(64.0)
    again = credo.SVI(one, own, "natural", **options)
    again.load_state_dict(looped.state_dict())
    again.step(rows[20:30], rows=640)
    assert again._steps.optimiser.param_groups[0]["mean"] == mean_step(64.0)
