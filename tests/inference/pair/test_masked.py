"""Latents under a mask that nothing depends on: fits compared with the closed form of the rows that count.

mu ~ N(0, 100),  x_n ~ N(mu, 1) observed where m_n,  y_n ~ N(x_n, 1):   1 / var mu = 1/100 + N_m + N_rest / 2
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoMultivariateNormal

import credo
from credo.inference.pair.masked import MaskedSites, Unmasked, can_mask, mask_of

X = torch.tensor([1.0, 2.5, 1.7, 3.0, 0.4, 2.2, 1.1, 2.9])
M = torch.tensor([True, False, True, True, False, True, False, True])
N, SEEN = len(X), int(M.sum())
PRECISION = 0.01 + SEEN + (N - SEEN) / 2
MEAN = (X[M].sum() + X[~M].sum() / 2).item() / PRECISION


def partly(x, m):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("x", dist.Normal(mu, 1.0), obs=x, obs_mask=m)
        pyro.sample("y", dist.Normal(z, 1.0), obs=x)


def by_hand(x, m):
    pyro.sample("mu", dist.Normal(pyro.param("a", torch.tensor(0.0)), pyro.param("b", torch.tensor(0.0)).exp()))
    with pyro.plate("N", len(x)):
        loc, log_scale = pyro.param("c", torch.zeros(N)), pyro.param("d", torch.zeros(N))
        pyro.sample("x_unobserved", dist.Normal(loc, log_scale.exp()))


MEAN_FIELD = (0.01 + N) ** -0.5  # its sd of mu: 1 / sqrt(precision_ii), the x that are not observed counted as known


@pytest.mark.parametrize(
    ("guide", "sd"),
    [
        (None, MEAN_FIELD),
        (by_hand, MEAN_FIELD),
        (AutoMultivariateNormal, PRECISION**-0.5),
    ],
    ids=["None", "by hand", "multivariate"],
)
def test_the_masked_entries_follow_the_model_and_the_others_their_posterior(guide, sd):
    guide = guide(partly) if isinstance(guide, type) else guide
    fit = credo.SVI(partly, guide, plan="fast", progress=False).run(X, M)
    assert fit.stopped.startswith("converged") and len(fit.losses) < 10_000  # they ran to 50,000 steps
    draws = fit.sample(6000)
    assert draws["mu"].mean().item() == pytest.approx(MEAN, abs=0.03)
    assert draws["mu"].std().item() == pytest.approx(sd, rel=0.06)
    missing = draws["x_unobserved"]
    assert torch.allclose(missing[:, ~M].mean(0), (X[~M] + MEAN) / 2, atol=0.06)
    assert torch.allclose(missing[:, M].mean(0), torch.tensor(MEAN), atol=0.08)
    assert torch.allclose(missing[:, M].std(0), torch.tensor((1 + sd**2) ** 0.5), rtol=0.06)
    table = fit.summary(4000)
    assert table["sd"].max() < 1.3 and table.loc["x_unobserved[0]", "mean"] == pytest.approx(MEAN, abs=0.1)


def test_a_point_estimate_draws_the_masked_entries_from_the_model():
    draws = credo.fit(partly, "map", X, M, steps=600, lr=0.05, progress=False).sample(4000)
    assert draws["mu"].std() == 0 and draws["x_unobserved"][:, ~M].std(0).max() < 1e-6
    assert torch.allclose(draws["x_unobserved"][:, M].std(0), torch.tensor(1.0), rtol=0.06)


def test_the_closed_form_and_its_evidence_are_those_of_the_rows_that_count():
    exact = credo.exact(partly, X, M)
    assert exact.marginals["mu"].mean.item() == pytest.approx(MEAN, abs=1e-4)
    assert exact.marginals["mu"].stddev.item() == pytest.approx(PRECISION**-0.5, abs=1e-4)
    covariance = 100 * torch.ones(N, N) + torch.eye(N) + torch.diag(1.0 * ~M)
    first = dist.MultivariateNormal(torch.zeros(N), covariance).log_prob(X)
    second = dist.Normal(0.0, 1.0).log_prob(torch.zeros(SEEN)).sum()  # y = x where x is observed
    assert exact.log_evidence == pytest.approx((first + second).item(), abs=1e-3)


def padded(y, m):
    s = pyro.sample("s", dist.LogNormal(0.0, 0.5))
    with pyro.plate("B", len(y)):
        z = torch.zeros(len(y))
        for t in range(3):
            with poutine.mask(mask=m[:, t]):
                z = pyro.sample(f"z{t}", dist.Normal(z, s))
                pyro.sample(f"y{t}", dist.Normal(z, 0.5), obs=y[:, t])


def padded_guide(masked):
    def guide(y, m):
        pyro.sample("s", dist.LogNormal(pyro.param("a", torch.tensor(0.0)), pyro.param("b", torch.tensor(0.0)).exp()))
        with pyro.plate("B", len(y)):
            for t in range(3):
                loc, log_scale = pyro.param(f"l{t}", torch.zeros(4)), pyro.param(f"q{t}", torch.zeros(4))
                with poutine.mask(mask=m[:, t] if masked else torch.ones(4, dtype=torch.bool)):
                    pyro.sample(f"z{t}", dist.Normal(loc, log_scale.exp()))

    return guide


def test_a_guide_of_a_padded_series_may_leave_the_mask_to_the_model():
    y = torch.tensor([[0.5, 1.0, 2.0], [0.1, -0.4, 9.0], [1.0, 9.0, 9.0], [0.3, 0.2, -0.5]])
    m = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    one, two = (
        credo.fit(padded, padded_guide(masked), y, m, steps=400, lr=0.05, plan="fast", progress=False)
        for masked in (True, False)
    )
    assert one.followers == frozenset() and two.followers == {"z1", "z2"}
    assert one.final_loss == pytest.approx(two.final_loss, abs=0.5)
    assert one.sample(2000)["s"].mean().item() == pytest.approx(two.sample(2000)["s"].mean().item(), abs=0.1)


def flat(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0).mask(False))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def masked_data(x, m):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)), poutine.mask(mask=m):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


@pytest.mark.parametrize(
    ("model", "data", "mean", "sd"),
    [
        (flat, (X,), X.mean().item(), N**-0.5),
        (masked_data, (X, M), X[M].sum().item() / (SEEN + 1), (SEEN + 1) ** -0.5),
    ],
    ids=["a flat prior", "masked observations"],
)
def test_masks_that_mean_something_stay(model, data, mean, sd):
    fit = credo.fit(model, None, *data, steps=600, lr=0.05, progress=False)
    draws = fit.sample(4000)["mu"]
    assert not fit.followers
    assert draws.mean().item() == pytest.approx(mean, abs=0.04) and draws.std().item() == pytest.approx(sd, rel=0.08)


def test_the_mask_of_a_site_has_the_shape_of_its_values():
    def program():
        with pyro.plate("N", 2), poutine.mask(mask=torch.tensor([True, False])):
            pyro.sample("a", dist.Normal(torch.zeros(2, 3), 1.0).mask(torch.tensor([True, True, False])).to_event(1))
            pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.sample("c", dist.Normal(0.0, 1.0).mask(False))
        pyro.sample("d", dist.Normal(0.0, 1.0).mask(True))

    nodes = poutine.trace(program).get_trace().nodes
    assert mask_of(nodes["a"]).tolist() == [[True, True, False], [False] * 3]
    assert mask_of(nodes["b"]).tolist() == [True, False] and not mask_of(nodes["c"]) and mask_of(nodes["d"]) is None
    bare = poutine.trace(Unmasked(frozenset({"a"}))(program)).get_trace().nodes
    assert mask_of(bare["a"]) is None and mask_of(bare["b"]) is not None
    with MaskedSites({"a": torch.full((2, 3), 9.0)}):
        held = poutine.trace(program).get_trace().nodes["a"]["value"]
    assert (held[0, :2] == 9).all() and (held[0, 2] != 9) and (held[1] != 9).all()


def test_one_density_of_some_masked_entries_cannot_leave_them_out():
    mask = torch.tensor([True, False])
    joint = dist.MultivariateNormal(torch.zeros(2), torch.eye(2))
    assert not can_mask({"fn": joint}, mask) and can_mask({"fn": joint}, ~torch.ones(2, dtype=torch.bool))
    assert can_mask({"fn": dist.Normal(torch.zeros(2), 1.0)}, mask)
    assert can_mask({"fn": dist.Normal(torch.zeros(2), 1.0).to_event(1)}, mask)
