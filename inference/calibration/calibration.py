"""The result of simulation-based calibration: ranks, and what they say of each latent.

    z_s = Phi^-1((r_s + 1/2) / (L + 1))     standard normal where the ranks are uniform

The mean of z is how many posterior sds the draws lie below the truth; the distance between its deciles, how
much wider the posterior is than the draws. Both are sizes, for words; the test is the exact one of `uniformity.py`.
"""

import dataclasses
import functools
import math

import pandas as pd
import torch

from ..distributions.summaries import quantiles
from ..distributions.uniformity import p_value
from .ranks import LIKELIHOOD, PRIOR

LEVEL = 0.001  # of the joint p-value, below which the ranks are not uniform: one false alarm in 1,000 sound pairs
UNCLEAR = 0.05  # of the joint p-value, below which more simulations should decide
SHOWN = 12  # rows of the table that are printed
TENTHS, EDGE = 2.563, 1e-3  # between the first and the last decile of a standard normal; the least that is divided by
NOISE = 0.89  # standard error of the log of that distance, times the root of the number of values
SEEN = 2.0  # standard errors at which a size is put into words


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Calibration:
    """Ranks of the true latents among posterior draws. `credo.calibrate` returns it.

    ranks: a row for each simulated data set, a column for each scalar latent, the log likelihood and the log prior;
        whole numbers from 0 to `draws`.
    draws: of each posterior. method: how each data set was fitted. seed: of everything that was drawn.
    notes: what the user must know, fits that failed for example.
    `credo.plots.ranks` draws the picture.

    >>> import credo, torch
    >>> pair = credo.load("coin_toss")
    >>> found = credo.calibrate(pair.model, "full_rank", torch.ones(7), simulations=50)
    >>> found.ranks.shape, found.calibrated
    ((50, 3), True)
    """

    ranks: pd.DataFrame
    draws: int
    method: str
    notes: tuple[str, ...] = ()
    seed: int = 0

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """A row for each scalar, the most suspicious first.

        p_value: of uniform ranks.
        adjusted: for the number of rows (Holm 1979): an adjusted value below 0.001 in any row has at most this
            probability if all ranks are uniform.
        shift: by how many posterior sds the draws lie above the truth.
        sd_ratio: the sd of the draws over that of the posterior.
        reading: what is wrong, in words; empty where nothing is.
        """
        rows = {name: self._row(name) for name in self.ranks.columns}
        table = pd.DataFrame.from_dict(rows, orient="index").sort_values("p_value", kind="stable")
        left = range(len(table), 0, -1)
        adjusted = [min(1.0, k * p) for k, p in zip(left, table["p_value"], strict=True)]
        table.insert(1, "adjusted", pd.Series(adjusted, table.index).cummax())
        table["reading"] = [
            reading if adjusted < UNCLEAR else ""
            for reading, adjusted in zip(table["reading"], table["adjusted"], strict=True)
        ]
        table.index.name = "site"
        return table

    @property
    def p_values(self) -> pd.Series:
        """The p-value of uniform ranks, for each scalar."""
        return self.table["p_value"].reindex(self.ranks.columns)

    @property
    def p_value(self) -> float:
        """The probability, at most, that sound fits deviate as much in any scalar: the least adjusted p-value."""
        return float(self.table["adjusted"].iloc[0])

    @property
    def calibrated(self) -> bool:
        """Whether no misfit was found: the joint p-value is at least 0.001."""
        return self.p_value >= LEVEL

    @property
    def words(self) -> str:
        """The verdict in one line."""
        worst = self.table.iloc[0]
        where = f"{self.table.index[0]}: {worst['reading']} (p = {self.p_value:.2g} over all {len(self.table)} rows)"
        S = len(self.ranks)
        if not self.calibrated:
            return f"not calibrated: {where}"
        if self.p_value < UNCLEAR:
            return f"unclear: {where}; simulations={4 * S} would tell"
        return (
            f"calibrated, as far as {S} simulations can tell (p = {self.p_value:.2g} over all {len(self.table)} rows)"
        )

    def __repr__(self) -> str:
        shown = self.table.head(SHOWN).to_string(float_format=lambda value: f"{value:.3g}")
        more = len(self.table) - SHOWN
        rest = [f"... {more} more rows in .table"] if more > 0 else []
        return "\n".join([self._line, shown, *rest, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>note: {note}</p>" for note in self.notes)
        return f"<p>{self._line}</p>{self.table.head(SHOWN).to_html(float_format='{:.3g}'.format)}{notes}"

    @property
    def _line(self) -> str:
        return f"Calibration: {self.words}; {len(self.ranks)} simulations, {self.draws} draws each, {self.method}"

    def _row(self, name: str) -> dict[str, float | str]:
        ranks = torch.tensor(self.ranks[name].to_numpy())
        z = math.sqrt(2) * torch.erfinv(2 * (ranks.double() + 0.5) / (self.draws + 1) - 1)
        low, high = quantiles(z, (0.1, 0.9))  # which ranks of 0 and L do not touch
        shift, ratio = -z.mean().item(), TENTHS / max((high - low).item(), EDGE)
        reading = _reading(name, shift, ratio, len(ranks))
        return {"p_value": p_value(ranks, self.draws), "shift": shift, "sd_ratio": ratio, "reading": reading}


def _reading(name: str, shift: float, ratio: float, S: int) -> str:
    """What is wrong in words: the mean or the sd, whichever is off by more standard errors."""
    by_shift, by_ratio = abs(shift) * math.sqrt(S), abs(math.log(ratio)) * math.sqrt(S) / NOISE
    if max(by_shift, by_ratio) < SEEN:
        return "draws of another shape"
    if by_shift >= by_ratio:
        if name == LIKELIHOOD:
            return f"draws fit the data {'better' if shift > 0 else 'worse'} than the truth"
        if name == PRIOR:
            return f"draws are {'more' if shift > 0 else 'less'} probable before the data than the truth"
        return f"draws {abs(shift):.2g} sds too {'high' if shift > 0 else 'low'}"
    size = f"{1 - ratio:.0%} too small" if ratio < 1 else f"{ratio - 1:.0%} too large"
    return f"sd {size}".replace("%", " %")
