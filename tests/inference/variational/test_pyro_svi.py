"""Pyro programs run after changing one import, and give Pyro's own losses to the last digit."""

import copy
import inspect
import pydoc
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal
from pyro.optim import Adam, ClippedAdam, clipped_adam
from torch import nn
from torch.distributions import constraints

import credo
from tests.cases.tutorials.mixture import gaussian_mixture

STEPS = 12


def coin(SVI):
    """SVI part I of Pyro's tutorials: parameters read from the store after training."""
    data = torch.tensor([1.0] * 6 + [0.0] * 4)

    def model(data):
        f = pyro.sample("latent_fairness", dist.Beta(torch.tensor(10.0), torch.tensor(10.0)))
        for i in range(len(data)):
            pyro.sample(f"obs_{i}", dist.Bernoulli(f), obs=data[i])

    def guide(data):
        alpha = pyro.param("alpha_q", torch.tensor(15.0), constraint=constraints.positive)
        beta = pyro.param("beta_q", torch.tensor(15.0), constraint=constraints.positive)
        pyro.sample("latent_fairness", dist.Beta(alpha, beta))

    svi = SVI(model, guide, Adam({"lr": 0.0005, "betas": (0.90, 0.999)}), loss=Trace_ELBO())
    losses = [svi.step(data) for _ in range(STEPS)]
    return losses, pyro.param("alpha_q").item(), pyro.param("beta_q").item()


def regression(SVI):
    """The Bayesian regression tutorial: a PyroModule-free model, AutoDiagonalNormal and Predictive."""
    x = torch.linspace(-1, 1, 20)
    y = 2 * x + 0.5

    def model(x, y=None):
        a, b = pyro.sample("a", dist.Normal(0.0, 10.0)), pyro.sample("b", dist.Normal(0.0, 10.0))
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        with pyro.plate("data", len(x)):
            return pyro.sample("obs", dist.Normal(a * x + b, sigma), obs=y)

    guide = AutoDiagonalNormal(model)
    svi = SVI(model, guide, Adam({"lr": 0.03}), loss=Trace_ELBO())
    losses = [svi.step(x, y) for _ in range(STEPS)]
    draws = Predictive(model, guide=guide, num_samples=5, return_sites=("obs",))(x)
    return losses, guide.quantiles([0.5])["a"], draws["obs"].tolist(), svi.evaluate_loss(x, y)


def mixture(SVI):
    """The GMM tutorial: the assignments are enumerated in the model, the guide does not have them."""
    data = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])

    guide = AutoDelta(pyro.poutine.block(gaussian_mixture, expose=["weights", "locs"]))
    svi = SVI(
        gaussian_mixture, guide, Adam({"lr": 0.1, "betas": [0.8, 0.99]}), loss=TraceEnum_ELBO(max_plate_nesting=1)
    )
    return [svi.step(data) for _ in range(STEPS)], guide(data)["locs"].tolist()


def baseline(SVI):
    """A discrete latent with a decaying average baseline, by TraceGraph_ELBO."""

    def model():
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(2 * k - 1, 1.0), obs=torch.tensor(0.4))

    def guide():
        q = pyro.param("q", torch.tensor(0.5), constraint=constraints.unit_interval)
        pyro.sample("k", dist.Bernoulli(q), infer={"baseline": {"use_decaying_avg_baseline": True}})

    svi = SVI(model, guide, ClippedAdam({"lr": 0.05}), TraceGraph_ELBO())
    return [svi.step() for _ in range(STEPS)], pyro.param("q").item()


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(2, 6)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("latent", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("obs", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, scale.exp()).to_event(1))


def vae(SVI):
    """The VAE tutorial: bound methods, pyro.module, a loop over mini-batches."""
    x = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    net = VAE()
    svi = SVI(net.model, net.guide, Adam({"lr": 1e-2}), loss=Trace_ELBO())
    losses = [svi.step(batch) for _ in range(STEPS // 4) for batch in x.split(2)]
    return losses, [p.tolist() for p in net.parameters()]


def custom_loss(SVI):
    """SVI part II: the loss is a function of one's own."""

    def model(x):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    def loss(model, guide, *args):
        q = pyro.poutine.trace(guide).get_trace(*args)
        p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*args)
        return q.log_prob_sum() - p.log_prob_sum()

    svi = SVI(model, guide, Adam({"lr": 0.01}), loss)
    return [svi.step(torch.tensor(1.5)) for _ in range(STEPS)]


@pytest.mark.parametrize("program", [coin, regression, mixture, baseline, vae, custom_loss], ids=lambda p: p.__name__)
def test_a_program_gives_the_same_numbers_as_under_pyro(program):
    results = []
    for SVI in (pyro.infer.SVI, credo.SVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(3)
        results.append(program(SVI))
    assert repr(results[0]) == repr(results[1])


def test_the_runner_with_a_pyro_optimiser_is_pyros_svi():
    svi = credo.SVI(lambda: None, lambda: None, Adam({"lr": 0.1}), Trace_ELBO())
    assert isinstance(svi, pyro.infer.SVI)


def test_a_run_of_it_returns_a_fit_that_later_training_does_not_change():
    def model(x):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.1))

    svi = credo.SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO())
    x = torch.tensor(2.0)
    fit = svi.run(x, steps=5)
    loc = fit.params["loc"].item()
    assert loc == pyro.param("loc").item() and len(fit.losses) == 5
    svi.run(x, steps=5)
    assert pyro.param("loc").item() != loc and fit.params["loc"].item() == loc
    error = 5 * 0.1 / 2000**0.5
    assert fit.sample(2000)["z"].mean().item() == pytest.approx(loc, abs=error)


@pytest.mark.parametrize(
    ("options", "words"), [({"loss": Trace_ELBO()}, "without optim"), ({"optim": Adam({}), "lr": 0.1}, "lr")]
)
def test_half_of_pyros_arguments_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        credo.SVI(lambda: None, lambda: None, **options)


@pytest.mark.parametrize(
    "optim", [torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9), partial(clipped_adam.ClippedAdam, lrd=0.999)]
)
def test_torchs_own_optimisers_run_under_credo(optim):
    """A class, made for the parameters of the run; the answer is the exact posterior N(1.5, 0.5)."""

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), scale))

    fit = credo.fit(model, guide, torch.full((3,), 2.0), optim=optim, lr=0.01, steps=1500, particles=8)
    assert fit.params["loc"].item() == pytest.approx(1.5, abs=0.02)
    assert fit.params["scale"].item() == pytest.approx(0.5, abs=0.02)
    assert fit.plan.compiled.startswith("captured")


def test_an_optimiser_with_parameters_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"instance of Adam.*pass the class"):
        credo.SVI(lambda: None, lambda: None, torch.optim.Adam([torch.zeros(1, requires_grad=True)]))


def test_a_run_without_a_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="steps"):
        credo.SVI(lambda: None, lambda: None, Adam({"lr": 0.1})).run()


@pytest.mark.parametrize("optim", [Adam({"lr": 0.1}), torch.optim.Adam, None], ids=["Pyro's", "torch's", "none"])
def test_every_runner_is_an_svi(optim):
    runner = credo.SVI(lambda: None, lambda: None, optim)
    assert isinstance(runner, credo.SVI)
    assert isinstance(runner, pyro.infer.SVI) == isinstance(optim, pyro.optim.PyroOptim)


def test_the_signature_shows_the_real_arguments():
    names = list(inspect.signature(credo.SVI).parameters)
    assert names[:5] == ["model", "guide", "optim", "loss", "lr"]
    of_a_run = {*inspect.signature(credo.SVI.run).parameters, "seeds", "checkpoint", "every", "start"}
    of_a_fit = set(inspect.signature(credo.fit).parameters) - of_a_run
    assert set(names) == of_a_fit | {"loss"}
    assert names[2] in pydoc.render_doc(credo.SVI, renderer=pydoc.plaintext).split("Methods defined here")[0]


def test_a_runner_of_pyros_says_that_it_has_no_plan():
    runner = credo.SVI(lambda: None, lambda: None, Adam({"lr": 0.1}))
    assert runner.plan is None and runner.losses == [] and runner.params == {}
    for call in (runner.prepare, runner.race, runner.gradients):
        with pytest.raises(TypeError, match="no plan"):
            call()


def test_a_class_of_ones_own_is_not_run_by_pyro():
    class Own(credo.SVI):
        pass

    assert isinstance(Own(lambda: None, lambda: None, torch.optim.Adam), Own)
    with pytest.raises(TypeError, match="Own"):
        Own(lambda: None, lambda: None, Adam({"lr": 0.1}))


def test_a_runner_can_be_copied():
    def model(x):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    runner = credo.SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
    assert copy.copy(runner).model is runner.model and isinstance(copy.deepcopy(runner), credo.SVI)
