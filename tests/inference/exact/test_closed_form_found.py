"""Closed forms that are found, beside those by hand; samples, predictions and updates of them."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate
from scipy.special import betaln, gammaln

import credo

torch.manual_seed(0)
NOISE = torch.randn(20, dtype=torch.float64)


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


@pytest.mark.parametrize(
    ("name", "settings"), [("coin_toss", {}), ("linear_regression", {}), ("linear_regression", {"sigma": None})]
)
def test_the_pairs_have_the_posteriors_derived_by_hand(name, settings):
    pair = credo.load(name)
    data = pair.data()
    found, by_hand = credo.exact(functools.partial(pair.model, **settings), *data), pair.posterior(*data, **settings)
    assert found.marginals.keys() == by_hand.marginals.keys()
    for site, p in by_hand.marginals.items():
        near(found.marginals[site].mean, p.mean)
        near(found.marginals[site].variance, p.variance)
    assert abs(found.log_evidence - by_hand.log_evidence) < 1e-6


def counts(x):
    with pyro.plate("J", x.shape[1]):
        rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
        with pyro.plate("N", x.shape[0]):
            pyro.sample("x", dist.Poisson(rate), obs=x)


def test_rows_of_a_plate_are_solved_at_once():
    x = torch.poisson(torch.full((7, 30), 3.0))
    found = credo.exact(counts, x)
    a, b = 2.0 + x.double().sum(0), 0.5 + len(x)
    near(found.marginals["rate"].concentration, a)
    near(found.marginals["rate"].rate, torch.full((30,), b))
    log_gamma = torch.lgamma(a) - math.lgamma(2.0) - torch.lgamma(x.double() + 1).sum(0)
    evidence = 2 * math.log(0.5) - a * math.log(b) + log_gamma
    assert abs(found.log_evidence - evidence.sum().item()) < 1e-6


def walk(y):
    z = 0.0
    for t in range(len(y)):
        z = pyro.sample(f"z{t}", dist.Normal(0.9 * z, 1.0))
        pyro.sample(f"y{t}", dist.Normal(z, 0.5), obs=y[t])


def test_a_chain_of_normals_is_one_normal():
    y, n = NOISE, len(NOISE)
    found = credo.exact(walk, y)
    steps = torch.eye(n) - 0.9 * torch.diag(torch.ones(n - 1), -1)
    prior = torch.linalg.inv((steps.T @ steps).double())
    of_y = prior + 0.25 * torch.eye(n)
    mean = prior @ torch.linalg.solve(of_y, y)
    near(found.joint.mean, mean, 1e-6)
    near(found.joint.covariance_matrix, prior - prior @ torch.linalg.solve(of_y, prior), 1e-6)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(n, dtype=torch.float64), of_y).log_prob(y)
    assert abs(found.log_evidence - evidence.item()) < 1e-6


def chain(y):
    table, z = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), 0
    for t in pyro.markov(range(len(y))):
        z = pyro.sample(f"z{t}", dist.Categorical(table[z]))
        pyro.sample(f"y{t}", dist.Normal(torch.tensor([-1.0, 1.0])[z], 1.0), obs=y[t])


def test_a_hidden_chain_is_that_of_the_forward_backward_algorithm():
    y, n = NOISE, len(NOISE)
    A = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    near_y = torch.stack([dist.Normal(m, 1.0).log_prob(y).exp() for m in (-1.0, 1.0)], -1)
    ahead, behind = [A[0] * near_y[0]], [torch.ones(2, dtype=torch.float64)]
    for t in range(1, n):
        ahead.append(ahead[-1] @ A * near_y[t])
        behind.append(A @ (near_y[n - t] * behind[-1]))
    found = credo.exact(chain, y)
    both = torch.stack(ahead) * torch.stack(behind[::-1])
    probabilities = both / both.sum(1, keepdim=True)
    near([found.marginals[f"z{t}"].mean for t in range(n)], probabilities[:, 1])
    assert abs(found.log_evidence - ahead[-1].sum().log().item()) < 1e-9
    drawn = found.sample(20_000)
    pair = (drawn["z10"] * drawn["z11"]).double().mean()  # both are 1
    exactly = ahead[10][1] * A[1, 1] * near_y[11, 1] * behind[::-1][11][1] / ahead[-1].sum()
    assert abs(pair - exactly) < 0.02


def modes(x):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
    mu = pyro.sample("mu", dist.Normal(torch.tensor([-3.0, 0.0, 3.0])[k], 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def test_a_mixture_over_a_finite_latent():
    x = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = credo.exact(modes, x)
    prior = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    cov = torch.eye(2, dtype=torch.float64) + 1.0
    each = [
        torch.distributions.MultivariateNormal(torch.full((2,), m, dtype=torch.float64), cov).log_prob(x)
        for m in (-3, 0, 3)
    ]
    logs = torch.stack(each) + prior.log()
    assert abs(found.log_evidence - logs.logsumexp(0).item()) < 1e-9
    weights = logs.softmax(0)
    near(found.marginals["k"].probs, weights)
    near(found.marginals["mu"].mean, (weights * (torch.tensor([-3.0, 0.0, 3.0]) + 1.5) / 3).sum())
    drawn = found.sample(20_000)
    assert abs(drawn["mu"].mean() - found.marginals["mu"].mean) < 0.02


def spread_known_by_its_precision(x):
    root = dist.transforms.PowerTransform(torch.tensor(-0.5))
    sd = pyro.sample("sd", dist.TransformedDistribution(dist.Gamma(3.0, 2.0), root))
    mu = pyro.sample("mu", dist.Normal(1.0, sd))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, sd), obs=x)


def test_a_standard_deviation_whose_precision_is_gamma():
    x = NOISE
    found = credo.exact(spread_known_by_its_precision, x)
    n, m = len(x), (1.0 + x.sum()) / (len(x) + 1)
    a = 3.0 + n / 2
    b = 2.0 + 0.5 * ((x - m) ** 2).sum() + 0.5 * (m - 1.0) ** 2
    near(found.marginals["mu"].loc, m)
    near(found.marginals["mu"].scale, (b / a / (n + 1)).sqrt())
    near(found.marginals["sd"].mean, (gammaln(a - 0.5) - gammaln(a) + 0.5 * b.log()).exp())
    evidence = -n / 2 * math.log(2 * math.pi) - 0.5 * math.log(n + 1) + 3 * math.log(2.0) - a * b.log()
    assert abs(found.log_evidence - (evidence + gammaln(a) - gammaln(3.0)).item()) < 1e-6


def share(x):
    p = pyro.sample("p", dist.TransformedDistribution(dist.Normal(0.0, 1.5), dist.transforms.SigmoidTransform()))
    pyro.sample("x", dist.Normal(p.logit(), 1.0), obs=x)


def test_a_logit_normal_has_its_moments():
    found = credo.exact(share, torch.tensor(1.0))
    variance = 1 / (1 / 1.5**2 + 1)

    def moment(k):
        q = dist.Normal(variance, math.sqrt(variance))
        return integrate.quad(lambda u: (1 / (1 + math.exp(-u))) ** k * q.log_prob(torch.tensor(u)).exp(), -9, 11)[0]

    near(found.marginals["p"].mean, moment(1), 1e-6)
    near(found.marginals["p"].variance, moment(2) - moment(1) ** 2, 1e-6)


def coin(x):
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Bernoulli(p), obs=x)


def biased(x):
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(k * 1.0, 1.0), obs=x)


@pytest.mark.parametrize("model", [coin, biased, modes, spread_known_by_its_precision])
def test_batch_by_batch_is_all_at_once(model):
    x = (NOISE > 0).double() if model is coin else NOISE
    whole, parts = credo.exact(model, x), credo.exact(model, x[:3]).update(x[3:10]).update(x[10:])
    assert abs(whole.log_evidence - parts.log_evidence) < 1e-8
    for name, p in whole.marginals.items():
        near(parts.marginals[name].mean, p.mean)
        near(parts.marginals[name].variance, p.variance)


def test_the_evidence_of_a_coin():
    x = (NOISE > 0).double()
    h = x.sum().item()
    assert abs(credo.exact(coin, x).log_evidence - (betaln(2 + h, 3 + 20 - h) - betaln(2, 3))) < 1e-10


def test_predictions_are_those_of_the_regression():
    pair = credo.load("linear_regression")
    X, y = torch.randn(30, 3), torch.randn(30)
    found, new = credo.exact(pair.model, X, y), torch.randn(5, 3)
    drawn, by_hand = found.predict(20_000, new)["y"], pair.posterior(X, y).predictive(new)
    assert drawn.shape == (20_000, 5)
    assert ((drawn.mean(0) - by_hand.mean).abs() < 0.03).all()
    assert ((drawn.std(0) / by_hand.variance.sqrt() - 1).abs() < 0.03).all()
    assert found.predict(3)["y"].shape == (3, 30)


def test_the_summary_has_a_row_for_each_number():
    table = credo.exact(counts, torch.poisson(torch.full((7, 3), 3.0))).summary()
    assert list(table.index) == ["rate[0]", "rate[1]", "rate[2]"]
    assert ((table["5%"] < table["mean"]) & (table["mean"] < table["95%"])).all()


def test_a_normal_given_one_of_its_numbers():
    q = credo.gaussian_conditional([1.0, 2.0], [[4.0, 1.2], [1.2, 9.0]], {1: 5.0})
    rho = 1.2 / 6
    near(q.mean, [1.0 + rho * 2 * 3 / 9 * 3.0])
    near(q.covariance_matrix, [[4 * (1 - rho**2)]])
    with pytest.raises(ValueError, match="given"):
        credo.gaussian_conditional([1.0, 2.0], [[4.0, 1.2], [1.2, 9.0]], {2: 5.0})


def nested(x):
    z = pyro.sample("z", dist.Categorical(torch.tensor([0.3, 0.3, 0.4])))
    with pyro.plate("J", 2):
        k = pyro.sample("k", dist.Bernoulli(torch.tensor([0.5, 0.1, 0.7])[z]))
        with pyro.plate("N", 3):
            pyro.sample("x", dist.Normal(k + z, 1.0), obs=x)


def test_finite_latents_in_plates_are_those_of_their_list():
    x = NOISE[:6].reshape(3, 2)
    table = torch.zeros(3, 2, 2, dtype=torch.float64)  # of z and the two k
    for z, one, two in torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(2)).tolist():
        k, p = torch.tensor([one, two]), [0.5, 0.1, 0.7][z]
        seen = dist.Normal(k + float(z), torch.ones((), dtype=torch.float64)).log_prob(x).sum()
        table[z, one, two] = seen + math.log([0.3, 0.3, 0.4][z]) + sum(math.log(p if i else 1 - p) for i in (one, two))
    found, q = credo.exact(nested, x), table.flatten().softmax(0).reshape(3, 2, 2)
    assert abs(found.log_evidence - table.flatten().logsumexp(0).item()) < 1e-9
    near(found.marginals["z"].probs, q.sum((1, 2)))
    near(found.marginals["k"].probs, [q[:, 1].sum(), q[:, :, 1].sum()])
    drawn = found.sample(20_000)
    together = ((drawn["z"] == 2) & (drawn["k"] == 1).all(-1)).double().mean()
    assert abs(together - q[2, 1, 1]) < 0.02


SINGLE = torch.ones(20, dtype=torch.float32) * 2


def in_single(x):
    w = pyro.sample("w", dist.Normal(torch.zeros(3, dtype=torch.float32), 1.0).to_event(1))
    pyro.sample("x", dist.Normal((SINGLE[:, None].expand(20, 3) @ w).float(), 1.0).to_event(1), obs=x.float())


def test_a_model_in_single_precision_is_widened():
    found = credo.exact(in_single, NOISE.float())
    precision = torch.eye(3, dtype=torch.float64) + 20 * 4.0
    near(found.joint.covariance_matrix, torch.linalg.inv(precision))
    near(found.joint.mean, torch.linalg.solve(precision, 2.0 * NOISE.float().double().sum().expand(3)))
    assert torch.get_default_dtype() == torch.float32


def test_a_latent_for_each_row_cannot_be_updated_with_other_rows():
    def rows(x):
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    found = credo.exact(rows, NOISE)
    assert found.predict(5, NOISE[:3])["x"].shape == (5, 3)  # new rows, with new latents
    with pytest.raises(ValueError, match="'z'"):
        found.update(NOISE[:3])


@pytest.mark.parametrize("power", [1.0, 2.0, -1.0, -2.0])
def test_a_precision_by_any_of_its_names_has_one_evidence(power):
    """tau ~ Gamma(3, 2) itself, its root, a variance, and a standard deviation."""
    gamma = dist.Gamma(3.0, 2.0)
    root = dist.transforms.PowerTransform(torch.tensor(1 / power))

    def model(x):
        s = pyro.sample("s", gamma if power == 1 else dist.TransformedDistribution(gamma, root))
        mu = pyro.sample("mu", dist.Normal(1.0, s ** (-power / 2)))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(mu, s ** (-power / 2)), obs=x)

    by_sd = credo.exact(spread_known_by_its_precision, NOISE)
    found = credo.exact(model, NOISE)
    assert abs(found.log_evidence - by_sd.log_evidence) < 1e-9
    near(found.marginals["mu"].variance, by_sd.marginals["mu"].variance)


@pytest.mark.parametrize(("a", "kappa"), [(0.01, 0.01), (0.001, 1e-4), (0.001, 1.0)])
def test_a_normal_gamma_so_vague_that_its_draws_overflow_is_found(a, kappa):
    """log p(y) = log Gamma(a_n) / b_n^a_n - log Gamma(a) / b^a + log(kappa / kappa_n) / 2 - N log(2 pi) / 2, b = a
    (Murphy 2007, eq. 95)."""

    def model(y):
        tau = pyro.sample("tau", dist.Gamma(a, a))
        mu = pyro.sample("mu", dist.Normal(0.0, (kappa * tau) ** -0.5))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(mu, tau**-0.5), obs=y)

    y = 100 + 3 * torch.linspace(-2, 2, 20, dtype=torch.float64)
    n, mean = 20, 100.0
    shape, rate = a + n / 2, a + ((y - mean) ** 2).sum().item() / 2 + kappa * n * mean**2 / (2 * (kappa + n))
    by_hand = math.lgamma(shape) - shape * math.log(rate) - math.lgamma(a) + a * math.log(a)
    by_hand += math.log(kappa / (kappa + n)) / 2 - n / 2 * math.log(2 * math.pi)
    exact = credo.exact(model, y)
    assert exact.log_evidence == pytest.approx(by_hand, abs=1e-6)
    assert exact.marginals["mu"].mean.item() == pytest.approx(n * mean / (kappa + n), rel=1e-8)
    assert exact.marginals["tau"].mean.item() == pytest.approx(shape / rate, rel=1e-8)
