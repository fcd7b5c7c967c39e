"""The best normal for the weights of a softmax layer given its features: q(W) = prod_c N(w_c; m_c, S_c).

    f_nc = w_c.a_n,   w_c ~ N(0, s^2 diag(shape)^2),   y_n ~ Categorical(softmax(f_n))
    bound    Σ_n [m_y.a_n - E_q log Σ_c exp f_nc] - KL(q || p)
    S_c^-1 = Σ_n E p_c (1 - p_c) a_n a_n' + 1 / (s shape)^2            where the bound is largest, for p = softmax(f_n)
    m     <- m + (Σ_n E(diag p - p p') ⊗ a_n a_n' + 1 / (s shape)^2)^-1 gradient                       Newton's step

Harrison, Willes and Snoek 2024 (Variational Bayesian last layers, arXiv:2404.11599, theorem 2) bound the log-sum-exp by
Jensen's inequality. Logits of different outputs are independent under q, so it is an integral over one number
(`normal_logits.py`), with its derivatives: no draws, and nothing is lost. Natural gradients of the bound are Newton's
steps with averaged gradients and Hessians (Opper and Archambeau 2009, eq. 11-12; Khan and Lin 2017), which need no
learning rate. That of m is solved by conjugate gradients, with the blocks S_c^-1 as preconditioner (Nocedal and Wright
2006, section 7.1). The prior sd s maximises the bound too.
"""

import math
from typing import NamedTuple

import torch
from torch.nn import functional

from credo.treatments.evidence import best
from credo.treatments.normal_logits import expected_logsumexp

ROWS = 2048  # in memory at once, beside the features of all
ITERATIONS = 200
GAIN, SHARE = 0.005, 1e-5  # nats of the bound, or a share of it, below which it has come to rest
WITHIN = 8.0  # by how much the prior precision changes in a step at most
PAIRS = 2**27  # numbers of the Hessians of all rows; where there are more, its blocks on the diagonal serve
SOLVED, SOLVES = 0.03, 60  # how far conjugate gradients go: the share of the residual that is left, and at most


class Last(NamedTuple):
    """The last layer. loc: (C, D), D = H + 1. root: R_c with S_c = R_c R_c', (C, D, D). scale: s. noise: sigma in sds
    of y, 1 for classes; both of shape (). bound: log p(y | features) in nats, of standardised y, or a bound on it.
    at_rest: whether the steps ended at the maximum."""

    loc: torch.Tensor
    root: torch.Tensor
    scale: torch.Tensor
    noise: torch.Tensor
    bound: float
    at_rest: bool = True


class _Parts(NamedTuple):
    """E_q log p(y), its gradient in m, (C, D), minus its averaged Hessian: blocks (C, D, D), or of f, (N, C, C)."""

    total: torch.Tensor
    gradient: torch.Tensor
    blocks: torch.Tensor
    of_rows: torch.Tensor | None


def best_normal(
    a: torch.Tensor, y: torch.Tensor, shape: torch.Tensor, start: torch.Tensor, scale: float | None = None
) -> Last:
    """The q(W) = prod_c N(m_c, S_c) and the prior sd s that maximise the bound, in double precision inside.

    a: (N, D). y: classes, (N,). start: m before the first step, (C, D), unless zero is likelier: where logits are in
    the hundreds no step rises. scale: s, where it is known. The bound is concave in m and in the roots of S, and each
    step that does not raise it is halved, so it ends at the maximum.
    """
    sds = shape.double()
    m = start.double() / sds  # in units in which the prior is N(0, s^2 I)
    at = _derivatives(a, y, sds, m, None)
    if float(at.total) < -len(a) * math.log(len(m)):
        m = torch.zeros_like(m)
        at = _derivatives(a, y, sds, m, None)
    count, size = m.shape
    # s starts wide: expectation maximisation leaves a narrow prior, whose posterior is itself, by tiny steps alone.
    delta = float(m.square().mean().clamp(min=1)) ** -1 if scale is None else scale**-2.0
    eye = torch.eye(size).to(m)
    precision = delta * eye.repeat(count, 1, 1) + at.blocks
    now = _derivatives(a, y, sds, m, precision)
    value, rate, ahead = now.total - _divergence(m, precision, delta), 1.0, scale is None
    at_rest = False
    for _ in range(ITERATIONS):
        other = _best_precision(m, now.gradient, now.blocks, delta) if ahead else delta
        target = (1 - rate) * precision + rate * (now.blocks + other * eye)
        new = m + rate * _step(a, sds, now, m, other)
        new = new - new.mean(0)  # what all outputs share, the softmax does not see
        then = _derivatives(a, y, sds, new, target)
        gain = float(then.total - _divergence(new, target, other) - value)
        tiny = max(GAIN, SHARE * abs(float(value)))
        if gain < 0:
            if ahead:  # with the prior as it is, the bound rises at a small enough rate
                ahead = False
                continue
            rate /= 2
            if (at_rest := gain > -tiny) or rate < 1e-3:  # a whole step changes nothing, or none rises
                break
            continue
        m, precision, now, value, delta = new, target, then, value + gain, other
        rate, ahead = min(1.0, 2 * rate), scale is None
        if scale is None:
            inverse = torch.linalg.inv(precision).diagonal(dim1=-2, dim2=-1)
            other = m.numel() / float(m.square().sum() + inverse.sum())
            raised = float(_divergence(m, precision, delta) - _divergence(m, precision, other))
            delta, value, gain = other, value + raised, gain + raised
        if at_rest := gain < tiny:
            break
    factor = torch.linalg.cholesky(precision)
    root = sds[:, None] * torch.linalg.solve_triangular(factor.mT, eye, upper=True)
    units = (m * sds, root, m.new_tensor(delta**-0.5), m.new_ones(()))
    loc, roots, s, noise = (v.to(a.dtype) for v in units)
    return Last(loc, roots, s, noise, float(value), at_rest)


def _step(a: torch.Tensor, sds: torch.Tensor, parts: _Parts, m: torch.Tensor, delta: float) -> torch.Tensor:
    """Newton's step of m, (C, D), solved well enough to rise."""
    factor = torch.linalg.cholesky(parts.blocks + delta * torch.eye(len(sds)).to(m))

    def solved(v: torch.Tensor) -> torch.Tensor:
        return torch.cholesky_solve(v[..., None], factor)[..., 0]

    of_rows, residual = parts.of_rows, parts.gradient - delta * m
    if of_rows is None or not bool(residual.any()):
        return 0.65 * solved(residual)  # of two classes that are confused the Hessian is twice its blocks

    rows = a.float()

    def times(v: torch.Tensor) -> torch.Tensor:
        of_f = (of_rows @ (rows @ (sds * v).float().mT)[..., None])[..., 0]
        return sds * (of_f.mT @ rows).double() + delta * v

    found, wanted = torch.zeros_like(m), SOLVED * float(residual.norm())
    z = solved(residual)
    along, size = z, (residual * z).sum()
    for _ in range(SOLVES):
        image = times(along)
        length = size / (along * image).sum()
        found, residual = found + length * along, residual - length * image
        if float(residual.norm()) < wanted:
            break
        z = solved(residual)
        size, before = (residual * z).sum(), size
        along = z + size / before * along
    return found


def _best_precision(m: torch.Tensor, gradient: torch.Tensor, curvature: torch.Tensor, delta: float) -> float:
    """The prior precision of the largest evidence, were the averaged log-likelihood this quadratic around m.

    Expectation maximisation has the same fixed point, and gets there by hundreds of steps where rows say little.
    """
    values, vectors = torch.linalg.eigh(curvature)
    values = values.clamp(min=0)
    along = (vectors.mT @ (gradient[..., None] + curvature @ m[..., None]))[..., 0]

    def evidence(logs: torch.Tensor) -> torch.Tensor:
        each = values + logs[0].exp()
        return 0.5 * ((along.square() / each).sum() - each.log().sum() + m.numel() * logs[0])

    if not bool(values.any()):  # the rows say nothing of s
        return delta
    (log,), _ = best(evidence, m.new_tensor([math.log(delta)]))
    return min(max(float(log.exp()), delta / WITHIN), delta * WITHIN)


def _derivatives(
    a: torch.Tensor, y: torch.Tensor, sds: torch.Tensor, m: torch.Tensor, precision: torch.Tensor | None
) -> _Parts:
    """What the rows say at q. m, precision: in units in which the prior is N(0, s^2 I); precision None: at a point."""
    total, gradient = m.new_zeros(()), torch.zeros_like(m)
    blocks, of_rows = m.new_zeros(*m.shape, m.shape[1]), []
    pairs = precision is not None and len(a) * len(m) ** 2 <= PAIRS
    factor = None if precision is None else torch.linalg.cholesky(precision)
    for part, labels in zip(a.split(ROWS), y.split(ROWS), strict=True):
        rows = part.double() * sds
        mean = rows @ m.mT
        if factor is None:
            variance = torch.zeros_like(mean)
        else:
            white = torch.linalg.solve_triangular(factor, rows.mT.expand(len(m), -1, -1), upper=False)
            variance = white.square().sum(-2).mT
        each = expected_logsumexp(mean.float(), variance.float(), hessian=pairs)  # in single precision: sums are not
        hot = functional.one_hot(labels, len(m)).to(mean)
        total += (mean * hot).sum() - each.value.double().sum()
        gradient += (hot - each.of_mean.double()).mT @ rows
        weights = 2 * each.of_variance.double().clamp(min=0)
        for c in range(len(m)):
            blocks[c] += (rows * weights[:, c, None]).mT @ rows
        of_rows.append(each.hessian)
    return _Parts(total, gradient, blocks, torch.cat(of_rows) if pairs else None)


def _divergence(m: torch.Tensor, precision: torch.Tensor, delta: float) -> torch.Tensor:
    """KL(q || N(0, I / delta)) in nats."""
    factor = torch.linalg.cholesky(precision)
    trace = torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1).sum()
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum()
    return 0.5 * (delta * (m.square().sum() + trace) - m.numel() - m.numel() * math.log(delta) + log_det)
