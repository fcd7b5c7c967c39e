"""Divergences and pushed distributions, compared with torch, quadrature and closed forms."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from scipy.stats import kstest
from torch.distributions import Independent, Normal, kl_divergence

import credo
from credo.inference.capture.record import record
from credo.inference.distributions.divergence import divergence, pushforward

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


@pytest.mark.parametrize("events", [0, 1])
def test_the_divergence_of_inverse_gammas_is_torchs_and_reads_no_value(events):
    a, b = A.double().exp(), B.double().exp()

    def ours(x, y):
        return divergence(dist.InverseGamma(x, y).to_event(events), dist.InverseGamma(y, x).to_event(events))

    wanted = kl_divergence(dist.InverseGamma(a, b), dist.InverseGamma(b, a))
    torch.testing.assert_close(ours(a, b), wanted.sum(-1) if events else wanted)
    with pyro.validation_enabled(False):  # it reads values, too
        recording = record(lambda: [ours(a, b).sum()], [a, b])
    torch.testing.assert_close(recording.run(a, b)[0], wanted.sum())
    each = torch.vmap(ours)(torch.stack([a, b]), torch.stack([b, a]))
    torch.testing.assert_close(each, torch.stack([ours(a, b), ours(b, a)]))


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
    found = divergence(pushforward(q, p), p).item()
    assert found == pytest.approx(wanted.item(), rel=1e-6)
    assert found == pytest.approx(kl_divergence(Normal(0.4, 0.6), Normal(-0.2, 0.9)).item())
    z = pushforward(q, p).sample((4000,))
    assert kstest(z.log().numpy(), "norm", (0.4, 0.6)).pvalue > 1e-4


def test_pushed_keeps_rows_and_events_and_leaves_alone_what_has_the_support():
    q, p = dist.Normal(torch.zeros(2, 3), 1.0).to_event(1), dist.LogNormal(torch.zeros(2, 3), 1.0).to_event(1)
    found = pushforward(q, p)
    assert (found.batch_shape, found.event_shape) == ((2,), (3,)) and divergence(found, p).shape == (2,)
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
    torch.testing.assert_close(divergence(q, p), kl_divergence(q.base_dist, Normal(torch.zeros(2), 1.0)).sum())
    for outer in (pushforward(q, dist.Dirichlet(torch.ones(3))), dist.Dirichlet(torch.ones(2))):
        with pytest.raises(NotImplementedError):
            divergence(q, outer)
