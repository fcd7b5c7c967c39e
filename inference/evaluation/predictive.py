"""What the predictions of a network are worth: whether a longer run moves them, and whether they hold the data.

    m_n = (E[y_n | x_n, longer] - E[y_n | x_n]) / sd[y_n | x_n]              in sds of the predictive distribution
    l_n = log p(y_n | x_n, longer) - log p(y_n | x_n)                        nats, of the rows of the fit

No weighted draws correct a posterior of hundreds of weights, and many weights make the same predictions: k-hat says
nothing of them. What such a fit is trusted for is its predictions. They are no good if a longer run moves them, or if
they miss the data of the fit itself. Where neither is seen they may still be wrong, and the verdict is "unknown".
"""

import math
from typing import NamedTuple

import torch
from pyro import poutine

from ..distributions.finite import support
from ..distributions.unwrap import is_masked, unwrapped
from ..pair.batches import cut, rows_of
from ..posterior.approximation import pair_of
from ..posterior.verdict import NO, UNKNOWN, Verdict
from ..predictive.likelihood import log_likelihood
from ..runtime.reachable import find_modules
from ..runtime.sites import latent, observed
from ..runtime.state import reading
from ..runtime.traced import traced
from ..variational.result import STEPPED, Fit
from .longer import Longer, longer

NETWORK = 100  # latents or more, beside a torch module or a second matrix of them
DRAWS, ROWS = 300, 500  # of predictions; rows of the data that are predicted, at most
MOVED = 0.1  # sds of the predictive distribution, root mean square over rows
NATS = 0.05  # of log p(y | x) of a row
GROSS = 0.1  # of the probability that an interval, or a class, is believed to have
SURE = 3  # errors
PROBABILITIES = (0.5, 0.9)
GO_ON = "go on: `credo.fit(..., start=fit)`, or `svi.run(...)` of a runner of your own"


class Change(NamedTuple):
    """How far predictions moved: in predictive sds, and log p(y | x) of a row in nats; with their errors."""

    sds: float
    sds_error: float
    nats: float  # NaN where rows have no likelihood of their own
    nats_error: float

    @property
    def large(self) -> bool:
        return self.sds - SURE * self.sds_error > MOVED or abs(self.nats) - SURE * self.nats_error > NATS


class Held(NamedTuple):
    """The share of the rows that hold what was predicted with this probability, and its error."""

    what: str
    probability: float
    share: float
    error: float

    @property
    def grossly_short(self) -> bool:
        return self.share + SURE * self.error < self.probability - GROSS

    @property
    def words(self) -> str:
        return f"{self.what} {self.share:.0%} of the rows"


def is_network(fit: Fit) -> bool:
    """Whether a fit by SVI has so many weights among its latents that nothing but its predictions can be judged."""
    if fit.method not in STEPPED:
        return False
    with reading(fit.state, 0), torch.no_grad():
        sites = latent(traced(fit.guide, fit.data)).values()
    matrices = sum(len(site["fn"].event_shape) > 1 for site in sites)
    modules = any(True for net in find_modules((fit.model, fit.data)) for _ in net.parameters())
    return sum(site["value"].numel() for site in sites) >= NETWORK and (modules or matrices > 1)


def predictive(fit: Fit, k_hat: float, *, seconds: float, seed: int = 0) -> Verdict:
    """The verdict on a network: "no" where its predictions move or miss the data, else "unknown", with what was seen.

    seconds: of CPU that a longer run may take. k_hat: of the weights, which is kept.
    """
    rows = _some_rows(fit, seed)
    held = coverage(fit, rows, seed)
    wrong = [each.words for each in held if each.grossly_short]
    later = longer(fit, seconds=seconds, seed=seed)
    change = None if later is None else changed(fit, later.fit, rows, seed)
    moved = change is not None and change.large and later is not None and later.gained > -2 * later.error
    seen = ["no longer run was made: steps take too long"] if later is None else [_words(fit, later, change)]
    seen = [*seen, *wrong] if moved else [*wrong, *seen]
    if moved or wrong:
        short = "the likelihood is too narrow, or the fit is far from the posterior"
        remedy = GO_ON if moved else f"{short}: let the model learn its noise, or {GO_ON}"
        return Verdict(NO, k_hat, tuple(seen), remedy)
    ended = [fit.stopped] if fit.stopped.startswith("not converged") else []
    seen += [each.words for each in held if not each.grossly_short][-1:]
    other = "no check tells whether weights have their posterior: compare predictions with held-out data, and seeds"
    return Verdict(UNKNOWN, k_hat, (*seen, *ended), other)


def changed(old: Fit, new: Fit, rows: tuple, seed: int = 0) -> Change:
    """How far the predictions of two fits of one pair lie apart, from draws that share their noise.

    rows: the arguments of the predictions; () for the data of the fit.
    """
    before, after = (fit.predict(DRAWS, *rows, seed=seed) for fit in (old, new))
    squares = []
    for name, site in _observed(old, rows, seed).items():
        one, two = (_numbers(draws[name], site["fn"]) for draws in (before, after))
        noise = (two - one).var(0) / DRAWS
        variance = torch.maximum(one.var(0), two.var(0)).clamp(min=1e-12)
        square = ((two.mean(0) - one.mean(0)).square() - noise) / variance
        squares.append(square.reshape(len(square), -1).mean(1) if square.dim() else square[None])
    each = torch.cat(squares)
    sds = each.mean().clamp(min=0).sqrt().item()
    error = (each.std() / len(each) ** 0.5).item() / (2 * max(sds, MOVED)) if len(each) > 1 else 0.0
    try:
        lik = [log_likelihood(fit, DRAWS, *rows, seed=seed).values for fit in (old, new)]
        d = lik[1] - lik[0]
        nats, nats_error = d.mean().item(), (d.std() / len(d) ** 0.5).item() if len(d) > 1 else 0.0
    except ValueError:  # rows without a likelihood of their own
        nats, nats_error = math.nan, math.nan
    return Change(sds, error, nats, nats_error)


def coverage(fit: Fit, rows: tuple = (), seed: int = 0) -> list[Held]:
    """For each observed site, the share of rows in their predictive intervals, or in the class believed likeliest.

    A draw that ties with the data counts as larger or smaller at random, so that counts are covered as often as real
    numbers. Errors are those of a share of independent rows.
    """
    draws, found = fit.predict(DRAWS, *rows, seed=seed), []
    generator = torch.Generator().manual_seed(seed)
    for name, site in _observed(fit, rows, seed).items():
        y, drawn = site["value"].detach().cpu(), draws[name].cpu()
        if is_masked(site["fn"]) or drawn.shape[1:] != y.shape:
            continue
        if _has_classes(site["fn"]):
            shares = _numbers(drawn, site["fn"]).mean(0)  # (N, C)
            confidence, likeliest = shares.max(-1)
            right = (likeliest == y).double()
            error = ((right - confidence).std() / right.numel() ** 0.5).item() if right.numel() > 1 else 1.0
            what = f"{name}: classes believed with {(sure := confidence.mean().item()):.0%} are right in"
            found.append(Held(what, sure, right.mean().item(), error))
            continue
        ties = torch.rand(y.shape, generator=generator)
        rank = (drawn < y).double().mean(0) + ties * (drawn == y).double().mean(0)
        for p in PROBABILITIES:
            inside = ((rank - 0.5).abs() <= p / 2).double()
            inside = inside.reshape(len(inside), -1).mean(1) if inside.dim() else inside[None]
            n = len(inside)
            error = max((inside.std() / n**0.5).item() if n > 1 else 1.0, (p * (1 - p) / n) ** 0.5 if n > 1 else 1.0)
            found.append(Held(f"{name}: {p:.0%} intervals hold", p, inside.mean().item(), error))
    return found


def _words(fit: Fit, later: Longer, change: Change | None) -> str:
    assert change is not None
    times = f"{later.steps:,} more steps move predictions by {change.sds:.2g} ± {change.sds_error:.1g} of their sds"
    nats = (
        "" if math.isnan(change.nats) else f", log p(y | x) by {change.nats:+.2g} ± {change.nats_error:.1g} nats a row"
    )
    return f"{times}{nats}, and gain {later.gained:.3g} ± {later.error:.1g} nats of ELBO"


def _some_rows(fit: Fit, seed: int) -> tuple:
    """The arguments of the model at ROWS of its rows, at random; () where it has no more, or cannot take them."""
    try:
        places, n = rows_of(fit.data)
    except ValueError:  # no tensor with rows
        return ()
    if n <= ROWS:
        return ()
    index = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:ROWS].sort().values
    rows = cut(fit.data, places, index)
    try:
        fit.predict(1, *rows, seed=seed)
    except (ValueError, RuntimeError):
        return ()
    return rows


def _observed(fit: Fit, rows: tuple, seed: int) -> dict:
    """The observed sites of the model at these rows, at one draw of the guide."""
    pair = pair_of(fit)
    data = rows or pair.data
    with reading(fit.state, seed), torch.no_grad():
        q = traced(pair.guide, data)
        return dict(observed(poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*data)))


def _has_classes(fn: object) -> bool:
    """Whether the values are classes without an order, each a number."""
    return type(unwrapped(fn)).__name__ == "Categorical"


def _numbers(draws: torch.Tensor, fn: object) -> torch.Tensor:
    """Draws with a mean: of classes, which of them was drawn, shape (..., C)."""
    if not _has_classes(fn):
        return draws.double()
    classes = len(support(fn))
    return torch.nn.functional.one_hot(draws.long(), classes).double()
