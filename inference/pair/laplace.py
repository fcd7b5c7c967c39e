"""Completes a fit of Pyro's AutoLaplaceApproximation: the normal distribution around the mode that the run found.

q(u) = N(u*, H^-1),   H the Hessian of -log p(data, u) at the mode u*, in unconstrained space
"""

from contextlib import nullcontext

import torch
from pyro.infer.autoguide import AutoLaplaceApproximation

from .batches import Rows, Scaled
from .pair import Pair


def completed(pair: Pair, warnings: list[str], rows: Rows | None = None) -> Pair:
    """The pair with the normal distribution in the place of an AutoLaplaceApproximation, which draws the mode alone.

    Pairs with other guides come back as they are; so does this one, with a warning, where there is no such normal.
    rows: of the data, where steps take batches of them: those of a window stand for all.
    """
    if not isinstance(pair.guide, AutoLaplaceApproximation):
        return pair
    try:
        with torch.enable_grad(), nullcontext() if rows is None else Scaled(rows.plates, rows.in_all / rows.n):
            normal = pair.guide.laplace_approximation(*pair.data)
    except (RuntimeError, ValueError) as error:
        warnings.append(
            f"AutoLaplaceApproximation: the Hessian at the end of the run is not positive definite "
            f"({str(error).splitlines()[0][:120]}), so there is no normal distribution around it, and all draws of the "
            f"fit are its one point. Run longer, give each latent a proper prior, or take AutoMultivariateNormal"
        )
        return pair
    return pair._replace(guide=normal)
