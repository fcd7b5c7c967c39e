"""A posterior to hold fits against where no closed form exists: draws by NUTS, believed only if the chains agree.

u ~ p(z(u) | data) |dz/du|      u unconstrained; Pyro's No-U-Turn sampler (Hoffman and Gelman 2014)
"""

import sys
import warnings
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from ..pair.summed_out import Program
from ..runtime.arguments import argument_names, choose_device, tensors, whole_number
from ..runtime.precision import default_dtype
from ..runtime.state import State, entered, new_state, snapshot
from .nuts import CHECKS, Density, Target, captured_density, chain, same, starts, target
from .requirements import refuse_unsampleable
from .result import Reference, UnreliableReference

FEWEST = 4  # draws of each chain that can be looked at


SHOWN = 25  # transitions between two looks at the bar


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
) -> Reference:
    """Draws from p(z | data) by NUTS (Hoffman and Gelman 2014), believed only if the chains agree.

    model, data: as for `credo.fit`; in double precision where the model can work in it. Finite latents are summed out
        by Pyro, for which the model must broadcast, and drawn afterwards.
    draws, warmup: transitions of each chain that are kept, and that come before and adapt steps and mass matrix.
    chains: taken in turns in this process, from starts far apart, each second one at minus the one before.
    accept: the acceptance probability that step sizes are adapted to; nearer to 1 is slower and safer.
    device: None is CUDA if there is one, which pays for large data only: the steps come one after another.

    Ctrl-C returns the draws so far, with a warning if they are not to be believed.
    Raises ValueError for a model that a sampler cannot take (subsampled plates, supports that move, parameters without
    a prior, infinite discrete latents); `UnreliableReference`, with the draws in `.reference`, if R-hat > 1.01 or an
    effective sample size is below 400 for any scalar, or if more than 0.5 % of the transitions diverged.
    """
    draws, warmup, chains = (
        whole_number("draws", draws, 4),
        whole_number("warmup", warmup, 20),
        whole_number("chains", chains, 2),
    )
    if not 0 < accept < 1:
        raise ValueError(f"accept: got {accept}, wanted a probability between 0 and 1")
    where, seed = choose_device(device), whole_number("seed", seed, 0)
    try:
        found, state = _meet(model, data, torch.float64, where, seed)
    except RuntimeError:  # constants of the model in single precision
        found, state = _meet(model, data, torch.float32, where, seed)
    with entered(state), default_dtype(found.first.dtype):
        result = _run(found, draws, warmup, chains, accept, seed, progress)
    if result.problems and not result.stopped.startswith("interrupted"):
        raise UnreliableReference(result)
    if result.problems:
        warnings.warn(f"{result.stopped}: {'; '.join(result.problems)}", stacklevel=2)
    return result


def _meet(
    model: Program, data: tuple[Any, ...], dtype: torch.dtype, device: torch.device, seed: int
) -> tuple[Target, State]:
    """The posterior density of the model on its data, and the state to work in."""
    values = tensors(model, data, dtype, device)
    state = snapshot(new_state((model, data), seed, device), dtype)
    with entered(state), default_dtype(dtype):
        summed = refuse_unsampleable(model, values, argument_names(model, len(values)))
        return target(model, values, summed), state


def _run(target: Target, draws: int, warmup: int, chains: int, accept: float, seed: int, progress: bool) -> Reference:
    begun = starts(target, chains)
    density = captured_density(target)
    if density is not None and not same(target, density, begun):
        density = None
    sampled = _sampled(target, begun, density or target.eager, draws, warmup, accept, progress)
    if density is not None:
        visited = sampled.u.flatten(0, 1)
        visited = visited[:: max(1, len(visited) // CHECKS)]
        beyond = 2 * visited - visited.mean(0)  # where a recording that is wrong there would not let the chains go
        if not same(target, density, torch.cat([visited, beyond])):
            sampled = _sampled(target, begun, target.eager, draws, warmup, accept, progress)
    found = target.constrained(sampled.u) | sampled.finite
    return Reference(
        draws={name: found[name].detach().cpu() for name in target.values if name in found},
        divergences=sampled.divergences,
        stopped=sampled.stopped,
        seed=seed,
        finite={name: k for name, k in target.values.items() if k and name in found},
    )


class _Sampled(NamedTuple):
    u: torch.Tensor  # (chains, draws, D)
    finite: dict[str, torch.Tensor]  # {site: (chains, draws, *shape)}
    divergences: tuple[int, ...]
    stopped: str


def _sampled(
    target: Target, begun: torch.Tensor, density: Density, draws: int, warmup: int, accept: float, progress: bool
) -> _Sampled:
    """The chains in turns, so that Ctrl-C finds as many draws of each."""
    runs = [chain(start, density, warmup, accept) for start in begun]
    kept: list[list[torch.Tensor]] = [[] for _ in runs]
    finite: list[list[dict[str, torch.Tensor]]] = [[] for _ in runs]
    divergences, stopped = [0] * len(runs), "all asked for"
    shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    with tqdm(total=len(runs) * (warmup + draws), disable=not shown, unit=" transitions", leave=False) as bar:
        try:
            for t in range(warmup + draws):
                for c, run in enumerate(runs):
                    u, divergences[c] = next(run)
                    if t >= warmup:
                        finite[c].append(target.finite(u))
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
    names = finite[0][0]
    return _Sampled(
        torch.stack([torch.stack(us[:n]) for us in kept]),
        {name: torch.stack([torch.stack([z[name] for z in zs[:n]]) for zs in finite]) for name in names},
        tuple(divergences),
        stopped,
    )
