"""Depth as a latent: each depth against the network cut off by hand, posterior and ELBO by going through all."""

import math
from functools import partial

import pandas as pd
import pytest
import torch
from pyro import poutine
from torch import nn

import credo
from credo.models.stochastic_depth_resnet import every_depth, held_out, residual
from tests.cases.by_hand import log_joint, log_softmax_at
from tests.cases.gradients import assert_unbiased

PAIR = credo.load("stochastic_depth_resnet")
BLOCKS, WIDTH, CLASSES = 3, 4, 2
RATE = 0.7


def cut(net, x, depth):
    """The logits of a network with so many blocks and no more, layer by layer."""
    h = x @ net["stem"].weight.T + net["stem"].bias
    for block in list(net["blocks"])[:depth]:
        _, first, _, second = block
        inner = torch.relu(h) @ first.weight.T + first.bias
        h = h + torch.relu(inner) @ second.weight.T + second.bias
    return h @ net["head"].weight.T + net["head"].bias


def small(dtype=torch.float32):
    """A network of three blocks, six rows of two numbers, and their labels."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = residual(2, CLASSES, WIDTH, BLOCKS)
        chooser = nn.Linear(2, BLOCKS + 1)
        for p in net.parameters():
            p.data += 0.3 * torch.randn_like(p)
        return net.to(dtype), chooser.to(dtype), torch.randn(6, 2).to(dtype), torch.tensor([0, 1, 1, 0, 1, 0])


def pair(chooser=None, rate=RATE):
    return [partial(program, rate=rate, chooser=chooser) for program in (PAIR.model, PAIR.guide)]


def log_prior(rate=RATE):
    p = torch.exp(-rate * torch.arange(BLOCKS + 1.0).double())
    return (p / p.sum()).log()


def of_each_depth(net, x, y):
    """log p(y_n | x_n, z), shape (depths, N)."""
    return torch.stack([log_softmax_at(cut(net, x, z), y) for z in range(BLOCKS + 1)])


def test_every_depth_is_the_network_cut_off_there():
    net, _, x, _ = small()
    logits = every_depth(net, x)
    assert logits.shape == (BLOCKS + 1, 6, CLASSES)
    for depth in range(BLOCKS + 1):
        torch.testing.assert_close(logits[depth], cut(net, x, depth))
        torch.testing.assert_close(every_depth(net, x, depth), logits[: depth + 1])
        if depth:
            assert not torch.allclose(logits[depth], logits[depth - 1], atol=0.01)


@pytest.mark.parametrize("each", [False, True])
def test_the_density_is_the_prior_of_the_depth_times_that_of_the_cut_network(each, double):
    net, chooser, x, y = small(torch.float64)
    fits, rows = of_each_depth(net, x, y), torch.arange(6)
    for z in torch.tensor([[0, 1, 2, 3, 3, 1], [2, 2, 0, 1, 0, 3]]):
        if each:
            expected = (log_prior()[z] + fits[z, rows]).sum()
            assert log_joint(pair(chooser)[0], {"z": z}, net, x, y) == pytest.approx(expected.item(), abs=1e-9)
        else:
            expected = log_prior()[z[0]] + fits[z[0]].sum()
            assert log_joint(pair()[0], {"z": z[0]}, net, x, y) == pytest.approx(expected.item(), abs=1e-9)


def with_weights(net, p):
    """The network with its parameters taken from those of the run, as functions that autograd follows."""
    state = {name.removeprefix("net$$$"): value for name, value in p.items() if name.startswith("net$$$")}

    class At:
        def __init__(self, prefix):
            self.weight, self.bias = state[f"{prefix}.weight"], state[f"{prefix}.bias"]

    blocks = [(None, At(f"blocks.{i}.1"), None, At(f"blocks.{i}.3")) for i in range(BLOCKS)]
    return {"stem": At("stem"), "head": At("head"), "blocks": blocks}


def exact_elbo(p, net, x, y, each):
    fits = of_each_depth(with_weights(net, p), x.double(), y)
    if each:
        log_q = (x.double() @ p["chooser$$$weight"].T + p["chooser$$$bias"]).log_softmax(1).T
        return (log_q.exp() * (fits + log_prior()[:, None] - log_q)).sum()
    log_q = p["logits"].log_softmax(0)
    return (log_q.exp() * (fits.sum(1) + log_prior() - log_q)).sum()


@pytest.mark.parametrize("each", [False, True])
def test_the_depth_is_summed_over_and_the_gradient_has_no_noise(each):
    net, chooser, x, y = small()
    data, programs = (net, x, y), pair(chooser if each else None)
    plan = credo.plan(*programs, *data)
    (entry,) = plan.entries
    assert (entry.site, entry.estimator) == ("z", "enumerate")
    assert ("4 values" in entry.reason) and (entry.plates == ("N (6)" if each else "-"))
    runner = credo.SVI(*programs, progress=False)
    first, second = (runner.gradients(*data) for _ in range(2))
    assert all(torch.equal(g, second[name]) for name, g in first.items())
    # Parameters that are zero or equal would hide a wrong gradient: train a little first.
    runner.run(*data, steps=20)
    assert_exact(runner, data, partial(exact_elbo, net=net, x=x, y=y, each=each))


def assert_exact(runner, data, elbo):
    found = runner.gradients(*data)
    start = {name: p.double().requires_grad_() for name, p in runner.params.items()}  # none has a constraint
    loss = -elbo(start)
    assert runner.evaluate_loss(*data) == pytest.approx(loss.item(), rel=1e-5)
    for name, exact in zip(start, torch.autograd.grad(loss, list(start.values())), strict=True):
        assert exact.abs().max() > 0 and set(start) == set(found)
        torch.testing.assert_close(found[name].double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("each", [False, True])
def test_batches_have_the_same_mean(each):
    net, chooser, x, y = small()
    programs = pair(chooser if each else None)
    elbo = partial(exact_elbo, net=net, x=x, y=y, each=each)
    assert_unbiased(*programs, (net, x, y), elbo, batch_size=2, particles=1, n=150)


def test_the_posterior_of_one_depth_is_bayes_rule_by_hand():
    net, _, x, y = small()
    exact = PAIR.posterior(net, x, y, rate=RATE)
    joint = (log_prior() + of_each_depth(net, x, y).double().sum(1)).exp().tolist()
    z = exact.marginals["z"]
    assert z.probs.tolist() == pytest.approx([p / sum(joint) for p in joint], abs=1e-6)
    assert exact.log_evidence == pytest.approx(math.log(sum(joint)), abs=1e-5)
    new = torch.randn(4, 2)
    by_hand = sum(p / sum(joint) * cut(net, new, z).double().softmax(-1) for z, p in enumerate(joint))
    torch.testing.assert_close(exact.predictive(new).probs, by_hand.detach(), rtol=1e-5, atol=1e-6)


def test_the_posterior_of_each_input_is_its_own():
    net, chooser, x, y = small()
    exact = PAIR.posterior(net, x, y, rate=RATE, chooser=chooser)
    joint = (log_prior()[:, None] + of_each_depth(net, x, y).double()).exp().detach()
    torch.testing.assert_close(exact.marginals["z"].probs, (joint / joint.sum(0)).T, rtol=1e-5, atol=1e-6)
    assert exact.marginals["z"].batch_shape == (6,)
    assert exact.log_evidence == pytest.approx(joint.sum(0).log().sum().item(), abs=1e-5)
    with pytest.raises(ValueError, match="new input has no posterior"):
        exact.predictive(x)


@pytest.mark.parametrize("each", [False, True])
def test_the_posterior_and_the_model_satisfy_bayes_rule(each, double):
    net, chooser, x, y = small(torch.float64)
    chooser = chooser if each else None
    exact = PAIR.posterior(net, x, y, rate=RATE, chooser=chooser)
    for _ in range(3):
        z = exact.marginals["z"].sample()
        log_posterior = exact.marginals["z"].log_prob(z).sum().item()
        joint = log_joint(pair(chooser)[0], {"z": z}, net, x, y)
        assert joint - log_posterior == pytest.approx(exact.log_evidence, abs=1e-9)


@pytest.mark.parametrize("each", [False, True])
def test_the_comparison_has_the_total_variation_and_the_trained_weights(each):
    net, chooser, x, y = small()
    chooser = chooser if each else None
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    fit = credo.fit(*pair(chooser), net, x, y, steps=40)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    trained = fit.trained(net)
    assert not torch.equal(trained["stem"].weight, net["stem"].weight)
    fits = of_each_depth(trained, x, y).double().detach()
    p = (log_prior()[:, None] + (fits if each else fits.sum(1, keepdim=True))).softmax(0)
    logits = fit.trained(chooser)(x).detach() if each else fit.params["logits"][None]
    q = logits.double().softmax(1).T
    values = torch.arange(BLOCKS + 1.0).double()[:, None]
    mean, exact_mean = (q * values).sum(0), (p * values).sum(0)
    by_hand = {
        "total variation": 0.5 * (q - p).abs().sum(0),
        "mean": mean,
        "exact mean": exact_mean,
        "sd": (q * (values - mean) ** 2).sum(0).sqrt(),
        "exact sd": (p * (values - exact_mean) ** 2).sum(0).sqrt(),
        "kl": (q * (q / p).log()).sum(0),
    }
    table = credo.compare(fit)
    assert list(table.index) == ([f"z[{i}]" for i in range(6)] if each else ["z"])
    for column, values in by_hand.items():
        assert table[column].tolist() == pytest.approx(values.tolist(), abs=2e-5), column
    assert table["total variation"].max() > 0.01  # there is something to see
    evidence = (log_prior()[:, None] + (fits if each else fits.sum(1, keepdim=True))).logsumexp(0).sum().item()
    assert table.attrs["log_evidence"] == pytest.approx(evidence, abs=1e-4)
    gap, error = table.attrs["evidence_gap"], table.attrs["elbo_error"]
    assert gap == pytest.approx(by_hand["kl"].sum().item(), abs=5 * error + 1e-4)


def test_the_free_guide_finds_the_posterior():
    net, _, x, y = small()
    net.requires_grad_(False).eval()
    fit = credo.fit(*pair(), net, x, y)
    exact = PAIR.posterior(net, x, y, rate=RATE).marginals["z"].probs
    assert set(fit.params) == {"logits"}
    torch.testing.assert_close(fit.params["logits"].double().softmax(0), exact, atol=2e-3, rtol=0)


@pytest.mark.parametrize("depth", range(BLOCKS + 1))
def test_a_draw_runs_the_blocks_it_needs_and_no_more(depth):
    net, _, x, y = small()
    ran = []
    for i, block in enumerate(net["blocks"]):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    new = torch.randn(4, 2)
    fit = credo.fit(PAIR.model, lambda net, x, y=None: certain(depth), net, x, y, steps=0)
    counts = []
    for draws in (2, 5):
        ran.clear()
        probs = fit.predict(draws, net, new)["probs"]
        counts.append([ran.count(i) for i in range(BLOCKS)])
    more = [b - a for a, b in zip(*counts, strict=True)]  # what comes before the draws runs all blocks
    assert more == [3] * depth + [0] * (BLOCKS - depth)
    torch.testing.assert_close(probs[0], cut(net, new, depth).softmax(-1).detach())


def certain(depth):
    """A guide that is sure of the depth."""
    import pyro
    import pyro.distributions as dist

    logits = pyro.param("logits", 50 * torch.nn.functional.one_hot(torch.tensor(depth), BLOCKS + 1).float())
    return pyro.sample("z", dist.Categorical(logits=logits))


@pytest.mark.parametrize("each", [False, True])
def test_the_predictive_is_the_mixture_of_the_depths(each):
    net, chooser, x, y = small()
    chooser = chooser if each else None
    fit = credo.fit(*pair(chooser), net, x, y, steps=20)
    trained, new = fit.trained(net), torch.randn(3, 2)
    q = (fit.trained(chooser)(new) if each else fit.params["logits"][None]).double().softmax(1).expand(3, -1)
    each_depth = torch.stack([cut(trained, new, z).softmax(-1) for z in range(BLOCKS + 1)]).double()
    exact = torch.einsum("nl,lnc->nc", q, each_depth).detach()
    n = 500
    probs = fit.predict(n, net, new)["probs"].double()
    z = (probs.mean(0) - exact) / (probs.std(0) / n**0.5)
    assert z.abs().max() <= 4.5
    found = credo.log_likelihood(fit, n, net, new, torch.ones(3, dtype=torch.int64))
    # One depth for each input is a latent of the row: the prior takes the place of q.
    truth = (log_prior().exp() @ each_depth[..., 1] if each else exact[:, 1]).log().detach()
    assert ((found.values - truth) / found.errors).abs().max() <= 4.5


def test_the_guide_per_input_reads_the_input_only():
    net, chooser, x, y = small()
    guide = poutine.trace(pair(chooser)[1])
    with_labels, without = (guide.get_trace(*data).nodes["z"]["fn"] for data in ((net, x, y), (net, x)))
    torch.testing.assert_close(with_labels.probs, without.probs)
    torch.testing.assert_close(with_labels.probs, (x @ chooser.weight.T + chooser.bias).softmax(1))


@pytest.mark.parametrize(
    "net", [nn.Linear(2, 2), nn.ModuleDict({"stem": nn.Linear(2, 2), "head": nn.Linear(2, 2)}), None]
)
def test_a_net_without_the_three_parts_is_refused(net):
    _, _, x, y = small()
    with pytest.raises(ValueError, match=r"net: got .*wanted a torch.nn.Module with the modules stem.*lacks"):
        credo.fit(PAIR.model, PAIR.guide, net, x, y, steps=1)


def test_a_chooser_of_another_width_is_refused():
    net, _, x, y = small()
    with pytest.raises(ValueError, match=r"chooser: gives shape \(6, 3\) for 6 rows, wanted \(6, 4\)"):
        credo.fit(*pair(nn.Linear(2, 3)), net, x, y, steps=1)


def test_the_built_in_digits_and_a_table():
    net, x, y = PAIR.data()
    assert x.shape == (1437, 64) and y.shape == (1437,)
    assert every_depth(net, x[:3]).shape == (7, 3, 10)
    same, x_test, y_test = held_out(net, x, y)
    assert same is net and x_test.shape == (360, 64) and y_test.shape == (360,)
    net, x, y = PAIR.data(pd.DataFrame({"b": [1.0, 2.0, 3.0], "y": [0, 2, 1]}))
    assert x.tolist() == [[1.0], [2.0], [3.0]] and y.tolist() == [0, 2, 1]
    assert every_depth(net, x).shape == (7, 3, 3)


class Residual(nn.Module):
    """A network of one's own with the three parts as attributes."""

    def __init__(self, parts):
        super().__init__()
        self.stem, self.head = parts["stem"], parts["head"]
        self.blocks = nn.Sequential(*parts["blocks"])

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))  # without the shortcuts: the pair does not call it


def test_a_network_of_ones_own_with_these_attributes_is_the_same():
    (one, _, x, y), (parts, *_) = small(), small()
    own = Residual(parts)
    options = {"steps": 5, "progress": False, "compile": False}
    fit, other = (credo.fit(*pair(), net, x, y, **options) for net in (one, own))
    assert fit.losses == other.losses
    assert torch.equal(fit.predict(20, one, x)["probs"], other.predict(20, own, x)["probs"])
    assert torch.equal(every_depth(other.trained(own), x), every_depth(fit.trained(one), x))
    torch.testing.assert_close(PAIR.posterior(own, x, y).log_evidence, PAIR.posterior(one, x, y).log_evidence)


def test_blocks_in_a_plain_list_are_refused():
    """torch does not see them, so they would not be trained."""
    own = Residual(small()[0])
    blocks = list(own.blocks)
    del own.blocks
    own.blocks = blocks
    with pytest.raises(ValueError, match=r"got Residual with \['head', 'stem'\].*lacks blocks .*nn.ModuleList"):
        PAIR.model(own, *small()[2:])
