"""The mean-field guide draws what Pyro's AutoNormal draws, with the same density, under the names of the model."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch import nn

import credo
from credo.inference.pair.autoguide import WORDS
from credo.inference.pair.mean_field import MeanField

PRIORS = {
    "real": lambda: dist.Normal(0.0, 1.0),
    "vector": lambda: dist.MultivariateNormal(torch.zeros(3), torch.eye(3)),
    "matrix": lambda: dist.Normal(torch.zeros(2, 3), 1.0).to_event(2),
    "positive": lambda: dist.Gamma(2.0, 1.0),
    "positives": lambda: dist.LogNormal(torch.zeros(3), 1.0).to_event(1),
    "half": lambda: dist.HalfNormal(1.0),
    "interval": lambda: dist.Beta(2.0, 3.0),
    "above": lambda: dist.Pareto(2.0, 3.0),
    "simplex": lambda: dist.Dirichlet(torch.ones(3)),
    "ordered": lambda: dist.TransformedDistribution(
        dist.Normal(torch.zeros(3), 1.0).to_event(1), dist.transforms.OrderedTransform()
    ),
    "correlation": lambda: dist.LKJCholesky(3, 1.0),
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("rows", [0, 4])
def test_it_is_autonormal_without_points(prior, rows):
    def model():
        with pyro.plate("N", rows) if rows else pyro.poutine.trace():
            pyro.sample("z", PRIORS[prior]())

    found = []
    for make in (MeanField, AutoNormal):
        pyro.clear_param_store()
        torch.manual_seed(0)
        guide = make(model, init_loc_fn=pyro.infer.autoguide.init_to_median)
        guide()
        torch.manual_seed(1)
        trace = poutine.trace(guide).get_trace()
        found.append((trace, trace.log_prob_sum(), dict(pyro.get_param_store().items())))
    (ours, density, params), (theirs, wanted, names) = found
    torch.testing.assert_close(ours.nodes["z"]["value"], theirs.nodes["z"]["value"])
    torch.testing.assert_close(density, wanted, rtol=1e-4, atol=1e-4)
    assert params.keys() == names.keys()
    assert ours.nodes["z"]["fn"].event_shape == theirs.nodes["z"]["fn"].event_shape
    assert "z_unconstrained" in theirs.nodes and not [name for name in ours.nodes if "unconstrained" in name]


def test_a_draw_near_a_border_keeps_its_density():
    """At u = 30 the sigmoid is 1 in single precision, and its inverse knows u no more."""

    def model():
        pyro.sample("z", dist.Beta(1.0, 1.0))

    pyro.clear_param_store()
    guide = MeanField(model, init_loc_fn=pyro.infer.autoguide.init_to_median)
    guide()
    with torch.no_grad():
        guide.locs.z.fill_(14.0)
    u = torch.randn((), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    trace = poutine.trace(guide).get_trace()
    u = 14 + 0.1 * u
    wanted = dist.Normal(14.0, 0.1).log_prob(u) - (torch.nn.functional.logsigmoid(u) - u)
    assert trace.log_prob_sum().item() == pytest.approx(wanted.item(), abs=0.01)


def test_the_plan_has_a_row_for_each_latent_of_the_model_and_local_noise_is_legal():
    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

    net, x = Line(), torch.randn(20, 3, generator=torch.Generator().manual_seed(0))

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(1, 3), 1.0).to_event(2))
        s = pyro.sample("s", dist.Gamma(2.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(nn.functional.linear(x, w)[:, 0], s), obs=y)

    assert net is not None
    plan = credo.plan(model, None, x, x.sum(1), plan={"w": "local"})
    assert [entry.site for entry in plan.entries] == ["w", "s"] and plan.estimator("w") == "local"
    assert [entry.distribution for entry in plan.entries] == ["Normal", "LogNormal"]
    with pytest.raises(ValueError, match="w"):
        credo.plan(model, AutoNormal(model), x, x.sum(1), plan={"w": "local"})  # there it is a point


def test_the_word_is_what_none_is_where_steps_are_asked_for():
    fits = [credo.fit(flat, guide, steps=20, compile=False, progress=False) for guide in (None, "mean_field")]
    assert torch.equal(fits[0].params["AutoNormal.locs.z"], fits[1].params["AutoNormal.locs.z"])
    assert pickle.loads(pickle.dumps(fits[1])).sample(3)["z"].shape == (3,)


def flat():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(1.0))


def test_an_unknown_word_is_refused_with_the_words_that_are_known():
    with pytest.raises(ValueError, match=r"guide: got 'meanfield'.*'mean_field', 'full_rank', 'low_rank', 'laplace'"):
        credo.fit(flat, "meanfield")
    assert WORDS == ("mean_field", "full_rank", "low_rank", "laplace", "amortised", "map", "mle")


@pytest.mark.parametrize("layers", [1, 2])
def test_the_units_of_a_network_start_apart_and_a_single_matrix_starts_at_zero(layers):
    """At zero all units of a layer are alike: a saddle point."""

    def model(x):
        w = pyro.sample("w", dist.Normal(torch.zeros(2, 5), 1.0).to_event(2))
        h = x @ w
        if layers == 2:
            h = h.tanh() @ pyro.sample("v", dist.Normal(torch.zeros(5, 5), 1.0).to_event(2))
        pyro.sample("y", dist.Normal(h.sum(-1), 1.0).to_event(1), obs=torch.zeros(len(x)))

    runner = credo.SVI(model, None, progress=False)
    runner.prepare(torch.ones(3, 2))
    loc, scale = runner.params["AutoNormal.locs.w"], runner.params["AutoNormal.scales.w"]
    assert bool(loc.any()) is (layers == 2) and (loc.abs() < 3).all()
    assert scale.unique().tolist() == pytest.approx([0.01 if layers == 2 else 0.1])
