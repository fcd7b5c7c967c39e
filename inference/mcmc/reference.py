"""`credo.reference`: draws of a posterior by NUTS, to compare fits with where no closed form exists.

u ~ p(z(u) | data) |dz/du|      u unconstrained; Pyro's No-U-Turn sampler (Hoffman and Gelman 2014)
"""

import sys
import warnings
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from ..gaussian.density import Density, prepared
from ..pair.pair import Program
from ..runtime.arguments import whole_number
from ..runtime.call import by_name
from ..runtime.defaults import choose_device, default_dtype
from ..runtime.generators import LARGEST_SEED
from ..runtime.state import entered
from .nuts import CHECKS, Potential, agrees, captured_potential, chain, potential_of, starting_points
from .result import Reference, UnreliableReference

FEWEST = 4  # draws of each chain that the diagnostics need
SHOWN = 25  # transitions between two updates of the progress bar


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
    chains: run in turns in this process, from starting points far apart, each second one minus the one before.
    seed: of the starting points and all draws.
    accept: acceptance probability for which the step size is adapted; nearer to 1 is slower and safer.
    device: None means the accelerator (CUDA) if there is one, which pays for large data only: transitions run one after
        another.
    Returns `Reference`; its draws have shape (chains, draws, *shape of the site). Ctrl-C returns the draws so far, with
    a warning if they are unreliable.

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
        result = _run(found, draws, warmup, chains, accept, seed, progress)
    if result.problems and not result.stopped.startswith("interrupted"):
        raise UnreliableReference(result)
    if result.problems:
        warnings.warn(f"{result.stopped}: {'; '.join(result.problems)}", stacklevel=2)
    return result


def _run(density: Density, draws: int, warmup: int, chains: int, accept: float, seed: int, progress: bool) -> Reference:
    starts, eager = starting_points(density, chains), potential_of(density)
    potential = captured_potential(density)
    if potential is not None and not agrees(density, potential, starts):
        potential = None
    sampled = _sampled(starts, potential or eager, draws, warmup, accept, progress)
    if potential is not None:
        visited = sampled.u.flatten(0, 1)
        visited = visited[:: max(1, len(visited) // CHECKS)]
        beyond = 2 * visited - visited.mean(0)  # a recording that is wrong there could have kept the chains away
        if not agrees(density, potential, torch.cat([visited, beyond])):
            sampled = _sampled(starts, eager, draws, warmup, accept, progress)
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
    )


class _Sampled(NamedTuple):
    u: torch.Tensor  # (chains, draws, D)
    divergences: tuple[int, ...]
    stopped: str


def _sampled(
    starts: torch.Tensor, potential: Potential, draws: int, warmup: int, accept: float, progress: bool
) -> _Sampled:
    """Runs the chains in turns, so that each has as many draws when Ctrl-C interrupts them."""
    runs = [chain(start, potential, warmup, accept) for start in starts]
    kept: list[list[torch.Tensor]] = [[] for _ in runs]
    divergences, stopped = [0] * len(runs), "all asked for"
    shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    with tqdm(total=len(runs) * (warmup + draws), disable=not shown, unit=" transitions", leave=False) as bar:
        try:
            for t in range(warmup + draws):
                for c, run in enumerate(runs):
                    u, divergences[c] = next(run)
                    if t >= warmup:
                        kept[c].append(u)
                    bar.update()
                if t % SHOWN == 0:
                    words = f"{t - warmup:,} draws of {len(runs)} chains, {sum(divergences)} divergences"
                    bar.set_postfix_str("warming up" if t < warmup else words)
        except KeyboardInterrupt:
            stopped = f"interrupted after {min(map(len, kept)):,} draws of each chain (Ctrl-C)"
            if min(map(len, kept)) < FEWEST:
                raise
    n = min(map(len, kept))
    return _Sampled(
        torch.stack([torch.stack(us[:n]) for us in kept]),
        tuple(divergences),
        stopped,
    )
