"""Draws of a fit: finite latents that were summed out follow the data, deterministic sites the draws."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex

import credo
from credo.inference.posterior.sample import MOST, guide_draws, sample
from credo.inference.runtime.generators import noise

N = 3000
X = torch.tensor([-3.1, -2.2, -2.8, 2.4, 1.7, 0.1])


def agree(found, wanted, n=N):
    """Whether shares of n draws are these probabilities, within Monte Carlo error."""
    return bool(((found - wanted).abs() <= 5 * (wanted * (1 - wanted) / n).sqrt() + 3 / n).all())


def two_clusters(x):
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-2.0, 2.0]), 2.0).to_event(1))
    gap = pyro.deterministic("gap", loc[1] - loc[0])
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
        mine = pyro.deterministic("mine", loc[k])
        pyro.sample("x", dist.Normal(mine + 0 * gap, 1.0), obs=x)


def responsibilities(loc, x):
    """p(k = 1 | x, loc) for draws loc (n, 2), shape (n, N)."""
    joint = torch.tensor([0.4, 0.6]).log() + dist.Normal(loc[:, None], 1.0).log_prob(x[:, None])
    return joint.softmax(-1)[..., 1]


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    return credo.fit(two_clusters, None, X, steps=300, progress=False, compile=False)


def test_finite_latents_follow_the_data_and_deterministic_sites_the_draws(fit):
    draws = sample(fit, N)
    assert list(draws) == ["loc", "gap", "k", "mine"]
    assert draws["k"].shape == (N, 6) and draws["k"].dtype == torch.int64
    each = responsibilities(draws["loc"], X)
    assert agree((draws["k"] == 1).float().mean(0), each.mean(0))
    # given the draw of loc, not only on average: where loc makes the last row doubtful, k follows loc
    doubtful = each[:, -1]
    high = doubtful > doubtful.median()
    assert agree(draws["k"][high][:, -1].float().mean(), doubtful[high].mean(), N // 2)
    assert torch.equal(draws["gap"], draws["loc"][:, 1] - draws["loc"][:, 0])
    assert torch.equal(draws["mine"], draws["loc"].gather(1, draws["k"]))


def test_draws_depend_on_the_seed_and_leave_nothing_behind(fit, unchanged):
    with unchanged():
        one, again, other = fit.sample(20), fit.sample(20), fit.sample(20, seed=1)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["k"], other["k"]) and not torch.equal(one["loc"], other["loc"])
    assert set(guide_draws(fit, 2)) == {"loc"}


def test_batches_and_subsampled_plates_give_draws_of_all_rows():
    def model(x, part=None):
        loc = pyro.sample("loc", dist.Normal(torch.tensor([-2.0, 2.0]), 2.0).to_event(1))
        with pyro.plate("N", len(x), subsample_size=part) as rows:
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
            pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x[rows])

    for arguments, options in (((X,), {"batch_size": 3}), ((X, 2), {})):
        draws = credo.fit(model, None, *arguments, steps=20, progress=False, **options).sample(N)
        assert agree(draws["k"].float().mean(0), responsibilities(draws["loc"], X).mean(0))


def chain(x):
    move = pyro.sample("move", dist.Beta(torch.tensor([2.0, 6.0]), torch.tensor([6.0, 2.0])).to_event(1))
    z = torch.tensor(0)
    for t in pyro.markov(range(len(x))):
        z = pyro.sample(f"z{t}", dist.Bernoulli(Vindex(move)[z.long()]), infer={"enumerate": "sequential"})
        pyro.sample(f"x{t}", dist.Normal(2 * z, 1.0), obs=x[t])


def test_the_path_of_a_chain_is_drawn_as_forward_backward_says():
    x = torch.tensor([0.3, 1.8, 1.1, -0.5, 0.9])
    draws = credo.fit(chain, None, x, steps=200, progress=False).sample(N)
    path = torch.stack([draws[f"z{t}"] for t in range(5)], 1)
    move = torch.stack([1 - draws["move"], draws["move"]], -1).log()  # (n, from, to)
    like = dist.Normal(torch.tensor([0.0, 2.0]), 1.0).log_prob(x[:, None])  # (T, state)
    alpha = [move[:, 0] + like[0]]
    for t in range(1, 5):
        alpha.append((alpha[-1][:, :, None] + move).logsumexp(1) + like[t])
    beta = [torch.zeros(N, 2)]
    for t in range(4, 0, -1):
        beta.insert(0, (move + (like[t] + beta[0])[:, None]).logsumexp(2))
    smoothed = torch.stack([(a + b).softmax(-1)[:, 1] for a, b in zip(alpha, beta, strict=True)], 1)
    assert agree(path.mean(0), smoothed.mean(0))
    for t in range(4):  # pairs of states, which marginals alone would not give
        both = (alpha[t][:, :, None] + move + (like[t + 1] + beta[t + 1])[:, None]).flatten(1).softmax(-1)[:, 3]
        assert agree((path[:, t] * path[:, t + 1]).mean(0), both.mean(0))


def test_masked_rows_keep_their_prior_and_a_local_latent_moves_its_finite_one():
    mask = torch.tensor([True, False, True, False, True, True])

    def model(x):
        with pyro.plate("N", len(x)):
            u = pyro.sample("u", dist.Normal(0.0, 2.0))
            k = pyro.sample("k", dist.Bernoulli(0.2))
            with poutine.mask(mask=mask):
                pyro.sample("x", dist.Normal(u + 4 * k, 1.0), obs=x)

    def guide(x):
        with pyro.plate("N", len(x)):
            pyro.sample("u", dist.Normal(pyro.param("m", torch.zeros(6)), 0.5))

    draws = credo.fit(model, guide, X, steps=5, progress=False).sample(N)
    gain = dist.Normal(draws["u"] + 4, 1.0).log_prob(X) - dist.Normal(draws["u"], 1.0).log_prob(X)
    wanted = (torch.where(mask, gain, 0.0) + torch.tensor(0.25).log()).sigmoid()
    assert agree(draws["k"].mean(0), wanted.mean(0))


def test_finite_latents_of_the_guide_come_from_the_guide():
    def guide(x):
        pyro.sample("loc", dist.Normal(pyro.param("m", torch.tensor([-2.0, 2.0])), 0.1).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("k", dist.Categorical(logits=pyro.param("logits", torch.tensor([[0.0, 1.0]]).expand(6, 2))))

    fit = credo.fit(two_clusters, guide, X, steps=0, progress=False)
    draws = fit.sample(N)
    assert agree(draws["k"].float().mean(0), torch.tensor(1.0).sigmoid().expand(6))
    assert torch.equal(draws["mine"], draws["loc"].gather(1, draws["k"]))


def test_a_run_of_pyros_with_its_sum_over_values_has_them_too():
    def guide(x):
        m = pyro.param("m", torch.tensor([-2.0, 2.0]))
        pyro.sample(
            "loc", dist.Normal(m, pyro.param("s", torch.tensor([0.5, 0.5]), dist.constraints.positive)).to_event(1)
        )

    pyro.clear_param_store()
    loss = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    model = pyro.infer.config_enumerate(two_clusters)
    fit = credo.SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), loss).run(X, steps=20)
    draws = fit.sample(N)
    pyro.clear_param_store()
    assert agree(draws["k"].float().mean(0), responsibilities(draws["loc"], X).mean(0))


def test_sites_too_large_for_all_draws_are_left_out_and_come_with_fewer():
    with noise(0):
        x = torch.randn(100_000)

    def model(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * m)
        with pyro.plate("N", len(x)):
            pyro.deterministic("each", m + x)  # Pyro's distribution of it has N x N numbers
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    fit = credo.fit(model, None, x, steps=1, progress=False, compile=False)
    assert set(fit.sample(2)) == {"m", "twice", "each"} and fit.sample(2)["each"].shape == (2, 100_000)
    assert set(fit.sample(MOST // len(x) + 1)) == {"m", "twice"}
    assert list(fit.summary().index) == ["m", "twice"]


def test_deterministic_sites_of_any_type_and_shape_are_returned():
    def model(x):
        m = pyro.sample("m", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.deterministic("outer", torch.outer(m, m))
        pyro.deterministic("positive", m > 0)
        pyro.deterministic("order", m.argsort())
        pyro.deterministic("constant", torch.tensor(3.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(m[0], 1.0), obs=x)

    fit = credo.fit(model, None, X, steps=5, progress=False)
    draws = fit.sample(8)
    assert torch.equal(draws["outer"], draws["m"][:, :, None] * draws["m"][:, None])
    assert torch.equal(draws["positive"], draws["m"] > 0) and torch.equal(draws["order"], draws["m"].argsort(-1))
    assert draws["constant"].tolist() == [3.0] * 8
    assert {name: site.shape[1:] for name, site in fit.predict(3).items()} == {
        name: draws[name].shape[1:] for name in ("outer", "positive", "order", "constant")
    } | {"x": X.shape}
    table = fit.summary(200)
    assert table.loc["positive[0]", "mean"] == pytest.approx((fit.sample(200)["m"][:, 0] > 0).double().mean().item())
