"""The summary of given rows: a row for each scalar of what all rows share, and of their latents."""

from typing import Any

import pandas as pd

from ..distributions.summaries import as_table
from ..inputs.arguments import number_of_draws
from ..posterior.approximation import Approximation
from ..posterior.coords import labels_of
from ..posterior.given_rows import draws_of_rows, given_rows
from ..posterior.marginals import means_and_sds


def row_summary(fit: Approximation, n: int, seed: int, rows: Any) -> pd.DataFrame:
    """A row for each scalar of the latents of these rows and of what all rows share; columns as `summary`.

    A scalar of a row is called by the row's own number or label: z[17]. rows: as for `Fit.sample`.
    """
    n = number_of_draws("summary", n)
    given = given_rows(fit, rows, seed)
    draws = draws_of_rows(fit, n, given, seed)
    found = {name: (v.double().mean(0), v.double().std(0, correction=int(n > 1))) for name, v in draws.items()}
    if given.part is not None:  # in closed form, where the guide has one
        found |= {name: moments for name, moments in means_and_sds(given.part, n, seed).items() if name in draws}
    columns = labels_of(fit)
    labels = {}
    for name, (mean, _) in found.items():
        each = list(columns.get(name) or [None] * mean.dim())
        if name in given.dims:
            each[given.dims[name]] = list(given.labels)
        labels[name] = each
    return as_table(found, draws, labels)
