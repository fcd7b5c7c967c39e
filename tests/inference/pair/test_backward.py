"""Joint draws of summed sites have the probabilities that enumerating all joint values with plain Pyro gives them."""

from itertools import product

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from credo.inference.pair.backward import draw_summed
from credo.inference.pair.summed_out import to_sum_out
from credo.inference.runtime.vectorise import can_vectorise, draw
from tests.cases.summed_out.pairs import PAIRS

pytestmark = pytest.mark.usefixtures("double")
N = 3000
NOTHING = poutine.Trace()


def begin(model, guide, data):
    """(a draw of the guide, the model at it, what is summed out)."""
    with pyro.validation_enabled(False):
        q = poutine.trace(guide).get_trace(*data)
        p = poutine.trace(poutine.replay(model, trace=q)).get_trace(*data)
    return q, p, to_sum_out(p, q)


def by_enumeration(model, q, p, summed, data):
    """(joint values (J, numbers), their probabilities (J,)): the plain model is run once for each joint value."""
    names = sorted(summed.sites)
    supports = {name: p.nodes[name]["fn"].enumerate_support(expand=False).flatten() for name in names}
    cells = [name for name in names for _ in range(p.nodes[name]["value"].numel())]
    values, logs = [], []
    for combination in product(*(supports[name].tolist() for name in cells)):
        at = {name: [v for v, cell in zip(combination, cells, strict=True) if cell == name] for name in names}
        held = {name: torch.tensor(at[name]).to(supports[name]).reshape(p.nodes[name]["value"].shape) for name in names}
        trace = poutine.trace(poutine.condition(poutine.replay(model, trace=q), data=held)).get_trace(*data)
        total = torch.zeros(())
        for name, site in trace.nodes.items():
            if site["type"] == "sample":
                cost = site["fn"].log_prob(site["value"])
                if site["mask"] is not None and name not in names:  # a masked latent keeps its prior
                    cost = cost.where(site["mask"], torch.zeros(()))
                total = total + cost.sum()
        values.append(torch.tensor(combination, dtype=torch.float64))
        logs.append(total.detach())
    return torch.stack(values), torch.stack(logs).softmax(0)


@pytest.mark.parametrize("case", [name for name in PAIRS if name not in ("topics", "dependent")])
def test_joint_draws_have_the_probabilities_of_enumeration(case):
    model, _, guide, *data = PAIRS[case]
    pyro.set_rng_seed(3)
    q, p, summed = begin(model, guide, data)
    with pyro.validation_enabled(False), torch.no_grad():
        drawn = draw(lambda: draw_summed(model, q, tuple(data), summed), N)
        assert can_vectorise(lambda: draw_summed(model, q, tuple(data), summed))
        values, probabilities = by_enumeration(model, q, p, summed, data)
    for name, z in drawn.items():
        plain = p.nodes[name]["value"]
        assert z.shape == (N, *plain.shape) and z.dtype == plain.dtype
    found = torch.cat([drawn[name].reshape(N, -1).double() for name in sorted(drawn)], 1)
    shares = (found[:, None] == values).all(-1).double().mean(0)
    assert shares.sum().item() == pytest.approx(1.0) and not shares[probabilities == 0].any()
    sds = (probabilities * (1 - probabilities) / N).sqrt()
    assert ((shares - probabilities).abs() <= 4.5 * sds + 2 / N).all()


def two_of_a_row(x):  # a one-hot site, a site given it, and a site of one value that tells nothing
    with pyro.plate("columns", 2, dim=-2), pyro.plate("N", len(x), dim=-1):
        a = pyro.sample("a", dist.OneHotCategorical(torch.tensor([0.2, 0.3, 0.5])))
        b = pyro.sample("b", dist.Bernoulli((a * torch.tensor([0.1, 0.5, 0.8])).sum(-1)))
        pyro.sample("one", dist.Categorical(torch.ones(1)))
        pyro.sample("x", dist.Normal(2 * b, 1.0), obs=x)


def test_sites_of_nested_plates_keep_their_shape_and_type():
    x = torch.tensor([0.1, 2.5, 1.2])
    _, p, summed = begin(two_of_a_row, lambda x: None, (x,))
    with torch.no_grad():
        drawn = draw(lambda: draw_summed(two_of_a_row, NOTHING, (x,), summed), N)
    assert {name: (z.shape[1:], z.dtype) for name, z in drawn.items()} == {
        name: (p.nodes[name]["value"].shape, p.nodes[name]["value"].dtype) for name in ("a", "b", "one")
    }
    prior = torch.tensor([0.2, 0.3, 0.5])
    one = torch.tensor([0.1, 0.5, 0.8])
    like = dist.Normal(torch.tensor([0.0, 2.0]), 1.0).log_prob(x[:, None]).exp()  # (N, values of b)
    joint = torch.stack([prior * (1 - one), prior * one])[:, None] * like.T[:, :, None]  # (values of b, N, values of a)
    joint = joint / joint.sum((0, 2), keepdim=True)
    error = 4.5 * 0.5 / N**0.5
    assert ((drawn["b"].mean(0) - joint[1].sum(-1)).abs() < error).all()
    assert ((drawn["a"].mean(0) - joint.sum(0)).abs() < error).all()
    both = (drawn["a"] * drawn["b"][..., None]).mean(0)
    assert ((both - joint[1]).abs() < error).all()
    assert not drawn["one"].any()


def test_a_value_without_probability_is_never_drawn():
    def model(x):
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Categorical(logits=torch.tensor([-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf])))
            pyro.sample("x", dist.Normal(1.0 * k, 1.0), obs=x)

    x = torch.tensor([-50.0, 0.0, 2.0, 4.0, 90.0])
    _, _, summed = begin(model, lambda x: None, (x,))
    with torch.no_grad():
        k = draw(lambda: draw_summed(model, NOTHING, (x,), summed), N)["k"]
    assert set(k.unique().tolist()) == {1, 3} and k[:, 0].max() == 1 and k[:, -1].min() == 3


def test_an_observation_to_predict_tells_nothing():
    def model(x, y=None):
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(2 * k, 1.0), obs=x)
            pyro.sample("y", dist.Normal(40 * k, 1.0), obs=y)

    x = torch.tensor([0.3, 1.0])
    _, _, summed = begin(model, lambda *data: None, (x, torch.tensor([40.0, 0.0])))
    with torch.no_grad():
        seen = draw(lambda: draw_summed(model, NOTHING, (x, torch.tensor([40.0, 0.0])), summed), 100)["k"]
        k = draw(lambda: draw_summed(model, NOTHING, (x, None), summed, unseen=frozenset({"y"})), N)["k"]
    assert seen.mean(0).tolist() == [1.0, 0.0]
    wanted = (2 * x - 2).sigmoid()  # log N(x; 2, 1) - log N(x; 0, 1)
    assert ((k.mean(0) - wanted).abs() < 4.5 * 0.5 / N**0.5).all()


@pytest.mark.parametrize("in_markov", [False, True])
def test_latents_of_the_guide_that_depend_on_a_summed_site_tell_about_it(in_markov):
    """h ~ N(2 k, 1) is held at a value, so p(k | h) decides, and x follows from h alone."""

    def model(x):
        if in_markov:
            k = torch.tensor(0.0)
            for t in pyro.markov(range(3)):
                k = pyro.sample(f"k{t}", dist.Bernoulli(0.2 + 0.5 * k))
                h = pyro.sample(f"h{t}", dist.Normal(2 * k, 1.0))
                pyro.sample(f"x{t}", dist.Normal(h, 1.0), obs=x[t])
        else:
            with pyro.plate("N", 3):
                k = pyro.sample("k", dist.Bernoulli(0.2))
                h = pyro.sample("h", dist.Normal(torch.stack([2 * k, 0 * k], -1), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(h.sum(-1), 1.0), obs=x)

    x, h = torch.tensor([5.0, -5.0, 0.0]), torch.tensor([0.4, 1.6, 1.1])

    def guide(x):
        if in_markov:
            for t in range(3):
                pyro.sample(f"h{t}", dist.Delta(h[t]))
        else:
            with pyro.plate("N", 3):
                pyro.sample("h", dist.Delta(torch.stack([h, h], -1), event_dim=1))

    q, p, summed = begin(model, guide, (x,))
    with torch.no_grad():
        drawn = draw(lambda: draw_summed(model, q, (x,), summed), N)
        with pyro.validation_enabled(False):
            values, probabilities = by_enumeration(model, q, p, summed, (x,))
    found = torch.cat([drawn[name].reshape(N, -1) for name in sorted(drawn)], 1)
    shares = (found[:, None] == values).all(-1).double().mean(0)
    assert ((shares - probabilities).abs() <= 4.5 * (probabilities * (1 - probabilities) / N).sqrt() + 2 / N).all()
