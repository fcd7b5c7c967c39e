"""NUTS beside closed forms and sums, within its own Monte Carlo errors; what it cannot be believed in is refused."""

import math
import warnings
from functools import partial

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.func import functional_call

import credo
from credo.inference.mcmc import chains

Y = torch.tensor([1.0, -0.5, 2.0])
FLIPS = torch.tensor([1.0, 1.0, 0.0, 1.0])
FEW = {"draws": 400, "warmup": 150, "progress": False}
FEWER = {"draws": 20, "warmup": 20, "progress": False}  # never enough to be believed


def coin(flips):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(p), obs=flips)


def line(x, y):
    """Two correlated latents: the posterior is normal."""
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w[0] * x + w[1], 0.5), obs=y)


X = torch.tensor([1.0, 2.0, 3.0])


def of_line() -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, covariance) of the posterior of `line`."""
    A = torch.stack([X, torch.ones(3)], 1).double()
    S = torch.linalg.inv(A.T @ A / 0.25 + torch.eye(2))
    return S @ A.T @ Y.double() / 0.25, S


@pytest.fixture(scope="module")
def drawn() -> credo.Reference:
    return credo.reference(line, X, Y, **FEW)


def within(reference: credo.Reference, site: str, mean: torch.Tensor, sd: torch.Tensor) -> bool:
    """Whether mean and sd are the exact ones, by their own Monte Carlo errors."""
    found, m = reference.marginals[site], reference.mixing[site]
    far = torch.maximum((found.mean - mean).abs() / m.mean_error, (found.variance.sqrt() - sd).abs() / m.sd_error)
    return bool((far < 4.5).all()) and bool((m.mean_error < 0.1 * sd).all())


def test_a_normal_posterior_is_found(drawn):
    mean, S = of_line()
    assert within(drawn, "w", mean, S.diagonal().sqrt())
    draws = drawn.draws["w"]
    assert draws.shape == (4, 400, 2) and draws.dtype == torch.float64
    correlation = torch.corrcoef(draws.flatten(0, 1).T)[0, 1].item()
    assert correlation == pytest.approx((S[0, 1] / (S[0, 0] * S[1, 1]) ** 0.5).item(), abs=0.05)


def test_a_probability_is_drawn_in_its_own_space():
    found = credo.reference(coin, FLIPS, seed=1, **FEW)  # by chance, R-hat is 1.011 at seed 0
    exact = dist.Beta(torch.tensor(5.0).double(), 3.0)
    assert within(found, "p", exact.mean, exact.stddev)
    draws = found.draws["p"].flatten().sort().values
    for q in (0.1, 0.5, 0.9):
        x = draws[round(q * len(draws))]
        below = torch.distributions.Beta(5.0, 3.0)
        grid = torch.linspace(1e-6, x.item(), 20_001)
        share = torch.trapezoid(below.log_prob(grid).exp(), grid).item()
        assert share == pytest.approx(q, abs=5 * (q * (1 - q) / found.mixing["p"].ess.item()) ** 0.5)


def mixture(x):
    """Finite latents in a plate and one for all, summed out; the mean is left."""
    loc = pyro.sample("loc", dist.Normal(0.0, 0.5))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.5, 0.2])))
        pyro.sample("x", dist.Normal(loc + torch.tensor([-2.0, 0.0, 2.0])[k], 0.7), obs=x)


def test_finite_latents_are_summed_out_and_drawn_given_the_others():
    x = torch.tensor([0.5, 2.5, -1.0, 0.8])
    found = credo.reference(mixture, x, seed=1, **FEW)  # by chance, R-hat is 1.011 at seed 0
    grid = torch.linspace(-6, 6, 4001).double()
    parts = dist.Normal(grid[:, None, None] + torch.tensor([-2.0, 0.0, 2.0]), 0.7).log_prob(x.double()[:, None])
    parts = parts + torch.tensor([0.3, 0.5, 0.2]).double().log()  # (grid, N, K)
    log_p = dist.Normal(0.0, 0.5).log_prob(grid) + parts.logsumexp(-1).sum(-1)
    p = (log_p - log_p.logsumexp(0)).exp()
    mean = (p * grid).sum()
    assert within(found, "loc", mean, (p * (grid - mean) ** 2).sum().sqrt())
    shares = (p[:, None, None] * (parts - parts.logsumexp(-1, keepdim=True)).exp()).sum(0)  # (N, K)
    assert found.draws["k"].shape == (4, 400, 4) and list(found.draws) == ["loc", "k"]
    error = (shares * (1 - shares) / found.mixing["k"].ess[:, None]).sqrt()
    assert ((found.marginals["k"].probs - shares).abs() < 4.5 * error + 1e-3).all()
    rows = found.summary()
    assert list(rows.index) == ["loc", "k[0]", "k[1]", "k[2]", "k[3]"]


def test_the_summary_and_the_words_say_how_far_it_can_be_believed(drawn):
    table = drawn.summary()
    columns = ["mean", "sd", "5%", "50%", "95%", "R-hat", "ESS", "tail ESS", "error of mean"]
    assert list(table.columns) == columns and list(table.index) == ["w[0]", "w[1]"]
    assert (table["R-hat"] <= 1.01).all() and (table[["ESS", "tail ESS"]] >= 400).all(axis=None)
    assert "4 chains of 400 draws" in repr(drawn) and "UNRELIABLE" not in repr(drawn)
    assert drawn.problems == () and math.isnan(drawn.log_evidence)


def test_samples_are_joint_rows_of_the_draws(drawn):
    rows = drawn.sample(1600)["w"]
    everything = drawn.draws["w"].flatten(0, 1)
    assert torch.equal(rows[:, 0].sort().values, everything[:, 0].sort().values)  # each once
    order = everything[:, 0].argsort()
    assert torch.equal(rows[rows[:, 0].argsort()], everything[order])
    assert torch.equal(drawn.sample(5)["w"], drawn.sample(5)["w"])
    assert not torch.equal(drawn.sample(5)["w"], drawn.sample(5, seed=1)["w"])
    assert drawn.sample(2000)["w"].shape == (2000, 2)


def test_a_fit_is_compared_with_the_draws_in_the_same_table(drawn):
    def guide(x, y):
        mean, S = of_line()
        m = pyro.param("m", mean.to(x.dtype))
        pyro.sample("w", dist.MultivariateNormal(m, S.to(x.dtype)))

    table = credo.compare(credo.fit(line, guide, X, Y, steps=0), drawn)
    errors = table["error in sds"].abs() / table["mc error in sds"]
    assert (errors < 4.5).all() and (table["mc error in sds"] < 0.1).all()
    assert ((table["sd ratio"] - 1).abs() < 4.5 * table["mc error of ratio"]).all()
    assert math.isnan(table.attrs["evidence_gap"]) and "do not tell" in table.attrs["gap_in_words"]
    assert "NUTS" in table.attrs["against"]
    elbo = dist.MultivariateNormal(torch.zeros(3).double(), 0.25 * torch.eye(3) + torch.outer(X, X) + 1)
    assert table.attrs["elbo"] == pytest.approx(elbo.log_prob(Y.double()).item(), abs=1e-3)  # q is the posterior


def test_the_same_seed_gives_the_same_draws_and_leaves_the_process_as_it_was(unchanged):
    with unchanged(), warnings.catch_warnings():
        found = []
        for seed in (0, 0, 1):
            with pytest.raises(credo.UnreliableReference) as caught:
                credo.reference(coin, FLIPS, seed=seed, **FEWER)
            found.append(caught.value.reference.draws["p"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_too_few_draws_are_refused_and_kept():
    with pytest.raises(credo.UnreliableReference, match=r"p: effective sample size .*, wanted at least 400") as caught:
        credo.reference(coin, FLIPS, **FEWER)
    kept = caught.value.reference
    assert kept.draws["p"].shape == (4, 20) and kept.problems and "UNRELIABLE" in repr(kept)


def test_two_modes_are_refused():
    """Seen by any seed: chains start in each mode that an ascent from dispersed points finds."""

    def square(y):
        z = pyro.sample("z", dist.Normal(0.0, 3.0))
        pyro.sample("y", dist.Normal(z * z, 0.3), obs=y)

    for seed in range(3):
        with pytest.raises(credo.UnreliableReference, match="R-hat of z is"):
            credo.reference(square, torch.tensor(4.0), draws=50, warmup=50, seed=seed, progress=False)


def test_modes_that_are_no_mirror_images_are_refused_after_a_look():
    """The first look, after 100 draws, ends the run; the draws are kept."""

    def apart(y):
        z = pyro.sample("z", dist.Normal(0.0, 5.0))
        pyro.sample("y", dist.Normal((z - 1.0) ** 2, 0.3), obs=y)

    with pytest.raises(credo.UnreliableReference, match=r"R-hat of z is.*modes") as caught:
        credo.reference(apart, torch.tensor(9.0), progress=False)
    kept = caught.value.reference
    assert kept.stopped == "stopped after 100 of 1,000 draws of each chain, which cannot become reliable"
    assert kept.draws["z"].shape == (4, 100) and (kept.draws["z"] > 3).any() and (kept.draws["z"] < -1).any()


def test_correlations_and_units_cost_nothing():
    """Correlation .995, sds 1e-4 to 1e6."""
    sds = torch.tensor([1e-4, 1.0, 1e6]).double()
    S = torch.tensor([[1.0, 0.995, 0.5], [0.995, 1.0, 0.5], [0.5, 0.5, 1.0]]).double() * torch.outer(sds, sds)

    def narrow(y):
        z = pyro.sample("z", dist.MultivariateNormal(3 * sds, S))
        pyro.sample("y", dist.Normal(0 * z.sum(), 1.0), obs=y)

    found = credo.reference(narrow, torch.tensor(0.0), **FEW)
    assert within(found, "z", 3 * sds, sds)


@pytest.mark.slow
def test_a_funnel_is_refused():
    """Neal 2003: no step size is right in its mouth and in its neck."""

    def funnel(y):
        v = pyro.sample("v", dist.Normal(0.0, 3.0))
        with pyro.plate("J", 9):
            pyro.sample("z", dist.Normal(0.0, (v / 2).exp()))
        pyro.sample("y", dist.Normal(v, 100.0), obs=y)

    with pytest.raises(credo.UnreliableReference, match=r"R-hat.*diverged"):
        credo.reference(funnel, torch.tensor(0.0), draws=250, warmup=150, progress=False)


@pytest.mark.parametrize("after", [0, 30, 120, 1700])
def test_ctrl_c_keeps_what_there_is(after, monkeypatch, unchanged):
    """Of 4 chains with 20 transitions of warmup each. Chains do not wait for each other's trajectories."""
    real, taken = chains.transition, [0]

    def interrupted(*args):
        if taken[0] == after:
            raise KeyboardInterrupt
        found = yield from real(*args)
        taken[0] += 1
        return found

    monkeypatch.setattr(chains, "transition", interrupted)
    call = partial(credo.reference, line, X, Y, draws=1000, warmup=20, progress=False)
    with unchanged():
        if after < 80:
            with pytest.raises(KeyboardInterrupt):
                call()
        elif after < 1700:
            with pytest.warns(UserWarning, match="interrupted after [4-9] draws of each chain.*wanted at least 400"):
                found = call()
            assert 4 <= found.draws["w"].shape[1] < 10 and found.problems
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that these may be too few to be believed
                found = call()
            n = found.draws["w"].shape[1]
            assert found.stopped == f"interrupted after {n} draws of each chain (Ctrl-C)"
            assert 300 <= n <= 405


def test_a_network_keeps_its_weights_and_its_mode(unchanged):
    net = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))
    before = {name: p.clone() for name, p in net.state_dict().items()}

    def regression(net, x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(1, 1), 1.0).to_event(2))
        b = pyro.sample("b", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        mean = functional_call(net[0], {"weight": w, "bias": b}, (x[:, None],)).squeeze(-1)
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.5), obs=y)

    with unchanged(), pytest.raises(credo.UnreliableReference) as caught:
        credo.reference(regression, net, X, Y, **FEWER)
    assert caught.value.reference.draws["w"].shape == (4, 20, 1, 1)
    assert net.training and all(torch.equal(net.state_dict()[name], p) for name, p in before.items())


def test_data_may_be_a_table_and_settings_a_partial():
    table = pd.DataFrame({"y": Y.numpy(), "x": X.numpy()})
    found = []
    for data in ((table,), (X.numpy(), Y.tolist())):
        with pytest.raises(credo.UnreliableReference) as caught:
            credo.reference(partial(line), *data, **FEWER)
        found.append(caught.value.reference.draws["w"])
    assert torch.equal(*found)


def test_constants_in_single_precision_are_worked_with():
    eye = torch.eye(2, dtype=torch.float32)

    def single(y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(eye @ w, 0.5).to_event(1), obs=y)

    with pytest.raises(credo.UnreliableReference) as caught:
        credo.reference(single, Y[:2], **FEWER)
    assert caught.value.reference.draws["w"].dtype == torch.float32


@pytest.mark.slow
def test_the_defaults_do_for_eight_schools():
    """Rubin 1981, non-centred; tau by quadrature over it, the means being normal given it."""
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def schools(y, sigma):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("J", len(y)):
            eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)

    found = credo.reference(schools, y, sigma, progress=False)
    tau = torch.linspace(1e-3, 80, 8001).double()
    S = torch.diag_embed(sigma.double() ** 2 + tau[:, None] ** 2) + 25.0
    p = dist.MultivariateNormal(torch.zeros(8).double(), S).log_prob(y.double()) + dist.HalfCauchy(5.0).log_prob(tau)
    p = (p - p.logsumexp(0)).exp()
    mean = (p * tau).sum()
    assert within(found, "tau", mean, (p * (tau - mean) ** 2).sum().sqrt())


@pytest.mark.slow
def test_the_defaults_do_for_logistic_regression():
    """One coefficient, by quadrature; and twenty of them mix."""
    torch.manual_seed(0)
    x = torch.randn(300, 20)
    y = torch.bernoulli(torch.sigmoid(x @ torch.linspace(-1, 1, 20)))

    def logistic(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    assert credo.reference(logistic, x, y, progress=False).problems == ()
    found = credo.reference(logistic, x[:, :1], y, progress=False)
    w = torch.linspace(-8, 8, 16_001).double()
    log_p = dist.Bernoulli(logits=x[:, :1].double() * w).log_prob(y.double()[:, None]).sum(0)
    log_p = log_p + dist.Normal(0.0, 1.0).log_prob(w)
    p = (log_p - log_p.logsumexp(0)).exp()
    mean = (p * w).sum()
    assert within(found, "w", mean[None], (p * (w - mean) ** 2).sum().sqrt()[None])


def clusters(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 0.5))
    ends = pyro.deterministic("ends", loc + torch.tensor([-2.0, 2.0]))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "sequential"})
        pyro.deterministic("mine", ends[k.long()])
        pyro.sample("x", dist.Normal(ends[k.long()], 1.0), obs=x)


def test_deterministic_sites_have_their_value_at_the_draws_and_are_compared():
    x = torch.tensor([-1.9, 2.3, 0.2])
    found = credo.reference(clusters, x, **FEW)
    assert list(found.draws) == ["loc", "k"] and list(found.deterministic) == ["ends", "mine"]
    draws = found.sample(1600)
    torch.testing.assert_close(draws["ends"], draws["loc"][:, None] + torch.tensor([-2.0, 2.0]).double())
    assert torch.equal(draws["mine"], draws["ends"].gather(1, draws["k"].long()))
    apart = dist.Normal(draws["ends"][:, None], 1.0).log_prob(x[:, None].double()).softmax(-1)[..., 1]
    assert ((draws["k"].mean(0) - apart.mean(0)).abs() < 5 * 0.5 / 1600**0.5).all()
    fit = credo.fit(clusters, None, x, steps=400, progress=False)
    table = credo.compare(fit, found)
    assert list(table.index) == ["loc", "ends[0]", "ends[1]", "mine[0]", "mine[1]", "mine[2]"]
    for i, end in enumerate((-2.0, 2.0)):
        row = table.loc[f"ends[{i}]"]
        assert row["mean"] == pytest.approx(table.loc["loc", "mean"] + end, abs=0.02)
        assert row["exact sd"] == pytest.approx(table.loc["loc", "exact sd"], rel=1e-6)
        assert abs(row["error in sds"]) < 0.3


def test_a_finite_latent_that_a_continuous_one_depends_on_is_drawn_given_it():
    def model(x):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        h = pyro.sample("h", dist.Normal(1.5 * k, 1.0))
        pyro.sample("x", dist.Normal(h, 1.0), obs=x)

    found = credo.reference(model, torch.tensor(1.2), **FEW | {"draws": 800})  # 400 had R-hat 1.011 on one processor
    # x ~ N(1.5 k, 2) with h integrated out
    odds = torch.tensor(3 / 7).log() + (dist.Normal(1.5, 2**0.5).log_prob(torch.tensor(1.2)))
    p = (odds - dist.Normal(0.0, 2**0.5).log_prob(torch.tensor(1.2))).sigmoid()
    error = (p * (1 - p) / found.mixing["k"].ess).sqrt()
    assert abs(found.marginals["k"].mean - p) < 4.5 * error
    draws = found.sample(1600)
    given = (torch.tensor(3 / 7).log() + dist.Normal(1.5, 1.0).log_prob(draws["h"])).double()
    given = (given - dist.Normal(0.0, 1.0).log_prob(draws["h"])).sigmoid()  # p(k = 1 | h)
    high = draws["h"] > draws["h"].median()
    assert abs(draws["k"][high].double().mean() - given[high].mean()) < 4.5 * 0.5 / 800**0.5


def short_chains(model, *data):
    try:
        return credo.reference(model, *data, draws=300, warmup=100, chains=2, progress=False).draws
    except credo.UnreliableReference as error:  # the tolerances below allow for so few draws
        return error.reference.draws


def test_masked_latents_follow_the_model():
    """Rows of x that are observed leave entries of `x_unobserved` that nothing depends on: their posterior is p(x)."""
    x, seen = torch.tensor([1.0, 2.5, 2.0]), torch.tensor([True, True, False])

    def model(x, seen):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("N", len(x)):
            v = pyro.sample("x", dist.Normal(mu, 1.0), obs=x, obs_mask=seen)
            pyro.sample("y", dist.Normal(v, 1.0), obs=x + 0.1)

    draws = short_chains(model, x, seen)
    precision = 1 / 9 + 2 + 1 / 2
    mean, sd = (3.5 + 2.1 / 2) / precision, precision**-0.5
    assert abs(draws["mu"].mean() - mean) < 0.3 * sd and abs(draws["mu"].std() / sd - 1) < 0.2
    masked, missing = draws["x_unobserved"][..., 0], draws["x_unobserved"][..., 2]
    assert abs(masked.mean() - mean) < 0.3 and abs(masked.std() / (1 + sd**2) ** 0.5 - 1) < 0.2
    assert abs(missing.mean() - (mean + 2.1) / 2) < 0.3 and abs(missing.std() / (0.5 + sd**2 / 4) ** 0.5 - 1) < 0.2


def test_a_latent_that_the_data_depend_on_keeps_the_flat_prior_of_its_mask():
    y = torch.tensor([4.0, 6.0])

    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 0.1).mask(False))  # flat: its normal prior would hold it at 0
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    mu = short_chains(model, y)["mu"]
    assert abs(mu.mean() - 5.0) < 0.3 and abs(mu.std() / 0.5**0.5 - 1) < 0.2


@pytest.mark.slow
def test_eight_schools_centred_are_refused_early_with_the_remedy():
    """Rubin 1981: chains stay in the neck, where tau is small, or never enter it."""
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def schools(y, sigma):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("J", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    with pytest.raises(credo.UnreliableReference, match=r"z = mean \+ sd \* e") as caught:
        credo.reference(schools, y, sigma, seed=4, progress=False)
    assert caught.value.reference.stopped.startswith("stopped after")
