"""`credo.reference`: draws of a posterior by NUTS, to compare fits with where no closed form exists.

u ~ p(z(u) | data) |dz/du|      u unconstrained; the No-U-Turn sampler (Hoffman and Gelman 2014)

dispersed points -> ascents and a fitted normal -> warm-up -> looks at the first draws -> the other draws
"""

import sys
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..gaussian.density import Density, prepared
from ..inputs.arguments import arguments, whole_number
from ..inputs.call import by_name
from ..pair.pair import Program
from ..posterior.source import Source
from ..runtime.defaults import CPU, choose_device, default_dtype
from ..runtime.generators import LARGEST_SEED
from ..runtime.state import entered, snapshot
from .chains import Chain, begin, sampling, together, warm_up
from .looks import fails, looks, stuck
from .potential import CHECKS, Scores, agrees, recorded
from .result import Reference
from .starts import Starts, starts
from .unreliable import UnreliableReference

FEWEST = 4  # draws of each chain that the diagnostics need
SHOWN = 100  # transitions between two updates of the words beside the progress bar


def reference(
    model: Program,
    *data: Any,
    draws: int = 1000,
    warmup: int = 500,
    chains: int = 4,
    accept: float = 0.8,
    seed: int = 0,
    device: str | torch.device | None = "cpu",
    progress: bool = True,
    **named: Any,
) -> Reference:
    """Draws z ~ p(z | data) by NUTS (Hoffman and Gelman 2014), with R-hat and effective sample sizes checked.

    model, data, named: as for `credo.fit`; in double precision if the model can work in it. Finite latents are summed
        out, so the model must broadcast over their values; they are drawn afterwards.
    draws, warmup: transitions of each chain that are kept, and transitions before them that adapt the step size and the
        mass matrix.
    chains: run at a time in this process, their gradients taken together. They start at draws of normals that are
        fitted on the way up from dispersed points, one in each mode, with the mass matrix of the best normal.
    seed: of the starting points and all draws. progress: whether to show a progress bar.
    accept: acceptance probability for which the step size is adapted; nearer to 1 is slower and safer.
    device: None means the accelerator (CUDA) if there is one, which pays for large data only: transitions run one after
        another.
    Returns `Reference`; its draws have shape (chains, draws, *shape of the site). Ctrl-C returns the draws so far, with
    a warning if they are unreliable. A run ends after its warm-up, or after 10 %, 25 % or 50 % of its draws, at least
    100 of each chain, if divergences, R-hat or effective sample size show that it will be refused.

    Raises ValueError for a model that NUTS cannot sample (subsampled plates, supports that depend on latents,
    parameters without a prior, infinite discrete latents); `UnreliableReference`, with the draws in `.reference`, if
    R-hat > 1.01 or an effective sample size is below 400 for any scalar, or if more than 0.5 % of the transitions
    diverged.

    >>> import credo, torch
    >>> pair = credo.load("coin_toss")
    >>> found = credo.reference(pair.model, torch.tensor([1.0, 1.0, 0.0, 1.0]), draws=500, warmup=80, progress=False)
    >>> found.draws["p"].shape
    torch.Size([4, 500])
    >>> found.problems
    ()
    """
    draws, warmup, chains = (
        whole_number("draws", draws, 4),
        whole_number("warmup", warmup, 20),
        whole_number("chains", chains, 2),
    )
    if not 0 < accept < 1:
        raise ValueError(f"accept: got {accept}, wanted a probability above 0 and below 1")
    data = by_name(model, data, named, ("draws", "warmup", "chains", "accept", "seed", "device", "progress"))
    place, seed = choose_device(device), whole_number("seed", seed, 0, LARGEST_SEED)
    found, state, notices = prepared(model, data, place, seed)
    for notice in notices:
        warnings.warn(notice, stacklevel=2)
    with entered(state), default_dtype(found.first.dtype):
        drawn = _run(found, draws, warmup, chains, accept, seed, progress)
    given = arguments(model, data, found.first.dtype, CPU, gaps=None)  # the names of columns and labels
    data = tuple(v.cpu() if isinstance(v, torch.Tensor) else v for v in found.data)
    source = Source(
        model, data, given.columns, dict(given.codes), snapshot(state, device=CPU), found.summed, given.row_labels
    )
    result = replace(drawn, source=source)
    if result.problems and not result.stopped.startswith("interrupted"):
        raise UnreliableReference(result)
    if result.problems:
        warnings.warn(f"{result.stopped}: {'; '.join(result.problems)}", stacklevel=2)
    return result


def _run(density: Density, draws: int, warmup: int, chains: int, accept: float, seed: int, progress: bool) -> Reference:
    begin_at = starts(density, chains, seed)
    eager, scores = density.at_each, recorded(density, chains)
    if scores is not None and not agrees(density, scores, begin_at.us, chains):
        scores = None
    sampled = _sampled(begin_at, scores or eager, draws, warmup, accept, seed, progress)
    if scores is not None:
        visited = sampled.u.flatten(0, 1)
        visited = visited[:: max(1, len(visited) // CHECKS)]
        beyond = 2 * visited - visited.mean(0)  # a recording that is wrong there could have kept the chains away
        if not agrees(density, scores, torch.cat([visited, beyond]), chains):
            sampled = _sampled(begin_at, eager, draws, warmup, accept, seed, progress)
    determined = density.determined(sampled.u.flatten(0, 1))
    found = density.constrained(sampled.u) | {
        name: values.unflatten(0, sampled.u.shape[:2]) for name, values in determined.items()
    }
    return Reference(
        draws={name: found[name].detach().cpu() for name in density.values if name in found},
        deterministic={name: found[name].detach().cpu() for name in found if name not in density.values},
        divergences=sampled.divergences,
        stopped=sampled.stopped,
        seed=seed,
        finite={name: k for name, k in density.values.items() if k and name in found},
        stats=sampled.stats,
    )


class _Sampled(NamedTuple):
    u: torch.Tensor  # (chains, draws, D)
    divergences: tuple[int, ...]
    stopped: str
    stats: dict[str, torch.Tensor]  # (chains, draws) each


def _sampled(
    begin_at: Starts, scores: Scores, draws: int, warmup: int, accept: float, seed: int, progress: bool
) -> _Sampled:
    """Runs the chains. Ctrl-C keeps as many draws of each as all have; draws that fail already end the run."""
    chains, done, stopped = begin(begin_at, scores, seed), 0, "all asked for"
    total = len(chains) * (warmup + draws)
    shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    with tqdm(total=total, disable=not shown, unit=" transitions", leave=False) as bar:

        def tell() -> None:
            bar.update()
            if shown and bar.n % SHOWN == 0:
                words = f"{sum(c.divergences for c in chains)} divergences"
                bar.set_postfix_str("warming up" if bar.n < len(chains) * warmup else words)

        F = None
        try:
            F = warm_up(chains, begin_at, scores, warmup, accept, tell)
            if stuck(last := _draws(chains, begin_at), draws):
                stopped = f"stopped after the warm-up, at whose end chains did not move: its last {last.shape[1]} draws"
                return _Sampled(last, tuple(chain.divergences for chain in chains), stopped, _stats(chains))
            for chain in chains:
                chain.kept, chain.moves, chain.divergences = [], [], 0
            for n in looks(draws):
                together([sampling(chain, F, n - done, tell) for chain in chains], scores, begin_at.us)
                done = n
                if done < draws and fails(_draws(chains, begin_at), sum(c.divergences for c in chains), draws):
                    stopped = f"stopped after {done:,} of {draws:,} draws of each chain, which cannot become reliable"
                    break
        except KeyboardInterrupt:
            n = 0 if F is None else min(len(chain.kept) for chain in chains)
            stopped = f"interrupted after {n:,} draws of each chain (Ctrl-C)"
            if n < FEWEST:
                raise
    return _Sampled(_draws(chains, begin_at), tuple(chain.divergences for chain in chains), stopped, _stats(chains))


def _draws(chains: list[Chain], begin_at: Starts) -> torch.Tensor:
    """The draws that all chains have (chains, n, D)."""
    n = min(len(chain.kept) for chain in chains)
    kept = np.stack([np.stack(chain.kept[:n]) for chain in chains])
    return torch.tensor(kept, dtype=begin_at.us.dtype, device=begin_at.us.device)


def _stats(chains: list[Chain]) -> dict[str, torch.Tensor]:
    """What ArviZ wants to know of each draw, by its names for it, (chains, n) each."""
    n = min(len(chain.kept) for chain in chains)
    names = ("acceptance_rate", "diverging", "n_steps", "energy")
    return {name: torch.tensor([[move[i] for move in c.moves[:n]] for c in chains]) for i, name in enumerate(names)}
