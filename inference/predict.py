"""The posterior predictive: what the model expects to see, averaged over what the guide believes.

p(y* | x*, data) = E_q[p(y* | x*, z)],   estimated by draws z ~ q(z), y* ~ p(y* | x*, z)
"""

from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine

from .arguments import argument_names, tensors
from .draws import draw
from .scope import entered
from .sites import Site, latent

if TYPE_CHECKING:
    from .fit import Fit


def predict(fit: "Fit", n: int, *new: Any, seed: int = 0) -> dict[str, torch.Tensor]:
    """n draws of the observed sites: {site: shape (n, *shape of the site)}, one row for each row of the new data.

    new: the model's arguments, as for `credo.fit`; those left out at the end (what is to be predicted) are None.
        Nothing at all: the data of the fit, whose observations are drawn anew.
    Raises ValueError for data that `credo.fit` would refuse, and for a plate that is subsampled.
    """
    if n < 1:
        raise ValueError(f"n: got {n}, wanted at least one draw")
    tensor = next(
        (v for v in (*fit.params.values(), *fit.data) if isinstance(v, torch.Tensor) and v.is_floating_point()),
        None,
    )
    dtype, device = (tensor.dtype, tensor.device) if tensor is not None else (torch.float32, torch.device("cpu"))
    values = tensors(fit.model, new, dtype, device) if new else fit.data
    missing = len(fit.data) - len(values)
    values += (None,) * missing if missing > 0 and len(argument_names(fit.model, len(fit.data))) else ()

    def one() -> dict[str, torch.Tensor]:
        guide = poutine.trace(fit.guide).get_trace(*values)
        model = poutine.trace(poutine.uncondition(poutine.replay(fit.model, trace=guide))).get_trace(*values)
        for name, site in latent(model).items():
            _rows_are_whole(name, site)
        return {name: site["value"] for name, site in latent(model).items() if name not in guide.nodes}

    with entered(fit.state, seed=seed):
        return draw(one, n)


def _rows_are_whole(name: str, site: Site) -> None:
    for plate in site["cond_indep_stack"]:
        if plate.full_size is not None and plate.full_size > plate.size:
            raise ValueError(
                f"site {name!r}: plate {plate.name!r} is subsampled to {plate.size} of {plate.full_size} rows, so a "
                f"prediction would lack rows; make subsample_size an argument of the pair and predict without it"
            )
