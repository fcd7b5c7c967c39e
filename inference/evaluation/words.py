"""Says in words how far the mean and the sd of a scalar are from those of the exact posterior.

    mean off:   |m - m'| / s' > .1 and beyond 4 Monte Carlo errors       m, s of the fit; m', s' exact, or of draws
    sd off:     |s / s' - 1| > .1 and beyond 4 Monte Carlo errors

A difference within the Monte Carlo error of a reference is no error of the fit.
"""

import math
from collections.abc import Mapping

import pandas as pd

LARGE = 0.1  # error of a mean in sds, or of an sd relative to the exact one, from which it is called one
SURE = 4  # Monte Carlo errors beyond which a difference is no accident
SHAPE = 0.1  # KL in nats of a marginal whose mean and sd agree
SHARE = 0.05  # total variation of a finite site
AGREES, NOISE = "agrees", "within Monte Carlo error"


def in_words(row: Mapping[str, float]) -> str:
    """What is off in a row of `credo.compare`: "mean 1.3 sds too high, sd 22 % too small"; "agrees" if nothing is.

    row: {column: number}; columns that do not apply may be missing or NaN. "mc error in sds" and "mc error of ratio"
    are the Monte Carlo errors of a reference.
    """
    error, ratio = row["error in sds"], row["sd ratio"]
    noise, noise_of_sd = (_known(row, name, 0.0) for name in ("mc error in sds", "mc error of ratio"))
    if math.isnan(error) or math.isnan(ratio):
        return "unknown: a mean or an sd is not finite"
    distance = _known(row, "total variation", math.nan)
    if not math.isnan(distance):  # of a finite site, whose mean is a code and whose sd follows from the shares
        return _decided(distance > SHARE, distance > SURE * noise * row["exact sd"], f"shares off by {distance:.2f}")
    found = [
        _decided(abs(error) > LARGE, abs(error) > SURE * noise, _mean(error)),
        _decided(
            abs(ratio - 1) > LARGE,
            abs(ratio - 1) > SURE * noise_of_sd,
            _sd(ratio, row["exact sd"]),
        ),
    ]
    said = [words for words in found if words not in (AGREES, NOISE)]
    if not said and NOISE not in found and _known(row, "kl", 0.0) > SHAPE:
        said = [f"another shape, KL {row['kl']:.2g} nats"]
    return ", ".join(said) or (NOISE if NOISE in found else AGREES)


def summary(table: pd.DataFrame, against: str) -> str:
    """One line for all rows: how many are off, and the farthest; or how close they are.

    against: what they are compared with, "the exact posterior".
    """
    verdicts = table["verdict"]
    off = ~verdicts.isin([AGREES, NOISE])
    if off.any():
        worst = farthest(table).index[0]
        if len(table) == 1:
            return f"{worst}: {verdicts[worst]}"
        return f"{off.sum():,} of {len(table):,} scalars are off; the farthest: {worst}: {verdicts[worst]}"
    means = table["error in sds"].abs().max()
    sds = (table["sd ratio"] - 1).abs().max()
    near = f"means within {means:.2g} sds, sds within {sds:.0%}".replace("%", " %")
    if "total variation" in table and table["total variation"].notna().all():
        near = f"shares within {table['total variation'].max():.2g}"
    noise = (
        f", {(verdicts == NOISE).sum():,} of them only by its Monte Carlo error" if (verdicts == NOISE).any() else ""
    )
    which = "1 scalar agrees" if len(table) == 1 else f"{len(table):,} scalars agree"
    return f"{which} with {against}{noise}: {near}"


def farthest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of how far they are off, those in words first."""
    sizes = pd.DataFrame(
        {
            "off": ~table["verdict"].isin([AGREES, NOISE]),
            "by": pd.concat([table["error in sds"].abs(), table["sd ratio"].map(_log)], axis=1).max(axis=1),
        }
    )
    order = sizes.reset_index(drop=True).sort_values(["off", "by"], ascending=False, kind="stable").index
    return table.iloc[order]


def _mean(error: float) -> str:
    way = "high" if error > 0 else "low"
    return f"mean {abs(error):.2g} sds too {way}" if math.isfinite(error) else f"mean too {way} of a point"


def _sd(ratio: float, exact: float) -> str:
    if exact == 0:
        return "sd is not 0"
    if ratio == 0:
        return "sd is 0: a point"
    if ratio > 2:
        return f"sd {ratio:.2g} times too large"
    return f"sd {abs(ratio - 1):.0%} too {'small' if ratio < 1 else 'large'}".replace("%", " %")


def _decided(large: bool, sure: bool, words: str) -> str:
    return AGREES if not large else words if sure else NOISE


def _log(ratio: float) -> float:
    return abs(math.log(ratio)) if 0 < ratio < math.inf else math.inf


def _known(row: Mapping[str, float], name: str, otherwise: float) -> float:
    value = row.get(name, otherwise)
    return otherwise if math.isnan(value) else value
