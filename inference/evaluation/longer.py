"""The fit of a longer run: SVI goes on from the parameters of a fit, by the learning rates of a run that converges."""

import warnings
from typing import NamedTuple

import torch

from ..convergence.convergence import ANNEAL
from ..importance.budget import clock
from ..objective.elbo import log_weight
from ..posterior.approximation import pair_of
from ..runtime.parameters import unconstrained
from ..runtime.state import entered, reading
from ..runtime.vectorise import draw
from ..variational.result import Diverged, Fit
from ..variational.svi import LR, SVI

LEAST = 1000  # steps, however short the fit was
TIMED = 50  # first steps, which tell how long one takes
FEWEST = 200  # steps, fewer of which say nothing
SHARES = (0.6, 0.2, 0.2)  # of the steps at the first learning rate, and at those that follow
SLOWER = 0.1  # the first learning rate of a second try, where the first one lost
DRAWS = 64  # that compare two ELBOs


class Longer(NamedTuple):
    """A fit that went on for so many steps, and what the ELBO gained with its Monte Carlo error, nats."""

    fit: Fit
    steps: int
    gained: float
    error: float


def longer(fit: Fit, *, seconds: float, seed: int = 0) -> Longer | None:
    """The fit of a run that goes on for as many steps as the fit took, in at most so many seconds of CPU.

    A smaller learning rate is tried where the first one loses. The fit and the generators stay as they are. None where
    steps take too long, and where no run goes on: with an optimiser of Pyro's, say.
    """
    found = None
    for lr in (LR, SLOWER * LR):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user has been told
            try:
                later = _gone_on(fit, lr, seconds / 2, seed)
            except Diverged:
                continue
        if later is None:
            return found
        gained, error = elbo_difference(later[0], fit, seed)
        if found is None or gained > found.gained:
            found = Longer(later[0], later[1], gained, error)
        if gained > -2 * error:
            break
    return found


def _gone_on(fit: Fit, lr: float, seconds: float, seed: int) -> tuple[Fit, int] | None:
    """(the fit after more steps, how many)."""
    with reading(fit.state, seed):
        trained = {name: p.detach().clone() for name, p in unconstrained().items()}
    options = {"plan": fit.plan if fit.plan.entries else None, "device": fit.state.device, "progress": False}
    runner = SVI(fit.model, fit.guide, lr=lr, batch_size=fit.batch_size, seed=seed + 1, **options)
    runner._settings = runner._settings._replace(workers=None)  # each process of a job looks at its fit by itself
    runner.prepare(*fit.data)
    state = runner._begin(fit.data)[1].state
    with entered(state), torch.no_grad():
        if unconstrained().keys() != trained.keys():
            return None
        for name, p in unconstrained().items():
            p.copy_(trained[name])
    begun = clock(state.device)
    runner.run(*fit.data, steps=TIMED)  # the first steps are dearer: they are recorded
    each, begun = (clock(state.device) - begun) / TIMED, clock(state.device)
    if 4 * TIMED * each < seconds:
        runner.run(*fit.data, steps=TIMED)
        each = (clock(state.device) - begun) / TIMED
    steps = min(max(LEAST, len(fit.losses)), int(seconds / max(each, 1e-6)))
    if steps < FEWEST:
        return None
    for stage, share in enumerate(SHARES):
        for group in runner._steps.optimiser.param_groups:
            group["lr"] = lr * ANNEAL**stage
        found = runner.run(*fit.data, steps=int(share * steps))
    return found, steps


def elbo_difference(new: Fit, old: Fit, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """(ELBO(new) - ELBO(old), its Monte Carlo error) in nats, from draws that share their noise."""

    def weights(fit: Fit) -> torch.Tensor:
        with reading(fit.state, seed):
            return draw(lambda: log_weight(pair_of(fit), old.plan.recipe), draws).double().cpu()

    d = weights(new) - weights(old)
    return d.mean().item(), (d.std() / draws**0.5).item()
