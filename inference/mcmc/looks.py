"""Looks at the last draws of the warm-up and the first ones after it: a run that cannot become reliable ends there.

divergences > 0.5 % of all transitions that were asked for      more of them do not make it fewer
(R-hat - 1) n / N > 0.03      after n of N draws: R-hat - 1 falls like 1 / n, and 0.01 is wanted after N
    ESS N / n < 400 / 3           the effective sample size grows like n
"""

import torch

from .diagnostics import mixing
from .result import DIVERGENT, ESS, RHAT

EARLIEST = 100  # draws of each chain before the first look
FEWEST, STUCK = 50, 2.0  # draws at the end of the warm-up that tell; R-hat of chains that do not move
SHARES = (0.1, 0.25, 0.5)  # of the draws, at which to look
HOPELESS = 3  # times worse than what is wanted in the end


def looks(draws: int) -> list[int]:
    """After how many draws of each chain to look; the last one is after all."""
    return sorted({n for n in (round(share * draws) for share in SHARES) if EARLIEST <= n} | {draws})


def stuck(u: torch.Tensor, draws: int) -> bool:
    """Whether chains hardly moved at the end of the warm-up, as in the neck of a funnel. u: (chains, n, D), their last
    draws there, with a step size that still changed.
    """
    n = u.shape[1]
    if n < FEWEST:
        return False
    excess = mixing(u).rhat.nan_to_num(1.0).max().item() - 1
    return excess > STUCK - 1 and excess * n / draws > HOPELESS * (RHAT - 1)


def fails(u: torch.Tensor, divergences: int, draws: int) -> bool:
    """Whether a run of so many draws a chain will be refused. u: the draws so far (chains, n, D), unconstrained."""
    chains, n, _ = u.shape
    if divergences > DIVERGENT * chains * draws:
        return True
    m = mixing(u)
    excess, ess = m.rhat.nan_to_num(1.0).max().item() - 1, m.ess.min().item()
    return excess * n / draws > HOPELESS * (RHAT - 1) or ess * draws / n < ESS / HOPELESS
