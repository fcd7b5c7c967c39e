"""DropConnect: its density by hand, its objective and its gradients by going through all masks of a tiny net."""

import math
from functools import partial
from itertools import product

import pandas as pd
import pytest
import torch
from torch import nn

import credo
from credo.guides.bnn_dropconnect import rates
from credo.models.bnn_dropconnect import held_out
from tests.cases.by_hand import drawn_like, log_joint, log_normal, log_softmax_at
from tests.cases.gradients import assert_unbiased

PAIR = credo.load("bnn_dropconnect")
X = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.7, 0.4], [0.0, 2.0]])
Y = torch.tensor([0, 1, 1, 0])
RATE = 0.3
MASKS = [torch.tensor(bits).reshape(2, 2) for bits in product((0.0, 1.0), repeat=4)]


def line():
    """A network of one layer: two inputs, two classes, four weights."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(nn.Linear(2, 2))


def pair(rate=RATE, prior_sd=10.0):
    return [partial(program, rate=rate, prior_sd=prior_sd) for program in (PAIR.model, PAIR.guide)]


def logits(w, mask, x, rate=RATE):
    return x @ (w["0.weight"] * mask / (1 - rate)).T + w["0.bias"]


def exact_elbo(p, rate=RATE):
    """Going through all masks; the guide's rate is a parameter, or the prior's."""
    w = {name.removesuffix(".value"): value for name, value in p.items() if name.endswith(".value")}
    r = p.get("0.weight.rate", torch.tensor(rate).double())
    total = log_normal(w["0.weight"], 10 / math.sqrt(2)) + log_normal(w["0.bias"], 10.0)
    for m in (m.double() for m in MASKS):
        log_q = m.sum() * (1 - r).log() + (4 - m.sum()) * r.log()
        log_p = m.sum() * math.log(1 - rate) + (4 - m.sum()) * math.log(rate)
        total = total + log_q.exp() * (log_softmax_at(logits(w, m, X.double(), rate), Y).sum() + log_p - log_q)
    return total


@pytest.mark.parametrize(("rate", "prior_sd"), [(0.3, 10.0), ([0.6], 0.5)])
def test_the_density_is_that_of_the_net_with_weights_left_out(rate, prior_sd, double):
    net, x = line().double(), X.double()
    w, share = drawn_like(net), rate if isinstance(rate, float) else rate[0]
    for mask in (m.double() for m in MASKS):
        found = log_joint(pair(rate, prior_sd)[0], w | {"0.weight.keep": mask}, net, x, Y)
        expected = log_normal(w["0.weight"], prior_sd / math.sqrt(2)) + log_normal(w["0.bias"], prior_sd)
        expected = expected + log_softmax_at(logits(w, mask, x, share), Y).sum()
        kept = mask.sum().item()
        expected = expected + kept * math.log(1 - share) + (4 - kept) * math.log(share)
        assert found == pytest.approx(expected.item(), abs=1e-9)


def test_a_convolution_leaves_out_single_weights(double):
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 3)).double()
    x, y, w = torch.randn(4, 2, 4, 4), torch.tensor([0, 1, 2, 0]), drawn_like(net)
    masks = {name: (torch.rand(w[name].shape) < 0.5).double() for name in ("0.weight", "2.weight")}
    thin = {name: value * masks[name] / 0.9 if name in masks else value for name, value in w.items()}
    expected = log_softmax_at(torch.func.functional_call(net, thin, (x,)), y).sum()
    for value in w.values():
        expected = expected + log_normal(value, 10 / math.sqrt(value[0].numel()) if value.dim() > 1 else 10.0)
    for mask in masks.values():
        expected = expected + mask.sum() * math.log(0.9) + (1 - mask).sum() * math.log(0.1)
    held = {f"{name}.keep": mask for name, mask in masks.items()}
    assert log_joint(PAIR.model, w | held, net, x, y) == pytest.approx(expected.item(), abs=1e-8)


def test_the_mean_gradient_is_that_of_the_sum_over_all_masks():
    assert_unbiased(*pair(), (line(), X, Y), exact_elbo, n=20)


def test_the_gradient_of_a_learnt_rate_is_that_of_the_sum_over_all_masks():
    programs = partial(PAIR.model, rate=RATE), partial(PAIR.guide, rate=0.2, learn=True)
    assert_unbiased(*programs, (line(), X, Y), exact_elbo, n=20)


def test_every_draw_of_the_prediction_is_one_of_the_networks():
    net = line()
    fit = credo.fit(*pair(), net, X, Y, steps=10, compile=False, progress=False)
    assert {e.site: e.estimator for e in fit.plan.entries}["0.weight.keep"] == "sampled"
    w = {name.removesuffix(".value"): value for name, value in fit.params.items()}
    networks = torch.stack([logits(w, m, X).softmax(-1) for m in MASKS])  # (16, N, C)
    probs = fit.predict(2000, net, X)["probs"]
    away = (probs[:, None] - networks).abs().amax((2, 3))
    assert away.min(1).values.max() <= 1e-5
    share = torch.tensor([RATE ** (4 - m.sum().item()) * (1 - RATE) ** m.sum().item() for m in MASKS])
    assert ((probs.mean(0) - (share[:, None, None] * networks).sum(0)).abs() <= 4.5 * 0.5 / 2000**0.5).all()


def test_rates_are_reported_and_what_is_no_share_is_refused():
    assert rates({"0.weight.rate": torch.tensor(0.25), "0.bias.value": torch.zeros(2)}).loc["0.weight", "rate"] == 0.25
    with pytest.raises(ValueError, match=r"rate: got 1\.0, wanted"):
        PAIR.model(line(), X, Y, rate=1.0)
    with pytest.raises(ValueError, match=r"rate: got 2 shares, wanted one number, or one for each of the 1"):
        PAIR.guide(line(), X, Y, rate=[0.1, 0.1])


def test_the_built_in_digits_and_a_table():
    net, x, y = PAIR.data()
    assert x.shape == (1437, 64) and y.shape == (1437,)
    same, x_test, y_test = held_out(net, x, y)
    assert same is net and x_test.shape == (360, 64) and y_test.shape == (360,)
    net, x, y = PAIR.data(pd.DataFrame({"b": [1.0, 2.0, 3.0], "y": [0, 2, 1]}))
    assert net(x).shape == (3, 3)
