"""The exact gradient of -ELBO for the pairs of `_estimator_pairs.py`, in unconstrained space, nats.

    ELBO(params) = E_q[log p(x, z)] - E_q[log q(z)]     in closed form, summed over all values, or by quadrature

in double precision and differentiated by autograd. The Bayesian network has no exact gradient: a long run replaces it.
This file also has the test of bias, which compares the mean of a contender's gradients with such a reference.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from _estimator_contenders import Contender, interleaved
from _estimator_pairs import Pair
from _estimator_programs import CUT, LEAP, LIKELY, NOISE, RATE
from scipy import stats
from torch.distributions import Beta, Categorical, Dirichlet, Normal, kl_divergence, transform_to
from torch.utils.checkpoint import checkpoint

Params = Mapping[str, torch.Tensor]
NODES = 64  # of a quadrature, along each dimension
ALPHA = 1e-4
ROUNDING = 1e-5  # of a gradient in single precision, relative; and absolute, in nats


class Reference(NamedTuple):
    mean: torch.Tensor
    error: torch.Tensor  # standard error of each coordinate; zero if exact


class Bias(NamedTuple):
    rms: float
    most: float
    found: bool


def bias(contender: Contender, reference: Reference) -> Bias:
    """The z-scores of a contender's mean. The variance of one coordinate is poorly estimated where its gradient is
    rarely nonzero (an extreme logit): a quarter of the mean variance of its parameter is added. The limit of the mean
    square of z is that of chi-square with as many degrees of freedom as there are independent coordinates,
    P² / tr(R²), R the correlations (Satterthwaite 1946).
    """
    g = torch.stack(contender.gradients).double()
    mean, sd = g.mean(0), g.std(0)
    alike = torch.cat([part.mean().expand(len(part)) for part in sd.square().split(contender.sizes)])
    rounding = ROUNDING * (1 + reference.mean.abs())
    variance = (sd.square() + alike / 4) / len(g) + reference.error**2 + rounding**2
    z = (mean - reference.mean) / variance.sqrt()
    centred = (g - mean) / sd.clamp_min(1e-30)
    overlap = (centred @ centred.T / len(g)).square().sum().item()  # tr(R²), by way of the rows
    freedom = max(1.0, len(z) ** 2 / max(overlap, len(z)))
    rms, most = z.square().mean().sqrt().item(), z.abs().max().item()
    limit = max(1.2, math.sqrt(stats.chi2.isf(ALPHA, freedom) / freedom))
    return Bias(rms, most, not (rms <= limit and most <= stats.norm.isf(ALPHA / 2 / len(z))))


def confirmed(contender: Contender, reference: Reference) -> Bias:
    """The same, but a failure is tested again with four times as many gradients, because rare values look biased."""
    looked = bias(contender, reference)
    if looked.found:
        interleaved([contender], 4 * len(contender.gradients))
        looked = bias(contender, reference)
    return looked


def exact_gradient(pair: Pair, point: Params, constraints: Mapping) -> torch.Tensor | None:
    """The gradient at `point` (unconstrained, by name) as one vector in the order of the names; None if not known."""
    if pair.name not in ELBOS:
        return None
    leaves = {name: point[name].double().requires_grad_() for name in sorted(point)}
    params = {name: transform_to(constraints[name])(leaf) for name, leaf in leaves.items()}
    data = [d.double() if d.is_floating_point() else d for d in pair.data]
    loss = -ELBOS[pair.name](params, *data)
    found = torch.autograd.grad(loss, list(leaves.values()))
    return torch.cat([g.flatten() for g in found])


def coin(p, flips):
    total = torch.digamma(p["a"] + p["b"])
    fit = flips.sum() * torch.digamma(p["a"]) + (1 - flips).sum() * torch.digamma(p["b"]) - len(flips) * total
    return fit - kl_divergence(Beta(p["a"], p["b"]), Beta(2 * torch.ones_like(total), 2 * torch.ones_like(total)))


def regression(p, x, y):
    fit = Normal(x @ p["m"], NOISE).log_prob(y).sum() - (x**2 @ p["s"] ** 2).sum() / (2 * NOISE**2)
    return fit - kl_divergence(Normal(p["m"], p["s"]), _standard(p["m"], 1.0)).sum()


def belief(p, x):
    """All 2^20 states, in chunks: E[x·s - softplus(s)] with s = z w + b, of which the first term is linear in z."""
    on = p["q"].sigmoid()
    fit = (x * (on @ p["w"] + p["b"])).sum()

    def softplus_of(z, q, w, b):
        log_q = z @ F.logsigmoid(q).T + (1 - z) @ F.logsigmoid(-q).T
        return (log_q.exp().sum(1) * F.softplus(z @ w + b).sum(1)).sum()

    low, high = _states(14, x), _states(6, x)
    for upper in high:
        z = torch.cat([low, upper.expand(len(low), -1)], 1)
        fit = fit - checkpoint(softplus_of, z, p["q"], p["w"], p["b"], use_reentrant=False)
    return fit - _bernoulli_kl(p["q"], p["prior"])


def layers(p, x):
    z = _states(8, x)  # of either layer: (256, 8)
    log_q1 = z @ F.logsigmoid(p["q1"]).T + (1 - z) @ F.logsigmoid(-p["q1"]).T  # (z1, rows)
    logits = p["q2"] + (z @ p["u"])[:, None]  # (z1, rows, 8)
    log_q2 = F.logsigmoid(logits) @ z.T + F.logsigmoid(-logits) @ (1 - z).T  # (z1, rows, z2)
    log_p2 = z @ F.logsigmoid(p["prior"]) + (1 - z) @ F.logsigmoid(-p["prior"])  # (z2,)
    s = z @ p["w2"]
    log_p1 = z @ F.logsigmoid(s).T + (1 - z) @ F.logsigmoid(-s).T  # (z1, z2)
    s = z @ p["w1"]
    log_x = F.logsigmoid(s) @ x.T + F.logsigmoid(-s) @ (1 - x).T  # (z1, rows)
    inner = (log_q2.exp() * (log_p2 + log_p1[:, None] - log_q2)).sum(-1)
    return (log_q1.exp() * (log_x + inner - log_q1)).sum()


def mixture(p, x):
    weights = p["q"].softmax(-1)
    fit = Normal(p["m"], NOISE).log_prob(x[:, None]) - p["s"] ** 2 / (2 * NOISE**2)
    even = torch.full_like(p["q"], 1 / 3)
    return (
        (weights * fit).sum()
        - kl_divergence(Categorical(logits=p["q"]), Categorical(even)).sum()
        - kl_divergence(Normal(p["m"], p["s"]), _standard(p["m"], 3.0)).sum()
    )


def depth(p, x, y):
    fits, h = [], x
    for layer in range(7):
        fits.append(Normal(h @ p["m"], 2.0).log_prob(y).sum() - (h**2 @ p["s"] ** 2).sum() / 8)
        if layer < 6:
            h = h + torch.tanh(F.linear(h, p["w_point"][layer]))
    prior = _standard(p["w_point"], 0.5).log_prob(p["w_point"]).sum()
    prior = prior - kl_divergence(Normal(p["m"], p["s"]), _standard(p["m"], 0.5)).sum()
    q = Categorical(logits=p["q"])
    return (q.probs * torch.stack(fits)).sum() + prior - kl_divergence(q, Categorical(logits=-RATE * torch.arange(7)))


def lda(p, words):
    def mean_log(a):
        return torch.digamma(a) - torch.digamma(a.sum(-1, keepdim=True))

    q = p["q"].softmax(-1)  # (positions, documents, topics)
    word = mean_log(p["topics_q"]).T[words]  # (positions, documents, topics)
    fit = (q * (word + mean_log(p["shares_q"]) - p["q"].log_softmax(-1))).sum()
    for name in ("topics_q", "shares_q"):
        fit = fit - kl_divergence(Dirichlet(p[name]), Dirichlet(torch.ones_like(p[name]))).sum()
    return fit


def threshold(p, y):
    above = Normal(0.0, 1.0).cdf((p["m"] - CUT) / p["s"])
    yes, no = (torch.where(y > 0, p_one, 1 - p_one).log() for p_one in (torch.tensor(LIKELY), torch.tensor(1 - LIKELY)))
    return (above * yes + (1 - above) * no).sum() - kl_divergence(Normal(p["m"], p["s"]), _standard(p["m"], 1.0)).sum()


def gmm(p, x):
    locs, weight = _quadrature(p)
    fit = (Normal(locs[:, None], NOISE).log_prob(x[:, None]).logsumexp(-1) - np.log(2)).sum(-1)
    return (weight * fit).sum() - kl_divergence(Normal(p["m"], p["s"]), _standard(p["m"], 3.0)).sum()


def hmm(p, x):
    locs, weight = _quadrature(p)
    emit = Normal(locs[:, None, None], NOISE).log_prob(x[..., None])  # (nodes, T, sequences, state)
    leap = LEAP.double().log()
    state = leap[0] + emit[:, 0]
    for t in range(1, len(x)):
        state = (state[..., None] + leap).logsumexp(-2) + emit[:, t]
    fit = state.logsumexp(-1).sum(-1)
    return (weight * fit).sum() - kl_divergence(Normal(p["m"], p["s"]), _standard(p["m"], 3.0)).sum()


ELBOS = {f.__name__: f for f in (coin, regression, belief, layers, mixture, depth, lda, threshold, gmm, hmm)}


def _standard(like: torch.Tensor, sd: float) -> Normal:
    return Normal(torch.zeros_like(like), torch.full_like(like, sd))


def _states(n: int, like: torch.Tensor) -> torch.Tensor:
    """All 2^n values of n units, shape (2^n, n)."""
    return ((torch.arange(2**n)[:, None] >> torch.arange(n)) & 1).to(like.dtype)


def _bernoulli_kl(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    on = q.sigmoid()
    one, zero = F.logsigmoid(q) - F.logsigmoid(p), F.logsigmoid(-q) - F.logsigmoid(-p)
    return (on * one + (1 - on) * zero).sum()


def _quadrature(p: Params) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes of both locs, shape (NODES^2, 2), and their weights under q = N(m, s²), which sum to one."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(NODES))
    weights = weights / weights.sum()
    grid = torch.cartesian_prod(nodes, nodes)
    return p["m"] + p["s"] * grid, torch.cartesian_prod(weights, weights).prod(-1)
