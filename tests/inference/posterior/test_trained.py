"""The trained copy of a network never has its starting weights where the run made them latents."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive
from pyro.nn import PyroModule, PyroSample
from pyro.poutine.runtime import am_i_wrapped
from torch import nn
from torch.func import functional_call

import credo
from credo.inference.posterior.trained import trained

BNN = credo.load("bnn_classifier")
with torch.random.fork_rng([]):
    torch.manual_seed(0)
    X = torch.randn(40, 2)
Y = (X[:, 0] > 0).long()


def linear():
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return nn.Linear(2, 2)


@pytest.fixture(scope="module")
def fit() -> tuple[credo.Fit, nn.Module]:
    net = linear()
    return credo.fit(BNN.model, BNN.guide, net, X, Y, steps=300, progress=False, compile=False), net


def test_latent_weights_get_their_posterior_mean(fit):
    fit, net = fit
    before = net.weight.clone()
    found = trained(fit, net)
    for name, parameter in found.named_parameters():
        torch.testing.assert_close(parameter.detach(), fit.params[f"{name}.loc"])
    assert torch.equal(net.weight, before) and not found.training
    right = (found(X).argmax(-1) == Y).double().mean().item()
    predicted = fit.predict(200, net, X)["probs"].mean(0).argmax(-1)
    assert right > 0.9 and right >= (predicted == Y).double().mean().item() - 0.05


def test_a_draw_is_that_of_the_posterior(fit):
    fit, net = fit
    found, again, other = fit.trained(net, draw=3), fit.trained(net, draw=3), fit.trained(net, draw=4)
    wanted = fit.sample(1, seed=3)
    assert all(torch.equal(p, wanted[name][0]) for name, p in found.named_parameters())
    assert torch.equal(found.weight, again.weight) and not torch.equal(found.weight, other.weight)


def under_other_names(net, x, y=None):
    weights = {
        "weight": pyro.sample("w", dist.Normal(torch.zeros(2, 2), 1.0).to_event(2)),
        "bias": pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1)),
    }
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Categorical(logits=functional_call(net, weights, (x,))), obs=y)


def test_weights_replaced_by_latents_of_other_names_are_refused():
    net = linear()
    fit = credo.fit(under_other_names, None, net, X, Y, steps=5, progress=False)
    with pytest.raises(ValueError, match=r"does not read parameter 'weight' of this Linear.*'w'.*functional_call"):
        fit.trained(net)


def beside_a_latent(net, x, y=None):
    pyro.module("net", net)
    shift = pyro.sample("shift", dist.Normal(torch.zeros(6), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Categorical(logits=net(x) + shift[:2]), obs=y)


def constant(net, x, y=None):
    frozen = net.requires_grad_(False)
    shift = pyro.sample("shift", dist.Normal(torch.zeros(6), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Categorical(logits=frozen(x) + shift[:2]), obs=y)


def test_trained_and_constant_weights_come_back_as_the_model_reads_them():
    net = linear()
    fit = credo.fit(beside_a_latent, None, net, X, Y, steps=50, progress=False)
    assert torch.equal(fit.trained(net).weight, fit.params["net$$$weight"])
    assert not torch.equal(fit.trained(net).weight, net.weight)
    fit = credo.fit(constant, None, net, X, Y, steps=5, progress=False)
    assert torch.equal(fit.trained(net).weight, net.weight)


class HalfBayesian(PyroModule):
    def __init__(self):
        super().__init__()
        self.first = PyroModule[nn.Linear](2, 3)
        self.first.weight = PyroSample(dist.Normal(0.0, 1.0).expand([3, 2]).to_event(2))
        self.last = PyroModule[nn.Linear](3, 2)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def test_the_random_weights_of_a_pyro_module_are_fixed_at_their_mean():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = HalfBayesian()

    def model(x, y=None):
        logits = net(x)
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    fit = credo.fit(model, None, X, Y, steps=300, progress=False)
    found = fit.trained(net)
    assert torch.equal(found(X), found(X))  # it draws nothing
    mean, sd = (fit.params[f"AutoNormal.{part}.first.weight"] for part in ("locs", "scales"))
    assert ((found.first.weight - mean).abs() < 5 * sd / 1000**0.5).all()
    torch.testing.assert_close(found.last.weight.detach(), fit.params["last.weight"])
    assert (found(X).argmax(-1) == Y).double().mean() > 0.9
    assert not torch.equal(net(X), net(X)) and "weight" in net.first._pyro_samples  # the user's own is as it was


class Regression(PyroModule):
    def __init__(self):
        super().__init__()
        self.w = PyroSample(dist.Normal(0.0, 1.0))

    def forward(self, x, y=None):
        with pyro.plate("N", len(x)):
            return pyro.sample("y", dist.Normal(self.w * x, 1.0), obs=y)


def test_a_model_that_is_a_module_stays_a_program():
    model = Regression()
    fit = credo.fit(model, None, X[:, 0], 2 * X[:, 0], steps=5, progress=False)
    assert "w" in fit.trained(model)._pyro_samples


class Slope(nn.Module):
    """A model that is a torch module, and draws its weight by hand."""

    def forward(self, x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)
        return w * x


class Random(Regression):
    def forward(self, x, y=None):
        slope = self.w
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)
        return slope * x


@pytest.mark.parametrize("kind", [Slope, Random])
def test_a_model_called_by_itself_has_its_posterior_weights(kind):
    """It drew them from their priors: 2 x w for 2 x. The posterior of w is N(2 S / (S + 1), 1 / (S + 1)), S = x . x."""
    model, x = kind(), X[:, 0]
    sd = (x @ x + 1).rsqrt().item()
    fit = credo.fit(model, None, x, 2 * x, steps=600, lr=0.05, progress=False)
    whole = fit.trained(model)
    assert torch.equal(whole(x), whole(x))
    assert (whole(x) / x)[0].item() == pytest.approx(2 * (1 - sd**2), abs=0.3 * sd)
    draws = torch.stack([(fit.trained(model, draw=seed)(x) / x)[0] for seed in range(30)])
    assert draws.std().item() == pytest.approx(sd, rel=0.5)
    as_program = Predictive(whole, guide=fit.trained(fit.guide), num_samples=200, return_sites=("_RETURN",))(x)
    assert (as_program["_RETURN"][:, 0] / x[0]).std().item() == pytest.approx(sd, rel=0.3)
    with pytest.raises(TypeError):
        whole(None)  # an error inside leaves no handler behind
    assert not am_i_wrapped()
    assert not torch.equal(model(x), model(x))  # the user's own draws from its priors, as before


class OfRows(nn.Module):
    def forward(self, y):
        with pyro.plate("N", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)
        return z


def test_a_latent_of_each_row_is_no_weight():
    model = OfRows()
    fit = credo.fit(model, None, X[:, 0], steps=5, progress=False, compile=False)
    assert fit.trained(model)(X[:3, 0]).shape == (3,)


def test_what_is_no_network_is_refused_by_name():
    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    def guide(x):
        pyro.sample("w", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))

    fit = credo.fit(model, guide, X[:, 0], steps=5, progress=False, compile=False)
    with pytest.raises(ValueError, match=r"net: got .*function.*wanted a network.*fit.params"):
        fit.trained(guide)


def test_networks_are_the_draws_and_their_mean_is_the_prediction(fit):
    fit, net = fit
    many, wanted = fit.networks(net, 5, seed=2), fit.sample(5, seed=2)
    for i, one in enumerate(many):
        assert not one.training and type(one) is nn.Linear
        assert all(torch.equal(p, wanted[name][i]) for name, p in one.named_parameters())
    assert torch.equal(fit.networks(net, 1, seed=3)[0].weight, fit.trained(net, draw=3).weight)
    probs = torch.stack([one(X).softmax(-1) for one in fit.networks(net, 300)]).detach()
    of_fit = fit.predict(300, net, X, seed=1)["probs"]
    error = (probs.var(0) / 300 + of_fit.var(0) / 300).sqrt()
    assert ((probs.mean(0) - of_fit.mean(0)) / error).abs().max() < 4.5
    many[0].weight.data.zero_()
    assert torch.equal(fit.networks(net, 5, seed=2)[0].weight, wanted["weight"][0])  # a change leaves the fit alone


def test_the_mean_network_is_another_call(fit):
    fit, net = fit
    with pytest.raises(ValueError, match=r"n: got 'mean', wanted the number of networks; the mean one is fit.trained"):
        fit.networks(net, "mean")
    assert len(fit.networks(net, 2)) == 2


def test_networks_have_the_masks_of_dropout():
    """Weights as points and masks as latents: each network leaves out its own inputs, and scales the others."""
    pair, net = credo.load("bnn_dropout"), linear()
    fit = credo.fit(pair.model, pair.guide, net, X, Y, steps=3, progress=False, compile=False)
    draws = fit.sample(20, seed=0)
    for one, weight, keep in zip(fit.networks(net, 20), draws["weight"], draws["weight.keep"], strict=True):
        torch.testing.assert_close(one.weight.detach(), weight * keep / 0.9)
    assert (draws["weight.keep"] == 0).any()
    torch.testing.assert_close(fit.trained(net).weight, draws["weight"][0])


def test_weights_have_the_means_of_masks_of_each_row():
    """w E[keep] / (1 - 0.1) where the guide's rate is another than the prior's, also of inputs that are always 0."""
    pair, net, y = credo.load("bnn_dropout"), linear(), Y
    x = X * torch.tensor([1.0, 0.0])
    options = {"shared": False, "once": True}
    model, guide = partial(pair.model, **options), partial(pair.guide, learn=True, rate=0.4, **options)
    fit = credo.fit(model, guide, net, x, y, steps=2, progress=False, compile=False)
    kept = 1 - fit.params["weight.rate"]
    assert abs(kept - 0.9) > 0.2
    torch.testing.assert_close(fit.trained(net).weight.detach(), fit.params["weight.value"] * kept / 0.9)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())


def test_drawn_weights_of_other_names_are_found_where_the_model_uses_them():
    net = linear()
    fit = credo.fit(under_other_names, None, net, X, Y, steps=5, progress=False)
    wanted = fit.sample(2, seed=1)
    for i, one in enumerate(fit.networks(net, 2, seed=1)):
        assert torch.equal(one.weight, wanted["w"][i]) and torch.equal(one.bias, wanted["b"][i])


def test_two_networks_whose_parameters_have_one_name_get_their_own():
    one, two = linear(), linear()
    first, second = credo.nn.bayesian(one, name="one"), credo.nn.bayesian(two, name="two")

    def model(x, y=None):
        logits = first(x) + 3 * second(x**2)
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    fit = credo.fit(model, "mean_field", X, Y, steps=20, progress=False, compile=False)
    draws = fit.sample(2, seed=0)
    for net, name in ((one, "one"), (two, "two")):
        loc = fit.params[f"AutoNormal.locs.{name}.weight"]
        sd = fit.params[f"AutoNormal.scales.{name}.weight"]
        assert ((fit.trained(net).weight - loc).abs() < 5 * sd).all()
        assert all(torch.equal(n.weight, draws[f"{name}.weight"][i]) for i, n in enumerate(fit.networks(net, 2)))


@pytest.mark.parametrize("n", [0, -1, 2.5, X, "weight"], ids=["none", "negative", "half", "data", "name"])
def test_networks_are_counted(fit, n):
    fit, net = fit
    with pytest.raises(ValueError, match=r"n: got .*wanted"):
        fit.networks(net, n)


def test_a_network_without_latent_weights_has_one_copy():
    net = linear()
    fit = credo.fit(beside_a_latent, None, net, X, Y, steps=5, progress=False)
    with pytest.raises(ValueError, match=r"no weight of this Linear is a latent.*fit.trained\(net\)"):
        fit.networks(net, 3)
    with pytest.raises(ValueError, match="is not the one of the first call"):
        fit.networks(linear(), 3)
    model = Slope()
    fit = credo.fit(model, None, X[:, 0], 2 * X[:, 0], steps=5, progress=False)
    with torch.no_grad():
        slopes = [(one(X[:, 0]) / X[:, 0])[0].item() for one in fit.networks(model, 3)]
    assert slopes == pytest.approx(fit.sample(3)["w"].tolist())
