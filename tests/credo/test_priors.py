"""Priors of networks: their densities by hand, the sds that the evidence chooses, and a temperature in closed form."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import credo
from credo.models._nets import tempered
from tests.cases.by_hand import drawn_like, log_joint, log_normal, log_softmax_at

CLASSIFIER = credo.load("bnn_classifier")
X = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.7, 0.4], [0.0, 2.0], [-1.2, -0.3]])
Y = torch.tensor([0, 1, 1, 0, 2])


def regression(f, noise=0.5, temperature=1.0):
    def model(x, y=None):
        mean = f(x).squeeze(-1)
        with pyro.plate("N", len(x)), tempered(temperature):
            pyro.sample("y", dist.Normal(mean, noise), obs=y)

    return model


def rows(n=40):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        x = torch.randn(n, 3)
        return x, x @ torch.tensor([1.0, -2.0, 0.0]) + 0.5 * torch.randn(n)


def linear():
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return nn.Linear(3, 1, bias=False)


@pytest.mark.parametrize("word", ["learnt", "ard"])
def test_the_gradient_of_a_learnt_sd_is_that_of_the_closed_kl(word, double):
    """-ELBO depends on sd through KL = sum log sd + (loc^2 + scale^2) / (2 sd^2) alone; sd is learnt as its log."""
    net, (x, y) = linear().double(), (part.double() for part in rows())
    svi = credo.SVI(regression(credo.nn.bayesian(net, word)), credo.nn.mean_field(net, 0.3), plan="fast")
    found = svi.gradients(x, y)["weight.prior_sd"]
    sd = torch.full((1, 3) if word == "ard" else (), 3**-0.5).double()
    each = 1 - (net.weight.detach() ** 2 + 0.3**2) / sd**2
    expected = each if word == "ard" else each.sum()
    assert found.shape == sd.shape
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["learnt", "ard"])
def test_a_learnt_sd_ends_at_its_closed_form(word):
    net, (x, y) = linear(), rows()
    f = credo.nn.bayesian(net, word)
    fit = credo.fit(regression(f), credo.nn.mean_field(net), x, y, steps=600, progress=False, compile=False)
    square = fit.params["weight.loc"] ** 2 + fit.params["weight.scale"] ** 2
    sd = fit.params["weight.prior_sd"]
    torch.testing.assert_close(sd, square.sqrt() if word == "ard" else square.mean().sqrt(), rtol=0.05, atol=0.01)
    assert fit.predict(3, x[:4])["y"].shape == (3, 4)


def test_words_stand_for_some_parameters_or_all():
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    with pyro.get_param_store().scope():
        prior = {"0.weight": "learnt", "2.weight": "ard", "0.bias": 2.0}
        trace = poutine.trace(lambda: credo.nn.draw_weights(net, prior, name="f")).get_trace()
        found = {name: tuple(site["value"].shape) for name, site in trace.nodes.items() if site["type"] == "param"}
        assert found == {"f.0.weight.prior_sd": (), "f.2.weight.prior_sd": (3, 4)}
        sds = {name: trace.nodes[f"f.{name}"]["fn"].base_dist.scale for name, _ in net.named_parameters()}
    expected = {"0.weight": 2**-0.5, "2.weight": 0.5, "0.bias": 2.0, "2.bias": 1.0}
    for name, sd in expected.items():
        torch.testing.assert_close(sds[name].detach(), torch.full_like(sds[name], sd))


def test_the_density_of_a_scale_mixture_is_that_of_the_paper(double):
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    z, x = drawn_like(net), X.double()
    logits = torch.tanh(x @ z["0.weight"].T + z["0.bias"]) @ z["2.weight"].T + z["2.bias"]
    expected = log_softmax_at(logits, Y).sum()
    for w in z.values():
        for one in w.flatten():  # Blundell et al. 2015, eq. 7
            both = (math.log(0.25) + log_normal(one, 1.5), math.log(0.75) + log_normal(one, 0.1))
            expected = expected + torch.logaddexp(*both)
    prior = credo.nn.scale_mixture(0.25, 1.5, 0.1)
    assert log_joint(partial(CLASSIFIER.model, prior=prior), z, net, x, Y) == pytest.approx(expected.item(), abs=1e-8)


def test_the_plan_says_that_a_mixture_has_no_closed_kl():
    net = nn.Linear(2, 3)
    model = partial(CLASSIFIER.model, prior=credo.nn.scale_mixture())
    plan = credo.plan(model, CLASSIFIER.guide, net, X, Y)
    assert {entry.term for entry in plan.entries} <= {"log q", "sticking the landing"}
    printed = " ".join(str(plan).split())  # it breaks its lines where the terminal ends
    assert "KL from the prior is not known in closed form" in printed


def test_a_prior_is_any_distribution_and_one_number_is_expanded():
    trace = poutine.trace(
        lambda: credo.nn.draw_weights(nn.Linear(3, 2), prior=lambda name, w: dist.Laplace(0.0, 2.0))
    ).get_trace()
    w = trace.nodes["weight"]["value"]
    trace.compute_log_prob()
    expected = -w.abs() / 2 - math.log(4.0)
    torch.testing.assert_close(trace.nodes["weight"]["log_prob"], expected.sum())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: credo.nn.bayesian(net, 1.0, prior=credo.nn.scale_mixture()), "a prior and a prior_sd"),
        (lambda net: credo.nn.bayesian(net, prior="wide"), "prior: got 'wide', wanted a function"),
        (lambda net: credo.nn.bayesian(net, prior=lambda name, w: 1.0), "prior: got float for parameter 'weight'"),
        (
            lambda net: credo.nn.bayesian(net, prior=lambda name, w: dist.Normal(torch.zeros(5, 2, 3), 1.0)),
            r"prior: got a distribution of shape \(5, 2, 3\) for parameter 'weight' of shape \(2, 3\)",
        ),
        (
            lambda net: credo.nn.bayesian(net, "learned"),
            "prior_sd: got 'learned' .* wanted a positive number, 'learnt'",
        ),
        (lambda net: credo.nn.scale_mixture(1.0), "share: got 1.0"),
        (lambda net: credo.nn.scale_mixture(wide=-1.0), "wide: got -1.0, wanted a positive number"),
        (lambda net: credo.nn.scale_mixture(wide=0.1, narrow=0.2), "narrow: got 0.2 for wide=0.1"),
        (lambda net: CLASSIFIER.model(net, X[:, :1].expand(-1, 3), temperature=0.0), "temperature: got 0.0"),
    ],
)
def test_priors_that_cannot_be_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(nn.Linear(3, 2))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 20])
def test_a_tempered_normal_is_its_closed_form(batch_size):
    """One weight: precision 1 + sum x^2 / (T noise^2), mean sum x y / (T noise^2) / precision."""
    x, y = rows()
    x, y, t = x[:, :1], y - x[:, 1] * -2, 0.25
    net = nn.Linear(1, 1, bias=False)
    f = credo.nn.bayesian(net, 1.0)
    fit = credo.fit(
        regression(f, temperature=t), credo.nn.mean_field(net), x, y, steps=500, batch_size=batch_size, plan="fast"
    )
    precision = 1 + (x**2).sum() / (t * 0.25)
    mean, sd = (x[:, 0] * y).sum() / (t * 0.25) / precision, precision**-0.5
    assert abs(fit.params["weight.loc"].item() - mean) < (0.1 if batch_size is None else 0.3) * sd
    assert fit.params["weight.scale"].item() == pytest.approx(sd.item(), rel=0.05)
    found = credo.log_likelihood(fit, 500, x[:3], y[:3]).values  # of rows as they are, not of tempered ones
    expected = dist.Normal(mean * x[:3, 0], (0.25 + (sd * x[:3, 0]) ** 2).sqrt()).log_prob(y[:3])
    torch.testing.assert_close(found, expected.double(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_classifier_is_tempered_in_its_likelihood_alone(temperature, double):
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    z, x = drawn_like(net), X.double()
    logits = torch.tanh(x @ z["0.weight"].T + z["0.bias"]) @ z["2.weight"].T + z["2.bias"]
    prior = log_normal(z["0.weight"], 2**-0.5) + log_normal(z["2.weight"], 0.5)
    prior = prior + log_normal(z["0.bias"], 1.0) + log_normal(z["2.bias"], 1.0)
    expected = prior + log_softmax_at(logits, Y).sum() / temperature
    model = partial(CLASSIFIER.model, prior_sd=1.0, temperature=temperature)
    assert log_joint(model, z, net, x, Y) == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("name", ["bnn_classifier", "bnn_regression"])
def test_a_prior_beside_a_prior_sd_is_refused_by_the_pairs(name):
    pair, net = credo.load(name), torch.nn.Linear(2, 2)
    for sd in (1.0, 10.0, "learnt"):
        with pytest.raises(ValueError, match="got a prior and a prior_sd, wanted one of the two"):
            pair.model(net, torch.zeros(3, 2), prior_sd=sd, prior=credo.nn.scale_mixture())
