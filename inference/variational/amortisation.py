"""The amortisation gap of a fit: what each row would gain by a normal of its own in the place of the network's.

    gap = E_n [ max_(m, s) ELBO_n(m, s) - ELBO_n(m(x_n), s(x_n)) ]      nats of a row

Estimated on some rows: m and s are moved from the network's answer by Adam, and both ELBOs are taken with one noise,
which the moves have not seen. A gap of .01 nats is a mean off by .14 sds, or a scale off by 10 %.
Source: Cremer, Li and Duvenaud 2018.
"""

from typing import NamedTuple

import torch

from ..objective.elbo import log_weights
from ..pair.amortised import Amortised
from ..pair.batches import cut, rows_of
from ..pair.pair import Pair
from ..posterior.verdict import NO, YES, Verdict
from ..runtime.generators import noise
from ..runtime.state import reading
from ..runtime.vectorise import can_vectorise
from .result import Fit

ROWS, STEPS, DRAWS = 64, 150, 16  # that are looked at; of Adam; of a gradient
LAST, BLOCKS = 256, 16  # draws that compare, in so many blocks
RATE = 0.05
GROSS = 0.01  # nats of a row
SURE = 3  # errors
REMEDY = "more steps; or guide='mean_field', which has a normal for each row, also with batch_size"


class Gap(NamedTuple):
    """Nats of a row, their Monte Carlo error, and how many rows were looked at."""

    nats: float
    error: float
    rows: int

    @property
    def words(self) -> str:
        return f"amortisation gap {self.nats:.2g} ± {self.error:.1g} nats a row, of {self.rows} rows"


def amortisation_gap(fit: Fit, seed: int = 0) -> Gap | None:
    """The amortisation gap of a fit; None where its guide is not amortised. The fit stays as it is."""
    if not isinstance(guide := fit.guide, Amortised):
        return None
    arguments, n = rows_of(fit.data)
    with noise(seed):
        index = torch.randperm(n)[:ROWS]
    data = cut(fit.data, arguments, index)
    with reading(fit.state, seed):
        with torch.no_grad():
            first = [t.detach().clone() for t in guide.rows_of(*data)]
        m, log_s = first[0].clone().requires_grad_(), first[1].log().requires_grad_()
        free = Pair(fit.model, lambda *args: guide.at_rows(m, log_s.exp())(*args), data, fit.summed)
        held = Pair(fit.model, guide.at_rows(*first), data, fit.summed)
        vectorised = can_vectorise(lambda: log_weights(held, 1, False))
        optimiser = torch.optim.Adam([m, log_s], lr=RATE)
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            gradients = torch.autograd.grad(-log_weights(free, DRAWS, vectorised).mean(), [m, log_s])
            for leaf, gradient in zip((m, log_s), gradients, strict=True):
                leaf.grad = gradient
            optimiser.step()
        differences = []
        with torch.no_grad():
            for block in range(BLOCKS):
                both = []
                for pair in (free, held):
                    with noise(seed + 1 + block):
                        both.append(log_weights(pair, LAST // BLOCKS, vectorised).mean())
                differences.append((both[0] - both[1]) / len(index))
    d = torch.stack(differences)
    return Gap(d.mean().item(), (d.std() / len(d) ** 0.5).item(), len(index))


def with_gap(fit: Fit, verdict: Verdict, seconds: float, seed: int = 0) -> Verdict:
    """The verdict with the amortisation gap as a reason: "no" where it is large. One that is "yes" has looked further.

    seconds: of CPU that a look may take; with less than one it says that nobody looked.
    """
    if not isinstance(fit.guide, Amortised) or verdict.trust == YES:
        return verdict
    if seconds < 1:
        return verdict._replace(reasons=(*verdict.reasons, "amortisation gap not looked at: credo.check(fit)"))
    gap = amortisation_gap(fit, seed)
    if gap is None or gap.nats - SURE * gap.error < GROSS:
        return verdict if gap is None else verdict._replace(reasons=(*verdict.reasons, gap.words))
    return Verdict(NO, verdict.k_hat, (gap.words, *verdict.reasons), REMEDY)
