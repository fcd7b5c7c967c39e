"""Pairs whose ELBO is known exactly, for the question whether an estimator is unbiased; by theme in `_zoo_*`."""

from typing import NamedTuple

from tests.cases.elbo.coins import COINS
from tests.cases.elbo.counts import COUNTED
from tests.cases.elbo.expectations import Case
from tests.cases.elbo.normals import MOVING, NORMALS
from tests.cases.elbo.plates import PLATES
from tests.cases.elbo.rows import COUPLED, ROWS

ZOO: dict[str, Case] = COINS | COUNTED | NORMALS | ROWS | PLATES | COUPLED


class Refused(NamedTuple):
    """A pair, an override or None, and the site that the error must name."""

    case: Case
    plan: dict[str, str] | None
    site: str


REFUSED = {
    "learnt support, score": Refused(MOVING["learnt support, smooth"], {"z": "score"}, "z"),
    "learnt support, a step": Refused(MOVING["learnt support, a step"], None, "z"),
    "learnt support, a step, score": Refused(MOVING["learnt support, a step"], {"z": "score"}, "z"),
    "coins, centred, enumerate": Refused(COUPLED["coins, centred"], {"k": "enumerate"}, "k"),
    "coins, neighbours, enumerate": Refused(COUPLED["coins, neighbours"], {"k": "enumerate"}, "k"),
    "count, pathwise": Refused(COUNTED["poisson"], {"n": "pathwise"}, "n"),
    "count, enumerate": Refused(COUNTED["poisson"], {"n": "enumerate"}, "n"),
    "added up outside, enumerate": Refused(ROWS["coins added up outside"], {"k": "enumerate"}, "k"),
}
