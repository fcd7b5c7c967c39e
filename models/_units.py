"""Numbers measured in the means and sds of the data that a run saw first, whatever their units."""

import functools

import pyro
import torch


def standardised(x: torch.Tensor) -> torch.Tensor:
    """(x - mean) / sd of the columns that a run saw first, in floating point.

    Raises ValueError for rows of another shape than those: one column would be spread over all.
    """
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    mean, sd = units("x", x, True)
    if x.shape[1:] != mean.shape:
        raise ValueError(
            f"x: got rows of shape {tuple(x.shape[1:])}, wanted {tuple(mean.shape)}, as in the fit; pass the same "
            f"columns in the same order"
        )
    return (x - mean) / sd


def units(name: str, rows: torch.Tensor, known: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, sd) of the columns of the data that a run saw first; new rows and batches are measured in these.

    The parameters `NAME.mean` and `NAME.sd` are constants: they need no gradient. known: False where there is nothing
    to compute them from; before any data they are 0 and 1.
    """
    if not known and f"{name}.mean" not in pyro.get_param_store():
        return rows.new_zeros(()), rows.new_ones(())
    found = []
    for part, compute in (("mean", mean_of), ("sd", sd_of)):
        value = pyro.param(f"{name}.{part}", functools.partial(compute, rows.detach()))
        if value.requires_grad and value.is_leaf:
            value.requires_grad_(False)
        found.append(value.detach())
    return found[0], found[1]


def mean_of(rows: torch.Tensor) -> torch.Tensor:
    """The mean of each column, summed in double precision: years and prices have few digits to lose."""
    return rows.double().mean(0).to(rows.dtype)


def sd_of(rows: torch.Tensor) -> torch.Tensor:
    """The sd of each column; 1 for a constant column, which no unit can change."""
    sd = rows.double().std(0, correction=0)
    return torch.where(sd > 1e-12 * rows.double().abs().amax(0), sd, 1.0).to(rows.dtype)


def as_numbers(y: torch.Tensor, n: int) -> torch.Tensor:
    """y in floating point. Raises ValueError unless it is one number for each of n rows."""
    if tuple(y.shape) != (n,):
        remedy = "; pass y[:, 0]" if tuple(y.shape) == (n, 1) else ""
        raise ValueError(f"y: got shape {tuple(y.shape)} for {n} rows, wanted ({n},): one number a row{remedy}")
    return y if y.is_floating_point() else y.to(torch.get_default_dtype())
