"""Dropout: its density by hand, its objective and its predictive by going through all masks of a tiny net."""

import math
from functools import partial
from itertools import product

import pandas as pd
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

import credo
from credo.guides.bnn_dropout import rates
from credo.inference.evaluation.check import examined
from credo.models.bnn_dropout import held_out
from tests.cases.by_hand import drawn_like, log_joint, log_normal, log_softmax_at
from tests.cases.gradients import assert_unbiased, draws_and_exact

PAIR = credo.load("bnn_dropout")
X = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.7, 0.4], [0.0, 2.0]])
Y = torch.tensor([0, 1, 1, 0])
RATE = 0.3


def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))


def pair(rate=RATE, prior_sd=10.0):
    return [partial(program, rate=rate, prior_sd=prior_sd) for program in (PAIR.model, PAIR.guide)]


def logits(w, first, second, x, rate=RATE):
    """Of the tiny net with these inputs of its two layers kept: the others are set to zero, the kept ones grow."""
    h = torch.tanh((x * first / (1 - rate)) @ w["0.weight"].T + w["0.bias"])
    return (h * second / (1 - rate)) @ w["2.weight"].T + w["2.bias"]


MASKS = [torch.tensor(bits).reshape(2, 2) for bits in product((0.0, 1.0), repeat=4)]


def probability(mask, rate=RATE):
    kept = mask.sum().item()
    return (1 - rate) ** kept * rate ** (4 - kept)


def log_prior(w, prior_sd=10.0):
    matrices = sum(log_normal(w[name], prior_sd / math.sqrt(2)) for name in ("0.weight", "2.weight"))
    return matrices + sum(log_normal(w[name], prior_sd) for name in ("0.bias", "2.bias"))


def exact_elbo(p):
    w = {name.removesuffix(".value"): value for name, value in p.items()}
    return log_prior(w) + sum(
        probability(m) * log_softmax_at(logits(w, *m.double(), X.double()), Y).sum() for m in MASKS
    )


@pytest.mark.parametrize(("rate", "prior_sd"), [(0.3, 10.0), (0.6, 0.5)])
def test_the_density_is_that_of_the_net_with_inputs_left_out(rate, prior_sd, double):
    net, x = tiny().double(), X.double()
    w = drawn_like(net)
    for mask in (m.double() for m in MASKS):
        found = log_joint(pair(rate, prior_sd)[0], w | {"0.weight.keep": mask[0], "2.weight.keep": mask[1]}, net, x, Y)
        expected = log_prior(w, prior_sd) + log_softmax_at(logits(w, *mask, x, rate), Y).sum()
        assert found == pytest.approx(expected.item() + math.log(probability(mask, rate)), abs=1e-9)


def test_a_convolution_leaves_out_channels_of_its_input(double):
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(72, 3)).double()
    x, y, w = torch.randn(4, 2, 8, 8), torch.tensor([0, 1, 2, 0]), drawn_like(net)
    keep, ones = torch.tensor([1.0, 0.0]), torch.ones(72)
    hidden = torch.nn.functional.conv2d(x * keep[:, None, None] / 0.9, w["0.weight"], w["0.bias"]).flatten(1)
    prior = log_normal(w["0.weight"], 10 / math.sqrt(18)) + log_normal(w["2.weight"], 10 / math.sqrt(72))
    prior = prior + log_normal(w["0.bias"], 10.0) + log_normal(w["2.bias"], 10.0)
    expected = prior + log_softmax_at(hidden / 0.9 @ w["2.weight"].T + w["2.bias"], y).sum()
    expected = expected + math.log(0.9 * 0.1) + 72 * math.log(0.9)
    found = log_joint(PAIR.model, w | {"0.weight.keep": keep, "2.weight.keep": ones}, net, x, y)
    assert found == pytest.approx(expected.item(), abs=1e-8)


@pytest.mark.parametrize(("batch_size", "n"), [(None, 60), (2, 60)])
def test_the_mean_gradient_is_that_of_the_sum_over_all_masks(batch_size, n):
    assert_unbiased(*pair(), (tiny(), X, Y), exact_elbo, batch_size=batch_size, n=n)


def test_with_nothing_left_out_it_is_weight_decay():
    def elbo(p):
        w = {name.removesuffix(".value"): value for name, value in p.items()}
        ones = torch.ones(2).double()
        return log_prior(w) + log_softmax_at(logits(w, ones, ones, X.double(), 0.0), Y).sum()

    assert_unbiased(*pair(rate=0.0), (tiny(), X, Y), elbo, particles=1, n=3)  # no noise: every draw is exact


def test_masks_are_drawn_weights_are_points_and_nothing_needs_the_score_function():
    net = tiny()
    before = {name: w.detach().clone() for name, w in net.named_parameters()}
    fit = credo.fit(*pair(), net, X, Y, steps=10)
    estimators = {e.site: e.estimator for e in fit.plan.entries}
    assert estimators == {
        "0.weight": "pathwise",
        "0.weight.keep": "sampled",
        "0.bias": "pathwise",
        "2.weight": "pathwise",
        "2.weight.keep": "sampled",
        "2.bias": "pathwise",
    }
    assert set(fit.params) == {f"{name}.value" for name in before}
    assert all(torch.equal(w, before[name]) for name, w in net.named_parameters())
    draws = fit.sample(2000)
    for name in before:
        assert (draws[name] == fit.params[f"{name}.value"]).all()
    keep = torch.cat([draws["0.weight.keep"], draws["2.weight.keep"]], 1)
    z = (keep.mean(0) - (1 - RATE)) / (RATE * (1 - RATE) / 2000) ** 0.5
    assert z.abs().max() <= 4.5


def test_every_draw_of_the_prediction_is_one_of_the_networks_with_its_probability():
    net = tiny()
    fit = credo.fit(*pair(), net, X, Y, steps=30)
    w = {name.removesuffix(".value"): value for name, value in fit.params.items()}
    new, n = torch.tensor([[0.5, 0.9], [-2.0, 1.0], [3.0, -0.4]]), 4000
    networks = torch.stack([logits(w, *m, new).softmax(-1) for m in MASKS])  # (16, N, C)
    probs = fit.predict(n, net, new)["probs"]
    away = (probs[:, None] - networks).abs().amax((2, 3))  # of a draw from each network, in all rows at once
    assert away.min(1).values.max() <= 1e-5
    # With the second layer's inputs all left out the first mask does not show: equal networks count as one.
    distinct = [i for i in range(16) if not any(torch.allclose(networks[i], networks[j]) for j in range(i))]
    first = torch.stack([(networks[distinct] - one).abs().amax((1, 2)).argmin() for one in networks])
    expected = torch.zeros(len(distinct)).double()
    expected.index_add_(0, first, torch.tensor([probability(m) for m in MASKS]).double())
    counts = torch.bincount(away[:, distinct].argmin(1), minlength=len(distinct))
    assert chisquare(counts.numpy(), (n * expected / expected.sum()).numpy()).pvalue >= 1e-4
    log_lik = credo.log_likelihood(fit, n, net, new, torch.tensor([0, 1, 1]))
    of_label = networks.double()[:, torch.arange(3), torch.tensor([0, 1, 1])]
    exact = (torch.tensor([probability(m) for m in MASKS]).double()[:, None] * of_label).sum(0).log()
    assert ((log_lik.values - exact) / log_lik.errors).abs().max() <= 4.5


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, math.nan, True, [0.1], [0.1, 0.2, 0.3], [0.1, -1.0]])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate: got .*wanted"):
        credo.fit(*pair(rate), tiny(), X, Y, steps=1)


def rows_apart(**named):
    return [partial(program, rate=RATE, shared=False, **named) for program in (PAIR.model, PAIR.guide)]


def test_masks_of_each_row_act_on_its_own_inputs(double):
    net, x = tiny().double(), X.double()
    w = drawn_like(net)
    first, second = (
        torch.tensor(bits, dtype=torch.float64).reshape(4, 2) for bits in ([1, 0] * 4, [0, 1, 1] + [1] * 5)
    )
    found = log_joint(rows_apart()[0], w | {"0.weight.keep": first, "2.weight.keep": second}, net, x, Y)
    kept = (first.sum() + second.sum()).item()
    expected = log_prior(w) + log_softmax_at(logits(w, first, second, x), Y).sum()
    expected = expected + kept * math.log(1 - RATE) + (16 - kept) * math.log(RATE)
    assert found == pytest.approx(expected.item(), abs=1e-9)
    assert not net[0]._forward_pre_hooks and not net[2]._forward_pre_hooks


def test_masks_of_each_row_leave_out_channels_of_each_group(double):
    net = nn.Sequential(nn.Conv2d(4, 2, 3, groups=2), nn.Flatten(), nn.Linear(8, 3)).double()
    x, y, w = torch.randn(2, 4, 4, 4), torch.tensor([0, 2]), drawn_like(net)
    keep = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    masks = {"0.weight.keep": keep, "2.weight.keep": torch.ones(2, 8)}
    found = log_joint(partial(PAIR.model, rate=0.1, shared=False), w | masks, net, x, y)
    # One row at a time, each under the model whose rows share the mask, and the priors counted once.
    model = partial(PAIR.model, rate=0.1)
    alone = [
        log_joint(
            model, w | {"0.weight.keep": keep[n], "2.weight.keep": torch.ones(8)}, net, x[n : n + 1], y[n : n + 1]
        )
        for n in range(2)
    ]
    prior = sum(log_normal(v, 10 / math.sqrt(v[0].numel()) if v.dim() > 1 else 10.0) for v in w.values())
    assert found == pytest.approx(sum(alone) - float(prior), abs=1e-8)


def test_layers_that_share_a_weight_share_the_masks_of_each_row(double):
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    net[2].weight = net[0].weight
    w, keep = drawn_like(net), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    latents = {**w, "0.weight.keep": keep}
    found = log_joint(rows_apart()[0], latents, net, X.double(), Y)
    h = torch.tanh((X.double() * keep / (1 - RATE)) @ w["0.weight"].T + w["0.bias"])
    out = (h * keep / (1 - RATE)) @ w["0.weight"].T + w["2.bias"]
    prior = sum(log_normal(v, 10 / math.sqrt(2) if v.dim() > 1 else 10.0) for v in w.values())
    masks = 4 * math.log(1 - RATE) + 4 * math.log(RATE)
    assert found == pytest.approx(float(prior + log_softmax_at(out, Y).sum() + masks), abs=1e-9)


@pytest.mark.parametrize(("batch_size", "n"), [(None, 20), pytest.param(2, 80, marks=pytest.mark.slow)])
def test_masks_of_each_row_have_the_gradient_of_shared_masks_at_a_fixed_rate(batch_size, n):
    assert_unbiased(*rows_apart(), (tiny(), X, Y), exact_elbo, batch_size=batch_size, n=n)


def test_masks_of_each_row_quiet_the_gradient():
    net, rows = tiny(), [0] * 31 + [1]  # a second class: a classifier of one is refused
    x, y = X[rows], Y[rows]

    def variance(programs):
        svi = credo.SVI(*programs, particles=1, progress=False, compile=False)
        drawn = [svi.gradients(net, x, y) for _ in range(40)]
        return sum(torch.stack([g[name] for g in drawn]).var(0).sum().item() for name in drawn[0])

    # Of 31 equal rows: variances add up where masks are independent, sds where they are shared.
    assert variance(rows_apart()) < 0.25 * variance(pair())


def test_rows_of_masks_need_layers_whose_inputs_have_rows():
    with pytest.raises(ValueError, match=r"'0\.weight': .*Embedding; pass shared=True"):
        PAIR.model(nn.Sequential(nn.Embedding(3, 2), nn.Flatten()), torch.tensor([[1]]), shared=False)
    net = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 2)), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"'2\.weight': its layer is given 4 rows where the data has 2"):
        PAIR.model(net, torch.zeros(2, 4), shared=False)
    assert not net[2]._forward_pre_hooks


def learnt_elbo(p):
    """The ELBO of masks whose rates differ from the prior's, by going through all of them."""
    r = torch.stack([p["0.weight.rate"], p["2.weight.rate"]])[:, None]
    w = {name.removesuffix(".value"): value for name, value in p.items() if name.endswith(".value")}
    total = log_prior(w)
    for m in MASKS:
        log_q = (m * (1 - r).log() + (1 - m) * r.log()).sum()
        log_lik = log_softmax_at(logits(w, *m.double(), X.double()), Y).sum()
        total = total + log_q.exp() * (log_lik + math.log(probability(m)) - log_q)
    return total


def test_the_gradient_of_learnt_rates_is_that_of_the_sum_over_all_masks():
    model, guide = PAIR.model, PAIR.guide
    programs = partial(model, rate=RATE), partial(guide, rate=[0.2, 0.4], learn=True)
    assert_unbiased(*programs, (tiny(), X, Y), learnt_elbo, particles=25, n=12)
    plan = credo.plan(*programs, tiny(), X, Y)
    assert {e.site: e.estimator for e in plan.entries if e.site.endswith("keep")} == {
        "0.weight.keep": "one-flip",
        "2.weight.keep": "one-flip",
    }


def once():
    """Masks of each row whose KL counts once, at learnt rates that differ from the prior's."""
    return (
        partial(PAIR.model, rate=RATE, shared=False, once=True),
        partial(PAIR.guide, rate=[0.2, 0.4], shared=False, once=True, learn=True),
    )


@pytest.mark.parametrize(("batch_size", "n"), [(None, 10), pytest.param(2, 16, marks=pytest.mark.slow)])
def test_masks_of_each_row_counted_once_have_the_gradient_of_shared_masks_at_learnt_rates(batch_size, n):
    assert_unbiased(*once(), (tiny(), X, Y), learnt_elbo, particles=25, n=n, batch_size=batch_size)


@pytest.mark.slow
def test_the_score_function_of_masks_of_each_row_has_that_gradient_too():
    plan = {f"{layer}.weight.keep": "score" for layer in (0, 2)}
    svi = credo.SVI(*once(), particles=200, progress=False, plan=plan, batch_size=2)
    rows, exact = draws_and_exact(svi, (tiny(), X, Y), learnt_elbo, 30)
    z = (rows.mean(0) - exact) / (rows.std(0) / 30**0.5)
    assert z.abs().max() <= 4.5


@pytest.mark.slow
def test_masks_of_each_row_quiet_the_gradient_of_learnt_rates():
    net, rows = tiny(), [0] * 31 + [1]
    x, y = X[rows], Y[rows]

    def variance(programs):
        svi = credo.SVI(*programs, particles=1, progress=False, compile=False)
        drawn = [svi.gradients(net, x, y) for _ in range(40)]
        return sum(torch.stack([g[f"{layer}.weight.rate"] for g in drawn]).var(0).item() for layer in (0, 2))

    shared = partial(PAIR.model, rate=RATE), partial(PAIR.guide, rate=[0.2, 0.4], learn=True)
    assert variance(once()) < 0.25 * variance(shared)


def test_a_pair_that_counts_masks_in_two_ways_is_refused():
    (model, guide), (every_row, of_rows) = once(), rows_apart()
    with pytest.raises(ValueError, match="once=True for the guide and once=False for the model: pass once=True"):
        credo.fit(every_row, guide, tiny(), X, Y, steps=2, progress=False)
    with pytest.raises(ValueError, match="once=True for the model and once=False for the guide: pass once=True"):
        credo.fit(model, of_rows, tiny(), X, Y, steps=2, progress=False)


@pytest.mark.slow
def test_rates_of_a_network_that_masks_cannot_help_stay_at_the_prior():
    """Inputs that are zero: a mask changes nothing, so the ELBO is best where KL(q || p) = 0."""
    net = nn.Sequential(nn.Linear(2, 2))
    x, y = torch.zeros(4, 2), torch.tensor([0, 1, 1, 0])
    guide = partial(PAIR.guide, rate=0.3, learn=True)
    fit = credo.fit(partial(PAIR.model, rate=0.1), guide, net, x, y, steps=400, lr=0.05, compile=False, progress=False)
    assert rates(fit.params).loc["0.weight", "rate"] == pytest.approx(0.1, abs=0.01)


def test_a_rate_is_not_learnt_with_a_mask_for_each_row():
    with pytest.raises(ValueError, match=r"learn: a mask for each row .*pass shared=True"):
        PAIR.guide(tiny(), X, Y, shared=False, learn=True)


def test_the_built_in_digits_and_a_table():
    net, x, y = PAIR.data()
    assert x.shape == (1437, 64) and y.shape == (1437,)
    assert net(x[:3]).shape == (3, 10)
    same, x_test, y_test = held_out(net, x, y)
    assert same is net and x_test.shape == (360, 64) and y_test.shape == (360,)
    net, x, y = PAIR.data(pd.DataFrame({"b": [1.0, 2.0, 3.0], "y": [0, 2, 1]}))
    assert x.tolist() == [[1.0], [2.0], [3.0]] and y.tolist() == [0, 2, 1]
    assert net(x).shape == (3, 3)


def test_a_fixed_rate_that_one_of_the_two_programs_was_given_is_warned_of():
    with pytest.warns(UserWarning, match=r"'2.weight.keep': each flip is 1 with probability 0.7 in the model and 0.9"):
        credo.fit(partial(PAIR.model, rate=0.3), PAIR.guide, tiny(), X, Y, steps=2, compile=False, progress=False)


def test_masks_that_count_once_have_no_k_hat():
    """Log densities divided by the number of rows are those of no posterior of the masks of each row."""
    fit = credo.fit(*once(), tiny(), X, Y, steps=2, compile=False, progress=False)
    verdict = examined(fit, seconds=1.0).verdict
    assert verdict.trust == "unknown" and math.isnan(verdict.k_hat)
    assert "'0.weight.keep', '2.weight.keep': log densities that count once for all rows" in str(verdict)
