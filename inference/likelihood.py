"""How probable the fit finds each row: the log predictive density, by importance sampling where rows have latents.

    log p(x_n | data) ~= log 1/K sum_k p(x_n | z_nk, w_k) p(z_nk | w_k) / q(z_nk | x_n, w_k),   w_k ~ q(w),  z_nk ~ q

w are the latents shared by all rows, z_n those of a row (Burda, Grosse and Salakhutdinov 2016, eq. 8). With no z it is
the log of the posterior predictive: minus the NLL of a classifier. The expectation lies below the true value, and
rises to it with K.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .arguments import argument_names
from .costs import DATA, GUIDE, PRIOR, Pair, run
from .draws import draw
from .minibatch import find_rows
from .predict import new_arguments
from .scope import reading

if TYPE_CHECKING:
    from .fit import Fit


class LogLikelihood(NamedTuple):
    """values: nats of each row, shape (N,). errors: their standard errors by Monte Carlo, shape (N,)."""

    values: torch.Tensor
    errors: torch.Tensor


def log_likelihood(fit: "Fit", n: int, *new: Any, seed: int = 0) -> LogLikelihood:
    """log p(row | data) in nats for each row, from n draws. new: the model's arguments, observations included.

    Nothing given: the rows of the fit. The error is that of the mean weight, by the delta method.
    Raises ValueError for n below 2, and for a pair without a plate over its rows.
    """
    if n < 2:
        raise ValueError(f"n: got {n}, wanted at least 2 draws")
    seen, pair = (Pair(fit.model, fit.guide, data) for data in (fit.data, new_arguments(fit, new)))
    with reading(fit.state, seed), torch.no_grad():
        rows = next(len(v) for v in fit.data if isinstance(v, torch.Tensor) and v.dim() > 0)
        plates = find_rows(seen, rows, argument_names(fit.model, len(fit.data))).plates

        def one() -> torch.Tensor:
            _, costs, where = run(pair)
            total = torch.zeros((), dtype=torch.float64)
            for (side, name), cost in costs.items():
                if where[side, name] & plates:
                    if cost.dim() != 1:
                        raise ValueError(
                            f"site {name!r}: its density has shape {tuple(cost.shape)}, wanted one for each row: "
                            f"declare what belongs to a row with .to_event()"
                        )
                    sign = {DATA: 1, PRIOR: 1, GUIDE: -1}[side]
                    total = total + sign * cost.double()
            return total

        log_weights = draw(one, n)  # (n, N)
    values = log_weights.logsumexp(0) - math.log(n)
    weights = (log_weights - values).exp()  # mean 1
    return LogLikelihood(values, weights.std(0) / math.sqrt(n))
