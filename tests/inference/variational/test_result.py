"""What can be asked of a fit: draws, predictions, the summary, and the comparison with the exact posterior."""

import copy
import io
import pickle
from types import SimpleNamespace

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Beta, constraints, kl_divergence

import credo
from credo.inference.posterior.marginals import marginals, priors

N = 4000
X = torch.tensor([[0.5], [-1.0], [2.0]])
Y = torch.tensor([1.0, -2.0, 3.5])


def model(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 2.0))
    u = pyro.sample("u", dist.Normal(w, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x[:, 0] + u, 0.5), obs=y)


def guide(x, y=None):
    loc = pyro.param("loc", torch.tensor(1.0))
    w = pyro.sample("w", dist.Normal(loc, 0.3))
    pyro.sample("u", dist.Normal(2 * w - 1, 0.4))


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    """Not trained: q is known. w ~ N(1, 0.3^2), u ~ N(1, 0.6^2 + 0.4^2)."""
    return credo.fit(model, guide, X, Y, steps=0)


def close(draws: torch.Tensor, mean: float, sd: float) -> bool:
    error = sd / len(draws) ** 0.5
    return abs(draws.mean().item() - mean) < 5 * error and abs(draws.std().item() - sd) < 5 * error


def test_draws_have_the_moments_of_the_guide(fit):
    draws = fit.sample(N)
    assert draws["w"].shape == draws["u"].shape == (N,)
    assert close(draws["w"], 1.0, 0.3) and close(draws["u"], 1.0, 0.52**0.5)
    covariance = torch.cov(torch.stack([draws["w"], draws["u"]]).double())[0, 1]
    assert covariance.item() == pytest.approx(2 * 0.09, abs=5 * 0.3 * 0.73 / N**0.5)


def test_draws_depend_on_the_seed_and_on_nothing_else(fit, unchanged):
    with unchanged():
        one, again, other = fit.sample(5), fit.sample(5), fit.sample(5, seed=1)
    assert torch.equal(one["w"], again["w"]) and not torch.equal(one["w"], other["w"])


def test_predictions_of_new_rows_have_the_moments_of_the_predictive(fit):
    new = torch.tensor([[0.0], [1.0], [-2.0], [3.0], [0.5]])  # more rows than the fit has seen
    draws = fit.predict(N, new)["y"]
    assert draws.shape == (N, 5)
    for row, x in zip(draws.T, new[:, 0].tolist(), strict=True):  # y = (x + 2) w - 1 + 0.4 e + 0.5 e'
        assert close(row, x + 1, ((x + 2) ** 2 * 0.09 + 0.16 + 0.25) ** 0.5)


def test_predictions_without_new_data_draw_the_observations_anew(fit):
    draws = fit.predict(N)["y"]
    assert draws.shape == (N, 3) and draws.std(0).min() > 0.1
    assert torch.equal(draws, fit.predict(N, X)["y"])
    assert torch.equal(draws, fit.predict(N, X.numpy(), Y)["y"])


@pytest.mark.parametrize("call", ["sample", "predict", "summary"])
def test_no_draws_is_refused(fit, call):
    with pytest.raises(ValueError, match="n: got 0"):
        getattr(fit, call)(0)


def test_marginals_are_read_off_where_the_guide_knows_them(fit):
    known = marginals(fit)
    assert set(known) == {"w"} and (known["w"].mean.item(), known["w"].stddev.item()) == pytest.approx((1.0, 0.3))
    assert set(priors(fit)) == {"w"} and priors(fit)["w"].stddev.item() == 2.0


def test_the_summary_has_a_row_for_each_scalar(fit):
    table = fit.summary(N)
    assert list(table.index) == ["w", "u"] and list(table.columns) == ["mean", "sd", "5%", "50%", "95%"]
    assert table.loc["w", "mean"] == pytest.approx(1.0) and table.loc["w", "sd"] == pytest.approx(0.3)
    normal = torch.distributions.Normal(1.0, 0.52**0.5)
    for column, q in (("5%", 0.05), ("50%", 0.5), ("95%", 0.95)):
        x = normal.icdf(torch.tensor(q))
        error = (q * (1 - q) / N) ** 0.5 / normal.log_prob(x).exp().item()
        assert table.loc["u", column] == pytest.approx(x.item(), abs=5 * error)


def test_vectors_are_labelled_by_index():
    def vectors(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)

    table = credo.fit(vectors, None, torch.tensor(1.0), steps=1).summary(50)
    assert list(table.index) == ["z[0,0]", "z[0,1]", "z[0,2]", "z[1,0]", "z[1,1]", "z[1,2]"]


def test_an_automatic_guide_comes_near_the_mean_field_optimum():
    """Two latents with a correlated normal posterior: the optimum has the exact means and sds 1/sqrt(precision_ii)."""
    A = torch.cat([X, torch.ones(3, 1)], 1).double()
    prior = torch.tensor([[1.25, -1.0], [-1.0, 1.0]]).double()  # of (w, u): w ~ N(0, 4), u ~ N(w, 1)
    precision = A.T @ A / 0.25 + prior
    mean = torch.linalg.solve(precision, A.T @ Y.double() / 0.25)
    table = credo.fit(model, "mean_field", X, Y).summary(20_000)
    sds = precision.diagonal() ** -0.5
    assert torch.allclose(torch.tensor(table["mean"].to_numpy()), mean, atol=0.1 * sds.min().item())
    assert torch.allclose(torch.tensor(table["sd"].to_numpy()), sds, rtol=0.05)


def test_the_comparison_holds_the_closed_form_kl():
    pair = credo.load("coin_toss")
    flips = torch.tensor([1.0, 1.0, 0.0, 1.0])
    fit = credo.fit(pair.model, pair.guide, flips, steps=0)  # q is the prior, Beta(2, 2)
    table = credo.compare(fit)
    q, p = Beta(torch.tensor(2.0).double(), 2.0), Beta(torch.tensor(5.0).double(), 3.0)
    kl = kl_divergence(q, p).item()
    row = table.loc["p"]
    assert row["kl"] == pytest.approx(kl, rel=1e-6)
    assert (row["mean"], row["exact mean"]) == pytest.approx((0.5, 5 / 8))
    assert row["sd ratio"] == pytest.approx((q.stddev / p.stddev).item(), rel=1e-6)
    assert row["error in sds"] == pytest.approx(((q.mean - p.mean) / p.stddev).item(), rel=1e-6)
    assert table.attrs["evidence_gap"] == pytest.approx(kl, abs=5 * table.attrs["elbo_error"])
    assert table.attrs["evidence_gap"] == table.attrs["log_evidence"] - table.attrs["elbo"]


def test_an_exact_posterior_of_ones_own_can_be_handed_over(fit):
    own = {"w": dist.Normal(torch.tensor(0.8), 0.2), "u": dist.Normal(torch.tensor(1.1), 0.5)}
    table = credo.compare(fit, SimpleNamespace(marginals=own, log_evidence=-3.0))
    assert isinstance(table, pd.DataFrame) and table.attrs["log_evidence"] == -3.0
    assert table.loc["w", "error in sds"] == pytest.approx(1.0, rel=1e-5)
    q, p = torch.distributions.Normal(1.0, 0.3), torch.distributions.Normal(0.8, 0.2)
    assert table.loc["w", "kl"] == pytest.approx(kl_divergence(q, p).item(), rel=1e-5)
    with pytest.raises(ValueError, match="sites"):
        credo.compare(fit, SimpleNamespace(marginals={"v": own["w"]}, log_evidence=0.0))


def test_a_fit_says_what_it_is(fit):
    assert "0 steps" in repr(fit) and "w, u" in repr(fit)


def test_a_constrained_parameter_is_reported_constrained():
    def positive(x):
        pyro.sample("z", dist.LogNormal(0.0, pyro.param("s", torch.tensor(0.5), constraint=constraints.positive)))

    def world(x):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.LogNormal(0.0, 1.0)), 1.0), obs=x)

    assert credo.fit(world, positive, torch.tensor(1.0), steps=0).params["s"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("guide", [None, "map", "mle"])
def test_a_fit_with_an_automatic_guide_can_be_stored(guide):
    fit = credo.fit(world, guide, Y, steps=20, progress=False)
    stored = io.BytesIO()
    torch.save(fit, stored)
    stored.seek(0)
    for again in (pickle.loads(pickle.dumps(fit)), copy.deepcopy(fit), torch.load(stored, weights_only=False)):
        assert torch.equal(again.sample(3)["w"], fit.sample(3)["w"])
        assert torch.equal(again.predict(3)["y"], fit.predict(3)["y"])


def world(y):
    w = pyro.sample("w", dist.Normal(0.0, 2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(w, 0.5), obs=y)
