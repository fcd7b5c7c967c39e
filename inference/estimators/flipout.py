"""Flipout: the noise of a Normal weight gets random signs for each row (see `pair/local_reparam`).

It is unbiased where "local" is, and keeps all places of a row together.

Source: Wen et al. 2018 (arXiv:1803.04386, eq. 4).
"""

from collections.abc import Mapping

from .estimator import ANALYTIC_KL, Choice, Estimator, Findings
from .local import enter_as, is_normal, per_row
from .recipe import Recipe


def why_not(seen: Findings) -> dict[str, str | None]:
    """{site: None if flipout is unbiased, else why not}."""
    return per_row(seen, "flipout")


def because(name: str, seen: Findings, options: Mapping[str, str | None]) -> str:
    return "a weight of one layer: its noise gets random signs for each row, so that rows do not share it"


def enter(recipe: Recipe, chosen: Choice) -> Recipe:
    """The layers of these weights get noise with signs for each row."""
    return enter_as("flipout", recipe, chosen)


ESTIMATOR = Estimator("flipout", (ANALYTIC_KL,), why_not, because, enter, along_draw=True, comes_to_mind=is_normal)
