"""One-flip marginalisation: sites of finite units, each summed over given all the others.

    grad E_q[cost] = sum_i sum_k grad q_i(k) E_q[R(z_i = k, the rest as drawn)]     (Titsias and Lazaro-Gredilla 2015)

One run for each other value of each unit. Where the rows of a plate do not look at each other, one run flips a unit in
all of them. What the guide draws from a distribution that depends on the site is drawn anew for every flip.
"""

from collections.abc import Callable, Mapping

import torch

from ..pair.costs import WEIGHT, Key, Run
from ..runtime.vectorise import each
from .score import depth, moved, trimmed

Evaluate = Callable[[dict[str, torch.Tensor]], Run]  # of the draws that are held


def flips(
    evaluate: Evaluate,
    drawn: Run,
    reach: Mapping[str, list[Key]],
    redrawn: Mapping[str, frozenset[str]],
    vectorised: bool,
    kl_weight: float | torch.Tensor,
    lead: int,
) -> dict[str, torch.Tensor]:
    """{site: a scalar whose gradient is that of -ELBO through its probabilities}. drawn: one run of the pair.

    reach: {site: the costs that its draw moves}. redrawn: {site: the draws of the guide that depend on it}.
    lead: 1 if the run is one of several combinations (`on_grid`), else 0.
    """
    found = {}
    for name, keys in reach.items():
        if not keys:
            continue
        values, probability = drawn.neighbours[name]
        if lead:
            values, probability = values.movedim(1, 0), probability.movedim(1, 0)
        held = {k: v.detach() for k, v in drawn.z.items() if k not in redrawn[name] and k != name}

        def cost(z: torch.Tensor, name: str = name, keys: list[Key] = keys, held: dict = held) -> torch.Tensor:
            return moved(evaluate({**held, name: z}), keys, drawn.dims[WEIGHT, name], kl_weight, lead)

        with torch.no_grad():
            costs = each(cost, torch.cat([drawn.z[name][None], values]), vectorised)
        deep = depth(drawn.dims[WEIGHT, name])
        gained = costs[1:] - costs[:1]
        found[name] = (trimmed(probability, 1 + lead, deep) * gained).sum(dtype=torch.float64)
    return found
