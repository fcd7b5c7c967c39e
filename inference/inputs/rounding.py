"""The digits that data lose in single precision, which keeps 7 of them: times in seconds since 1970, say."""

import numpy as np
import torch

FINE = 1e-3  # rounding errors above this share of the standard deviation are warned of
ROWS = 1_000_000  # of a column, at most, whose distinct values are counted


def digits_lost(name: str, value: torch.Tensor) -> str | None:
    """What the data of an argument lose in single precision, as a warning; None if it is nothing that matters.

    value: in the precision that it was given in, float64 or int64; columns of a matrix are looked at one by one.
    """
    if value.dtype not in (torch.float64, torch.int64) or value.numel() < 2 or value.layout is not torch.strided:
        return None
    columns = value.detach().reshape(len(value), -1) if value.dim() > 1 else value.detach().reshape(-1, 1)
    largest = columns.abs().amax(0).double()
    spacing = largest * torch.finfo(torch.float32).eps
    if not (largest > 2 / FINE).any():  # a cheap first test
        return None
    spread = columns.double().std(0)
    coarse = ((spacing > FINE * spread) & (spread > 0)).nonzero().flatten().tolist()
    for i in coarse:
        column = columns[:ROWS, i].cpu().numpy()
        before, after = len(np.unique(column)), len(np.unique(column.astype(np.float32)))
        error = np.abs(column - column.astype(np.float32).astype(np.float64)).max()
        if error > 0:
            place = f"{name}, column {i}" if columns.shape[1] > 1 else name
            return (
                f"{place}: single precision rounds these values by up to {error:.3g}, beside a standard deviation of "
                f"{spread[i].item():.3g}; {before - after:,} of {before:,} distinct values become equal to others. "
                f"Subtract a constant first (x - x.mean()), or work in double: torch.set_default_dtype(torch.float64)"
            )
    return None
