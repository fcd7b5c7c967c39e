"""Divergences, pushed distributions, neighbours and draws on the simplex, against torch, quadrature, closed forms."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from scipy.stats import ks_2samp, kstest
from torch.distributions import Independent, Normal, kl_divergence

import credo
from credo.inference.distributions.divergence import divergence, pushforward
from credo.inference.distributions.finite import one_flip_neighbours
from credo.inference.distributions.simplex import draw_on_simplex
from credo.inference.distributions.unwrap import unmasked
from credo.inference.runtime.vectorise import repeat

A = torch.tensor([[0.3, -1.2, 2.0], [0.1, 0.9, -0.4]])
B = torch.tensor([[-0.7, 0.4, 0.0], [1.5, -0.2, 0.6]])


@pytest.fixture(autouse=True)
def in_double(double):
    """All of these in double precision."""


def bernoulli(by):
    def make(t):
        return dist.Bernoulli(logits=t) if by == "logits" else dist.Bernoulli(torch.sigmoid(t))

    return make


def categorical(by):
    def make(t):
        return dist.Categorical(logits=t) if by == "logits" else dist.Categorical(t.softmax(-1))

    return make


MAKES = {f"{make.__name__}, {by}": make(by) for make in (bernoulli, categorical) for by in ("logits", "probs")}


@pytest.mark.parametrize("events", [0, 1])
@pytest.mark.parametrize("name", MAKES)
def test_the_divergence_of_finite_units_is_torchs_inside_and_outside_of_vmap(name, events):
    make, a, b = MAKES[name], A.double().requires_grad_(), B.double().requires_grad_()

    def ours(x, y):
        return divergence(make(x).to_event(events), make(y).to_event(events))

    def torchs(x, y):
        kl = kl_divergence(make(x), make(y))
        return kl.sum(-1) if events else kl

    found, wanted = ours(a, b), torchs(a, b)
    torch.testing.assert_close(found, wanted)
    each = torch.vmap(ours)(torch.stack([a, b]), torch.stack([b, a]))
    torch.testing.assert_close(each, torch.stack([torchs(a, b), torchs(b, a)]))
    for one, two in zip(*(torch.autograd.grad(v.sum(), [a, b]) for v in (found, wanted)), strict=True):
        torch.testing.assert_close(one, two)


def test_it_is_zero_of_a_distribution_from_itself_and_has_a_value_for_each_row():
    fn = dist.Bernoulli(logits=torch.tensor(0.3)).expand([2, 3]).to_event(1)
    assert divergence(fn, fn).shape == (2,) and divergence(fn, fn).abs().max() < 1e-12
    narrow = divergence(fn, dist.Bernoulli(logits=A.double()).to_event(1))
    torch.testing.assert_close(
        narrow, kl_divergence(dist.Bernoulli(logits=torch.tensor(0.3)), dist.Bernoulli(logits=A.double())).sum(-1)
    )


def test_a_prior_with_more_rows_is_no_error():
    """As that of a site whose prior depends on what is summed out of the model."""
    q, p = dist.Bernoulli(logits=torch.tensor(0.3)), dist.Bernoulli(logits=A[:, :1].double())
    torch.testing.assert_close(divergence(q, p), kl_divergence(q, p))


def test_such_a_pair_is_planned():
    def model(y):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        k = pyro.sample("k", dist.Bernoulli(torch.tensor([0.2, 0.6, 0.9])[z]))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    def guide(y):
        pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.3))))

    plan = credo.SVI(model, guide, progress=False).prepare(torch.tensor([0.3, 0.4]))
    assert plan.facts.kl == {} and plan.frame["term"]["k"] == "log q"


def quadrature(q, log_p, transform, log_slope):
    """E_q[log q(u) - log |du/dz|^-1 - log p(z(u))] for a scalar normal q over u."""
    u = torch.linspace(-12, 12, 40_001)
    weight = q.log_prob(u)
    return torch.trapezoid(weight.exp() * (weight - log_slope(u) - log_p(transform(u))), u)


def test_a_normal_pushed_onto_the_positive_line_has_the_kl_of_a_lognormal():
    q, p = dist.Normal(torch.tensor(0.4), 0.6), dist.LogNormal(torch.tensor(-0.2), 0.9)
    wanted = quadrature(q, p.log_prob, torch.exp, lambda u: u)
    assert divergence(q, p).item() == pytest.approx(wanted.item(), rel=1e-6)
    assert divergence(q, p).item() == pytest.approx(kl_divergence(Normal(0.4, 0.6), Normal(-0.2, 0.9)).item())
    z = pushforward(q, p).sample((4000,))
    assert kstest(z.log().numpy(), "norm", (0.4, 0.6)).pvalue > 1e-4


def test_pushed_keeps_rows_and_events_and_leaves_alone_what_has_the_support():
    q, p = dist.Normal(torch.zeros(2, 3), 1.0).to_event(1), dist.LogNormal(torch.zeros(2, 3), 1.0).to_event(1)
    found = pushforward(q, p)
    assert (found.batch_shape, found.event_shape) == ((2,), (3,)) and divergence(q, p).shape == (2,)
    same = dist.StudentT(3.0, torch.zeros(2, 3), 1.0).to_event(1)
    assert pushforward(q, same) is q


def test_the_kl_of_autonormal_from_a_lognormal_is_used_and_right():
    def model(y):
        s = pyro.sample("s", dist.LogNormal(-0.2, 0.9))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(0 * s, 1.0), obs=y)

    runner = credo.SVI(model, AutoNormal(model), progress=False)
    y = torch.tensor([0.3, -0.4])
    assert runner.prepare(y).kl == {"s_unconstrained"}
    m, s = (runner.params[f"AutoNormal.{name}.s"] for name in ("locs", "scales"))
    wanted = kl_divergence(Normal(m, s), Normal(-0.2, 0.9)) - Normal(0.0, 1.0).log_prob(y).sum()
    assert runner.evaluate_loss(y) == pytest.approx(wanted.item(), rel=1e-5)


FINITE = {
    "bernoulli": (dist.Bernoulli(torch.tensor([0.2, 0.7, 0.5])).to_event(1), torch.tensor([1.0, 0.0, 1.0])),
    "bernoulli rows": (
        dist.Bernoulli(torch.tensor([[0.2, 0.7], [0.4, 0.9]])).to_event(1),
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
    ),
    "categorical": (
        dist.Categorical(torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])).to_event(1),
        torch.tensor([2, 0]),
    ),
    "no event": (dist.Bernoulli(torch.tensor([0.2, 0.7])), torch.tensor([1.0, 0.0])),
    "a scalar": (dist.Categorical(torch.tensor([0.2, 0.3, 0.5])), torch.tensor(1)),
    "expanded": (dist.Bernoulli(torch.tensor(0.2)).expand([2, 2]).to_event(1), torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
    "binomial": (dist.Binomial(3, torch.tensor([0.2, 0.6])).to_event(1), torch.tensor([3.0, 1.0])),
}


@pytest.mark.parametrize("name", FINITE)
def test_the_neighbours_differ_in_one_unit_and_come_with_its_probability(name):
    fn, value = FINITE[name]
    values, probability = one_flip_neighbours(fn, value)
    base = fn.base_dist if fn.event_shape else fn
    support = base.enumerate_support(expand=False).flatten().tolist()
    units = fn.event_shape.numel()
    assert values.shape == (units * (len(support) - 1), *value.shape)
    assert probability.shape == (len(values), *fn.batch_shape)
    rows = value.reshape(fn.batch_shape.numel(), -1)
    seen = set()
    for new, p in zip(values.reshape(len(values), *rows.shape), probability.reshape(len(values), -1), strict=True):
        for row, (one, two) in enumerate(zip(rows, new, strict=True)):
            (unit,) = (one != two).nonzero().flatten().tolist()
            seen.add((row, unit, two[unit].item()))
            full = base.log_prob(new.reshape(value.shape)).exp().reshape(rows.shape)
            assert p[row].item() == pytest.approx(full[row, unit].item())
    assert len(seen) == len(rows) * units * (len(support) - 1)  # every other value of every unit, once


@pytest.mark.parametrize("wrap", ["to_event", "expand", "plain"])
def test_without_its_mask_a_distribution_is_what_is_drawn_from(wrap):
    mask, rates, value = torch.tensor([True, False]), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    plain = dist.Poisson(rates)
    masked = plain.mask(mask)
    masked, wanted = {
        "plain": (masked, plain.log_prob(value)),
        "to_event": (masked.to_event(1), plain.log_prob(value).sum()),
        "expand": (masked.expand([3, 2]).to_event(1), plain.log_prob(value).sum().expand(3)),
    }[wrap]
    torch.testing.assert_close(unmasked(masked).log_prob(value.expand(masked.shape())), wanted)
    assert not torch.equal(masked.log_prob(value.expand(masked.shape())), wanted)
    untouched = plain.to_event(1)
    assert unmasked(untouched) is untouched


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a", [0.005, 0.3, 1.0, 7.0])
def test_draws_of_a_beta_are_those_of_torch(a, dtype):
    fn = dist.Beta(torch.tensor(a, dtype=dtype), torch.tensor(1.3 * a, dtype=dtype))
    ours = repeat(lambda: pyro.sample("x", fn), 4000, True)
    assert ours.dtype == dtype and ours.min() > 0 and ours.max() < 1
    theirs = torch.distributions.Beta(torch.tensor(a).double(), torch.tensor(1.3 * a).double()).sample((4000,))
    places = 1e-6  # float32 has no numbers between 1 and the next below
    assert ks_2samp(*(x.double().clamp(places, 1 - places).numpy() for x in (ours, theirs))).pvalue > 1e-4


@pytest.mark.parametrize("a", [0.05, 1.0, 5.0])
def test_draws_of_a_dirichlet_are_those_of_torch(a):
    concentration = a * torch.tensor([1.0, 2.0, 0.5])
    ours = repeat(lambda: pyro.sample("x", dist.Dirichlet(concentration)), 4000, True)
    theirs = torch.distributions.Dirichlet(concentration.double()).sample((4000,))
    torch.testing.assert_close(ours.sum(-1), torch.ones(4000), atol=1e-5, rtol=0)
    for k in range(3):
        assert kstest(ours[:, k].numpy(), theirs[:, k].numpy()).pvalue > 1e-4


def test_wrappers_are_seen_through():
    fn = dist.Beta(torch.tensor(2.0), 3.0).expand([4]).to_event(1)
    assert draw_on_simplex(fn).shape == (4,) and len(draw_on_simplex(fn).unique()) == 4
    assert draw_on_simplex(dist.Dirichlet(torch.ones(3)).expand([2])).shape == (2, 3)


@pytest.mark.parametrize("a", [0.2, 2.0])
def test_the_gradient_of_the_mean_is_that_of_its_closed_form(a):
    """E x = a / (a + b): d/da = b / (a + b)^2. E x^2 too, for the shape."""
    b = 1.5
    one = torch.tensor(a).double().requires_grad_()
    x = repeat(lambda: pyro.sample("x", dist.Beta(one, torch.tensor(b).double())), 20_000, True)
    for f, exact in (
        (x, b / (a + b) ** 2),
        (
            x**2,
            (2 * a + 1) / ((a + b) * (a + b + 1)) - a * (a + 1) * (2 * a + 2 * b + 1) / ((a + b) * (a + b + 1)) ** 2,
        ),
    ):
        parts = f.split(1000)
        g = torch.stack([torch.autograd.grad(p.mean(), one, retain_graph=True)[0] for p in parts])
        assert abs(g.mean().item() - exact) < 4 * g.std().item() / len(parts) ** 0.5
        assert g.std().item() / len(parts) ** 0.5 < 0.05 * exact


def test_the_gradient_of_a_dirichlets_mean_is_that_of_its_closed_form():
    a = torch.tensor([0.6, 1.5, 2.5]).double().requires_grad_()
    x = repeat(lambda: pyro.sample("x", dist.Dirichlet(a)), 20_000, True)
    g = torch.stack([torch.autograd.grad(p[:, 0].mean(), a, retain_graph=True)[0] for p in x.split(1000)])
    total = a.detach().sum()
    exact = (total * torch.eye(3)[0] - a.detach()[0]) / total**2
    assert ((g.mean(0) - exact).abs() < 4.5 * g.std(0) / 20**0.5).all() and (
        g.std(0) / 20**0.5 < 0.1 * exact.abs()
    ).all()
    assert math.isclose(exact.sum().item(), ((total - 3 * a.detach()[0]) / total**2).item())


def test_the_kl_of_independent_normals_is_torchs_own():
    q, p = (Independent(Normal(torch.tensor([m, 0.2]), 0.5), 1) for m in (0.3, 1.0))
    torch.testing.assert_close(divergence(q, p), kl_divergence(q, p))


def test_a_flow_without_an_inverse_is_refused_by_name():
    flow = dist.transforms.planar(2)

    def model(y):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=y)

    def guide(y):
        pyro.module("flow", flow)
        pyro.sample("z", dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [flow]))

    with pytest.raises(ValueError, match="'z': its flow has no inverse"):
        credo.SVI(model, guide, progress=False).prepare(torch.tensor(0.3))


def test_rows_apart_are_not_pushed_onto_a_vector_of_the_same_support():
    """A mean-field guide of a multivariate normal; and no error for a support that is no row's own."""
    q, p = dist.Normal(torch.zeros(2), 1.0).to_event(1), dist.MultivariateNormal(torch.zeros(2), torch.eye(2))
    found = pushforward(q, p)
    assert (found.batch_shape, found.event_shape) == (p.batch_shape, p.event_shape)
    x = torch.randn(5, 2)
    torch.testing.assert_close(found.log_prob(x), q.log_prob(x))
    for outer in (p, dist.Dirichlet(torch.ones(2))):
        with pytest.raises(NotImplementedError):
            divergence(q, outer)
