"""The posterior predictive: what the model expects to see, averaged over what the guide believes.

p(y* | x*, data) = E_q[p(y* | x*, z)],   estimated by draws z ~ q(z), y* ~ p(y* | x*, z)
"""

from typing import Any

import torch
from pyro import poutine

from ..runtime.arguments import tensors, to_predict
from ..runtime.sites import latent, refuse_subsampled
from ..runtime.state import reading, refuse_unknown
from ..runtime.vectorise import draw
from .approximation import Approximation


def predict(fit: Approximation, n: int, *new: Any, seed: int = 0, prior: bool = False) -> dict[str, torch.Tensor]:
    """n draws of the observed sites: {site: shape (n, *shape of the site)}, one row for each row of the new data.

    new: the model's arguments, as for `credo.fit`; those left out at the end (what is to be predicted) are None.
        Nothing at all: the data of the fit, whose observations are drawn anew. Columns of a table go by name.
    prior: the latents are drawn from the model's own prior, with the trained parameters, not from the guide; they come
        along too. So a trained decoder makes up new data.
    Latents that were summed out of the model are drawn from it given the others, as those of a new row are.
    Networks are in evaluation mode. Deterministic sites of the model come along.
    Raises ValueError for data that `credo.fit` would refuse, and for a plate that is subsampled.
    """
    if n < 1:
        raise ValueError(f"n: got {n}, wanted at least one draw")
    values = to_predict(new_arguments(fit, new), fit.data)

    def one() -> dict[str, torch.Tensor]:
        guide = poutine.Trace() if prior else poutine.trace(fit.guide).get_trace(*values)
        model = poutine.trace(poutine.uncondition(poutine.replay(fit.model, trace=guide))).get_trace(*values)
        refuse_subsampled(latent(model))
        return {name: site["value"] for name, site in latent(model).items() if name not in guide.nodes}

    with reading(fit.state, seed):
        return draw(one, n)


def new_arguments(fit: Approximation, new: tuple[Any, ...]) -> tuple[Any, ...]:
    """New data as the fit takes it: on its device, in its precision, tables in its order of columns.

    Nothing: the data of the fit. Raises ValueError for a network that the run has not met.
    """
    refuse_unknown(fit.state, new)
    tensor = next(
        (v for v in (*fit.params.values(), *fit.data) if isinstance(v, torch.Tensor) and v.is_floating_point()),
        None,
    )
    dtype, device = (tensor.dtype, tensor.device) if tensor is not None else (torch.float32, torch.device("cpu"))
    return tensors(fit.model, new, dtype, device, fit.columns) if new else fit.data
