"""What trust.py runs and how answers are measured: posteriors, their truths, errors in sds, seconds of CPU."""

import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

import credo

DRAWS = 20_000  # of a fit: the noise of a mean is .007 sd, of an sd .5 %
Model = Callable[..., Any]
Draws = Mapping[str, torch.Tensor]


class Moments(NamedTuple):
    """Mean and sd of a site under the posterior, with their standard errors, which are zero in closed form."""

    mean: torch.Tensor
    sd: torch.Tensor
    mean_error: torch.Tensor
    sd_error: torch.Tensor


class Known(NamedTuple):
    """A posterior in closed form, by a formula that credo does not know. log_evidence: log p(data), nats."""

    moments: Mapping[str, Moments]
    log_evidence: float


class Posterior(NamedTuple):
    """A model and its data. twin: a model with the same posterior on which chains move better; None: the model."""

    name: str
    model: Model
    data: tuple[Any, ...]
    twin: Model | None = None
    known: Known | None = None


class Error(NamedTuple):
    """The largest error of a mean, in sds, and of an sd, relative; the site with the larger of the two."""

    mean: float
    sd: float
    site: str

    def within(self, most: float) -> bool:
        return self.mean <= most and self.sd <= most


class Judged(NamedTuple):
    """A fit, its verdict, and CPU seconds: of the fit with what it looks at by itself, of a `credo.check` if any."""

    fit: Any
    verdict: Any
    seconds: float
    check: float


class TooLong(BaseException):
    """The fit took more than its seconds."""


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def closed(mean: Any, sd: Any) -> Moments:
    """Moments without error."""
    mean, sd = (torch.as_tensor(value, dtype=torch.float64) for value in (mean, sd))
    return Moments(mean, sd, torch.zeros_like(mean), torch.zeros_like(sd))


def linear(X: torch.Tensor, y: torch.Tensor, prior: Any, sd: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(m (D,), V (D, D), log p(y)) of y ~ Normal(X w, sd), w ~ Normal(0, prior): V^-1 = X'X / sd^2 + prior^-2.

    In units of the prior, by a singular value decomposition, so that the scales of the columns cost no digits.
    """
    X, y = X.double(), y.double()
    prior = torch.as_tensor(prior, dtype=torch.float64).expand(X.shape[1])
    U, S, Vh = torch.linalg.svd(X * prior / sd, full_matrices=False)
    seen = U.T @ y / sd
    W = prior[:, None] * Vh.T  # (D, K), K = min(N, D)
    mean = W @ (S / (1 + S**2) * seen)
    cov = prior.diag().square() - W @ (S**2 / (1 + S**2) * W).T
    square = (y / sd).square().sum() - (S**2 / (1 + S**2) * seen.square()).sum()
    scale = len(y) * torch.tensor(2 * torch.pi * sd**2, dtype=torch.float64).log() + (S**2).log1p().sum()
    return mean, cov, (-(square + scale) / 2).item()


def worst(draws: Draws, truth: Mapping[str, Moments]) -> Error:
    """How far the draws of all sites that the truth has are from it. A site without draws is infinitely wrong."""
    found = Error(0.0, 0.0, "")
    for name, (mean, sd, *_) in truth.items():
        if name not in draws:
            return Error(float("inf"), float("inf"), name)
        values = draws[name].detach().double()
        off = ((values.mean(0) - mean) / sd).abs().max().item()
        ratio = (values.std(0) / sd - 1).abs().max().item()
        if not max(off, ratio) <= max(found.mean, found.sd):
            found = found._replace(site=name)
        found = Error(max(off, found.mean), max(ratio, found.sd), found.site)
    return found


def judged(
    model: Model, guide: Any, data: tuple[Any, ...], seed: int, options: Mapping[str, Any], limit: int
) -> Judged:
    """A fit with nothing else set, and its verdict; by `credo.check` where the fit has not looked at itself."""
    with warnings.catch_warnings(), limited(limit):
        warnings.simplefilter("ignore")
        begun = time.process_time()
        fit = credo.fit(model, guide, *data, seed=seed, progress=False, **options)
        fitted = time.process_time()
        verdict = fit.verdict
        if verdict is None or verdict.reasons == ("not looked at",):
            verdict = credo.check(fit, seed=seed)
        return Judged(fit, verdict, fitted - begun, time.process_time() - fitted)


def draws_of(found: Judged, seed: int) -> Draws:
    """The draws that the verdict speaks of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        take = found.fit.corrected if found.verdict.trust == "corrected" else found.fit.sample
        return take(DRAWS, seed=seed)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raises TooLong after so many seconds."""

    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
