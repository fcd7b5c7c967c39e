"""Latents in a row, each hanging on the one before: Kalman's filter and Rauch, Tung and Striebel's smoother by hand.

z_1 ~ N(0, P1), z_t ~ N(F z_{t-1}, Q), y_t ~ N(H z_t, r^2)          (Särkkä 2013, theorems 4.2 and 8.2)
predict:  m- = F m, P- = F P F' + Q            update:  S = H P- H' + r^2, K = P- H'/S, m = m- + K(y - H m-)
smooth:   G = P F' (P-)^-1, m_s = m + G (m_s' - m-'), P_s = P + G (P_s' - P-') G', cov(z_t, z_t+1) = G P_s'
"""

import math

import pyro
import pyro.distributions as dist
import torch

from tests.cases.posterior.oracles import Case, conditioned, randn, rows, t

STEPS, TRACK = 100, 20
WALK = randn(11, STEPS).cumsum(0) * 0.3 + 0.5 * randn(12, STEPS)
PLACES = 0.2 * torch.arange(TRACK).double() + 0.3 * randn(13, TRACK)
WAVE = torch.sin(torch.arange(8).double()) + 0.2 * randn(14, 8)
SERIES = randn(15, 40).cumsum(0)


def walk(y):
    """100 sites; the noise of each third step is not seen."""
    z = 0.0
    for i in range(len(y)):
        z = pyro.sample(f"z{i}", dist.Normal(z, 1.5 if i == 0 else 0.3))
        if i % 3 != 2:
            pyro.sample(f"y{i}", dist.Normal(z, 0.5), obs=y[i])


def tracking(y):
    """Place and speed, a vector a step; the place is seen."""
    F = torch.tensor([[1.0, 1.0], [0.0, 0.9]])
    z, cov = torch.zeros(2), torch.eye(2)
    for i in range(len(y)):
        z = pyro.sample(f"z{i}", dist.MultivariateNormal(z, cov))
        pyro.sample(f"y{i}", dist.Normal(z[..., 0], 0.3), obs=y[i])
        z, cov = z @ F.T, torch.tensor([[0.01, 0.0], [0.0, 0.04]])


def autoregressive(y):
    """A latent series z_t = 0.8 z_{t-1} + noise in one vector site, and y about it."""
    lags = torch.arange(len(y), device=y.device)
    stationary = 0.5**2 / (1 - 0.8**2) * 0.8 ** (lags[:, None] - lags).abs().to(torch.get_default_dtype())
    z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(len(y)), stationary))
    pyro.sample("y", dist.Normal(z, 0.3).to_event(1), obs=y)


def steps_in_one(y):
    """The same kind of series from its shocks: z = cumsum(e), e one vector site."""
    e = pyro.sample("e", dist.Normal(0.0, 0.3).expand([len(y)]).to_event(1))
    pyro.sample("y", dist.Normal(e.cumsum(-1), 0.5).to_event(1), obs=y)


def coefficients(y):
    """AR(2): y_t = a y_{t-1} + b y_{t-2} + noise, the coefficients unknown."""
    phi = pyro.sample("phi", dist.Normal(torch.zeros(2, dtype=y.dtype), 0.7).to_event(1))
    past = torch.stack([y[1:-1], y[:-2]], -1)
    rows("next", lambda: dist.Normal(past @ phi, 1.0), y[2:])


def process(x, y):
    """A Gaussian process with a squared exponential kernel, lengthscale 0.7."""
    K = 1.3 * torch.exp(-0.5 * ((x[:, None] - x) / 0.7) ** 2) + 1e-6 * torch.eye(len(x), dtype=x.dtype)
    f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(x), dtype=x.dtype), K))
    rows("y", lambda: dist.Normal(f, 0.25), y)


def smoothed(ys, P1, F, Q, H, noise):
    """(means, covariances, cov(z_t, z_t+1) and log evidence). ys: numbers, or None where nothing was seen."""
    m, P = torch.zeros(len(P1)).double(), P1
    filtered, predicted, evidence = [], [], 0.0
    for i, y in enumerate(ys):
        if i:
            m, P = F @ m, F @ P @ F.T + Q
        predicted.append((m, P))
        if y is not None:
            S = (H @ P @ H + noise**2).item()
            rest = (y - H @ m).item()
            evidence -= 0.5 * (rest**2 / S + math.log(2 * math.pi * S))
            m, P = m + P @ H / S * rest, P - torch.outer(P @ H, P @ H) / S
        filtered.append((m, P))
    means, covs, between = [m], [P], []
    for (m, P), (m_next, P_next) in zip(filtered[-2::-1], predicted[:0:-1], strict=True):
        G = torch.linalg.solve(P_next, F @ P).T
        between.insert(0, G @ covs[0])
        means.insert(0, m + G @ (means[0] - m_next))
        covs.insert(0, P + G @ (covs[0] - P_next) @ G.T)
    return means, covs, between, evidence


def of_walk():
    ys = [y.item() if i % 3 != 2 else None for i, y in enumerate(WALK)]
    one = t([[1.0]])
    means, covs, between, evidence = smoothed(ys, 2.25 * one, one, 0.09 * one, one[0], 0.5)
    found = {f"z{i}": dist.Normal(m[0], P[0, 0].sqrt()) for i, (m, P) in enumerate(zip(means, covs, strict=True))}
    return Case(walk, (WALK,), found, evidence, {("z40", "z41"): between[40]})


def of_tracking():
    F, Q, H = t([1.0, 1.0], [0.0, 0.9]), torch.diag(t(0.01, 0.04)), t(1.0, 0.0)
    means, covs, between, evidence = smoothed(PLACES.tolist(), torch.eye(2).double(), F, Q, H, 0.3)
    both = enumerate(zip(means, covs, strict=True))
    found = {f"z{i}": dist.MultivariateNormal(m, (P + P.T) / 2) for i, (m, P) in both}
    return Case(tracking, (PLACES,), found, evidence, {("z5", "z6"): between[5]})


def of_autoregressive():
    """By the smoother, though the model writes the covariance out."""
    y, one = WALK[:30], t([[1.0]])
    means, covs, between, evidence = smoothed(y.tolist(), 0.25 / 0.36 * one, 0.8 * one, 0.25 * one, one[0], 0.3)
    n = len(y)
    A, R = torch.eye(n).double(), 0.09 * torch.eye(n).double()
    lags = torch.arange(n)
    P = 0.25 / 0.36 * 0.8 ** (lags[:, None] - lags).abs().double()
    whole = conditioned(torch.zeros(n).double(), P, A, R, y)
    assert torch.allclose(whole.mean, torch.cat(means), rtol=1e-10) and abs(whole.evidence - evidence) < 1e-9
    assert torch.allclose(whole.cov.diagonal(), torch.cat(covs).squeeze(-1), rtol=1e-10)
    assert torch.allclose(whole.cov.diagonal(1), torch.cat(between).squeeze(-1), rtol=1e-9)
    return Case(autoregressive, (y,), {"z": whole.block(slice(0, n))}, evidence)


def of_steps():
    y, n = WALK[:25], 25
    A = torch.ones(n, n).double().tril()
    found = conditioned(torch.zeros(n).double(), 0.09 * torch.eye(n).double(), A, 0.25 * torch.eye(n).double(), y)
    return Case(steps_in_one, (y,), {"e": found.block(slice(0, n))}, found.evidence)


def of_coefficients():
    A = torch.stack([SERIES[1:-1], SERIES[:-2]], -1)
    found = conditioned(t(0.0, 0.0), 0.49 * torch.eye(2).double(), A, torch.eye(38).double(), SERIES[2:])
    return Case(coefficients, (SERIES,), {"phi": found.block(slice(0, 2))}, found.evidence)


def of_process():
    x = torch.linspace(-2, 2, 8, dtype=torch.float64)
    K = 1.3 * torch.exp(-0.5 * ((x[:, None] - x) / 0.7) ** 2) + 1e-6 * torch.eye(8)
    found = conditioned(torch.zeros(8).double(), K, torch.eye(8).double(), 0.0625 * torch.eye(8).double(), WAVE)
    return Case(process, (x, WAVE), {"f": found.block(slice(0, 8))}, found.evidence)


CHAINS = {
    "random walk of 100 sites": of_walk(),
    "place and speed": of_tracking(),
    "latent series in one site": of_autoregressive(),
    "shocks in one site": of_steps(),
    "AR(2) coefficients": of_coefficients(),
    "gaussian process": of_process(),
}
