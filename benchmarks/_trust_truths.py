"""Truths of trust.py: means and sds by many chains of Hamiltonian Monte Carlo side by side, kept in a folder.

HMC owes nothing to what trust.py tests except the log joint density of the model and its gradient. All chains start
uniformly on (-2, 2) in unconstrained space, move with the covariance of the ensemble as their metric, and are watched
by R-hat, which compares the two halves of all chains with each other. A truth with an R-hat above MOST is refused.
Source: Neal 2011, "MCMC using Hamiltonian dynamics", section 3; Gelman and Rubin 1992.
"""

import hashlib
import inspect
import math
import pickle
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from _trust_case import Model, Moments, Posterior, noise
from pyro import poutine

from credo.inference.gaussian.density import Density, prepared
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered

CHAINS, FEWEST = 600, 60  # chains; as few as these where few gradients fit into memory at once
WARM, KEEP, EVERY = 300, 200, 2  # iterations; every second of KEEP is kept
ADAPTED = (60, 120, 180, 240)  # iterations at whose end the metric becomes the covariance of the chains
LEAPS, ACCEPTED, SHORT = 10, 0.8, 0.2  # SHORT: the share of steps that are a tenth as long
LOST = 50.0  # nats
ROUNDS, MOST = 5, 1.02  # times that iterations are kept, each time twice as many; R-hat


class Truth(NamedTuple):
    """moments: {site: mean, sd and their errors}, of deterministic sites too. rhat: the largest of all coordinates.

    error: the largest standard error of a mean, in sds. seconds: of CPU.
    """

    moments: dict[str, Moments]
    rhat: float
    error: float
    seconds: float


class Chains(NamedTuple):
    """u (C, D), log p(data, u) (C,), its gradient (C, D)."""

    u: torch.Tensor
    value: torch.Tensor
    gradient: torch.Tensor


def truth(posterior: Posterior, folder: Path) -> Truth:
    """The truth: by its formula, or from the folder, or by chains that the folder keeps from now on."""
    if posterior.known is not None:
        return Truth(dict(posterior.known.moments), 1.0, 0.0, 0.0)
    kept = folder / f"{_key(posterior)}.pickle"
    if kept.exists():
        found: Truth = Truth(*pickle.loads(kept.read_bytes()))
    else:
        found = hmc(posterior.twin or posterior.model, posterior.data)
        folder.mkdir(parents=True, exist_ok=True)
        moments = {name: Moments(*each) for name, each in found.moments.items()}
        kept.write_bytes(pickle.dumps(tuple(found._replace(moments=moments))))
        print(
            f"    truth of {posterior.name}: R-hat {found.rhat:.3f}, errors up to {found.error:.3f} sds, "
            f"{found.seconds:.0f} s of CPU",
            flush=True,
        )
    if not found.rhat <= MOST:
        raise ValueError(f"{posterior.name}: R-hat {found.rhat:.3f} of its truth, wanted at most {MOST}")
    own = poutine.trace(posterior.model).get_trace(*posterior.data).nodes  # the twin may have sites that it has not
    return found._replace(moments={name: each for name, each in found.moments.items() if name in own})


def _key(posterior: Posterior) -> str:
    """A name that changes with the model and with its data."""
    model = posterior.twin or posterior.model
    parts = [inspect.getsource(model).encode(), *(value.numpy().tobytes() for value in posterior.data)]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()[:12]
    return f"{''.join(c if c.isalnum() else '_' for c in posterior.name)}_{digest}"


def hmc(model: Model, data: tuple[torch.Tensor, ...]) -> Truth:
    """Means and sds of all sites of a model that are real or deterministic."""
    begun = time.process_time()
    density, state, _ = prepared(model, data, torch.device("cpu"), 0)
    with entered(state), default_dtype(density.first.dtype), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept, rhat = _draws(density)
        u = kept.flatten(0, 1)
        values = density.constrained(u)
        if deterministic := density.follow.keys() - density.values.keys():
            found = density.determined(u)
            values |= {name: found[name] for name in deterministic}
        chains = {name: x.reshape(*kept.shape[:2], *x.shape[1:]) for name, x in values.items()}
    moments = {name: _moments(x.double()) for name, x in chains.items()}
    error = max((each.mean_error / each.sd).max().item() for each in moments.values())
    return Truth(moments, rhat, error, time.process_time() - begun)


def _draws(density: Density) -> tuple[torch.Tensor, float]:
    """(draws (C, kept, D), R-hat)."""
    random = noise(0)
    chains = _start(density, max(FEWEST, min(CHAINS, density.chunk)), random)
    factor, size = torch.eye(chains.u.shape[1], dtype=chains.u.dtype), 0.1
    for t in range(WARM):
        chains, accepted = _moved(density, chains, factor, size, random)
        size *= math.exp((0.5 if t < WARM / 2 else 0.1) * (accepted - ACCEPTED))
        if t + 1 in ADAPTED:
            chains = _freed(chains, random)
            cov = torch.cov(chains.u.T).reshape(factor.shape)
            ridge = 1e-6 * cov.diagonal().diag_embed()
            factor, size = torch.linalg.cholesky(cov + ridge), min(size, 0.5) if t + 1 == ADAPTED[0] else size
    rhat, draws = math.inf, torch.empty(0)
    for times in (2**k for k in range(ROUNDS)):
        kept = []
        for t in range(KEEP * times):
            chains, _ = _moved(density, chains, factor, size, random)
            if t % (EVERY * times) == 0:
                kept.append(chains.u)
        draws = torch.stack(kept, 1)
        rhat = _rhat(draws)
        if rhat <= MOST:
            break
    return draws, rhat


def _start(density: Density, count: int, random: torch.Generator) -> Chains:
    """Points of finite density; those that are not so are replaced by others that are."""
    u = 4 * torch.rand(count, len(density.first), generator=random, dtype=density.first.dtype) - 2
    value, gradient = density.at_each(u)
    good = (value.isfinite() & gradient.isfinite().all(1)).nonzero()[:, 0]
    u = u[good[torch.arange(count) % len(good)]] if len(good) else density.first.expand(count, -1)
    return Chains(u, *density.at_each(u))


def _freed(chains: Chains, random: torch.Generator) -> Chains:
    """During the warm-up chains that are stuck LOST nats, and more, below the median go to where others are."""
    lost = chains.value < chains.value.median() - LOST - 5 * chains.u.shape[1]
    others = (~lost).nonzero()[:, 0]
    place = torch.arange(len(lost))
    place[lost] = others[torch.randint(len(others), (int(lost.sum()),), generator=random)]
    return Chains(*(part[place] for part in chains))


def _moved(
    density: Density, at: Chains, factor: torch.Tensor, size: float, random: torch.Generator
) -> tuple[Chains, float]:
    """(the chains after one trajectory, with a step of random size for each; the mean rate of acceptance)."""
    start = torch.randn(at.u.shape, generator=random, dtype=at.u.dtype)
    luck = torch.rand(2, len(at.u), 1, generator=random, dtype=at.u.dtype)
    step = size * (0.3 + luck[0]) * torch.where(luck[1] < SHORT, 0.1, 1.0)
    u, value, gradient, p = *at, start
    for _ in range(LEAPS):
        p = p + step / 2 * (gradient @ factor)
        u = u + (step * p) @ factor.T
        value, gradient = density.at_each(u)
        gradient = gradient.nan_to_num(posinf=0.0, neginf=0.0)
        p = p + step / 2 * (gradient @ factor)
    log_ratio = value - at.value - (p.square() - start.square()).sum(1) / 2
    log_ratio = log_ratio.nan_to_num(nan=-math.inf, posinf=-math.inf)
    taken = torch.rand(len(u), generator=random, dtype=u.dtype).log() < log_ratio
    moved = Chains(
        torch.where(taken[:, None], u, at.u),
        torch.where(taken, value, at.value),
        torch.where(taken[:, None], gradient, at.gradient),
    )
    return moved, log_ratio.exp().clamp(max=1).mean().item()


def _rhat(draws: torch.Tensor) -> float:
    """The largest R-hat of all coordinates of u (C, n, D), chains split in halves."""
    halves = torch.cat(draws.chunk(2, dim=1)[:2])
    within, between = halves.var(1).mean(0), halves.mean(1).var(0)
    n = halves.shape[1]
    return ((within * (n - 1) / n + between) / within).sqrt().max().item()


def _moments(x: torch.Tensor) -> Moments:
    """Of x (C, n, *shape); the errors from the spread of the chains, which are independent."""
    mean = x.mean((0, 1))
    square = (x - mean).square()
    sd = square.mean((0, 1)).sqrt()
    root = math.sqrt(len(x))
    return Moments(mean, sd, x.mean(1).std(0) / root, square.mean(1).std(0) / root / (2 * sd))
