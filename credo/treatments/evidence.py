"""The evidence of a linear model with normal weights, and the prior and noise that maximise it.

y ~ N(A w, sigma^2 I),  w ~ N(0, s^2 I),   A'A = U diag(l) U',  z = U'A'y,  alpha = 1 / s^2,  beta = 1 / sigma^2

log p(y) = -N/2 log(2 pi / beta) + 1/2 Σ_i log(alpha / (alpha + beta l_i))
           - beta/2 (y'y - beta Σ_i z_i^2 / (alpha + beta l_i))            Bishop 2006, eq. 3.86, in eigenvectors
"""

import math
from collections.abc import Callable

import torch

LIMIT = 20.0  # of the log of a scale: a part that the data say nothing of has no maximum

Evidence = Callable[[torch.Tensor], torch.Tensor]


def gaussian_evidence(values: torch.Tensor, along: torch.Tensor, total: torch.Tensor, rows: int) -> Evidence:
    """log p(y) in nats as a function of (log s, log sigma), shape (2,).

    values: the eigenvalues l of A'A, (D,). along: z, (D,). total: y'y. rows: N.
    """

    def evidence(logs: torch.Tensor) -> torch.Tensor:
        alpha, beta = (-2 * logs[0]).exp(), (-2 * logs[1]).exp()
        precision = alpha + beta * values
        fit = 0.5 * beta * (total - beta * (along.square() / precision).sum())
        log_det = 0.5 * (precision / alpha).log().sum()
        return -rows / 2 * math.log(2 * math.pi) - rows * logs[1] - log_det - fit

    return evidence


def best(evidence: Evidence, start: torch.Tensor) -> tuple[torch.Tensor, float]:
    """(the logs at the maximum of the evidence, its value), by L-BFGS in double precision.

    start: shape (K,), the logs to start from. A log beyond ±20 stays there: the data say nothing of it.
    """
    logs = start.detach().double().clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [logs], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-7, tolerance_change=1e-12
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -evidence(logs.clamp(-LIMIT, LIMIT))
        loss.backward()
        return loss

    optimiser.step(closure)
    found = logs.detach().clamp(-LIMIT, LIMIT)
    return found, float(evidence(found))
