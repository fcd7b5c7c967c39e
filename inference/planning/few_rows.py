"""The rows on which a plan is made: some of a batch, where the batch is heavy. A plan runs its pair hundreds of times.

What is legal for a latent does not depend on the number of rows: `preflight/rows.py` has seen the pair on several.
"""

import torch

from ..objective.elbo import log_weight
from ..pair.batches import Rows, batch
from ..pair.pair import Pair
from ..pair.work import work
from ..runtime.generators import noise
from ..runtime.probes import at_a_draw

FEW, HEAVY = 16, 5000.0  # rows; microseconds of arithmetic of one draw, counted


def few_rows(whole: Pair, part: Pair, rows: Rows) -> Pair | None:
    """The pair on FEW rows at random, if one draw on a batch counts more than HEAVY microseconds; else None.

    whole: the pair on all data. part: on one batch. It takes no random numbers of the run.
    """
    if rows.size <= FEW:
        return None
    with noise(0), torch.no_grad():
        counted = at_a_draw(lambda _: work(lambda: log_weight(part), has_run=True))
        return batch(whole, rows, torch.randperm(rows.n)[:FEW]) if counted.arithmetic > HEAVY else None
