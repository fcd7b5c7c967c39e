"""A run meets its data: parameters are made, the pair is checked, and what the loop needs to know is found out."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..objective.elbo import log_weight
from ..pair.batches import Rows, batch
from ..pair.pair import Pair, Summed
from ..planning.choose import make_plan
from ..planning.legal import fullest
from ..planning.plan import Plan
from ..planning.race import how_many
from ..preflight.check import check
from ..preflight.rows import find_rows
from ..runtime.arguments import argument_names, tensors
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from ..runtime.sites import latent, observed, plates
from ..runtime.state import State, entered, new_state
from ..runtime.vectorise import can_vectorise

WARMUP = 500  # steps, where latents outnumber the observations and would settle on the prior before they have a say


class Prepared(NamedTuple):
    """What a run found out about its pair and data."""

    state: State
    dtype: torch.dtype
    plan: Plan
    vectorised: bool  # whether draws of the pair can be made at once under vmap
    particles: int
    rows: Rows | None  # how the data is cut into batches
    warmup: int  # steps
    latents: int  # numbers, for the whole data set
    summed: Summed | None  # latents that are summed out of the model


class InDouble(Exception):
    """The model turned out to work in double precision."""


def prepare(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    signature: Callable[..., Any],
    data: tuple[Any, ...],
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    overrides: Mapping[str, str] | Plan | None,
    force: bool,
    particles: int | None,
    batch_size: int | None,
) -> Prepared:
    """Meet the data in this precision. signature: whose argument names the data has.

    Raises ValueError for a mistake in the pair or its data, InDouble if single precision was asked for in vain.
    """
    values = tensors(signature, data, dtype, device)
    names = argument_names(signature, len(values))
    state = new_state((model, guide, data), seed, device)
    with entered(state):
        pair = Pair(model, guide, values)
        try:
            q, summed = check(model, guide, values, names)
            pair = pair._replace(summed=summed)
        except RuntimeError as error:
            if dtype != torch.float64 and "dtype" in str(error) and "ouble" in str(error):
                raise InDouble from error
            raise
        drawn = {getattr(site["value"], "dtype", None) for site in latent(q).values()}
        if dtype != torch.float64 and torch.float64 in drawn:
            raise InDouble
        if not unconstrained():
            raise ValueError("the pair has no parameters to train; write them with pyro.param in the guide")
        rows = None if batch_size is None else find_rows(pair, batch_size, names)
        if rows is not None and rows.size < rows.n:
            pair = batch(pair, rows, torch.arange(rows.size))
            q = poutine.trace(pair.guide).get_trace(*pair.data)
        else:
            rows = None
        with noise(seed):  # looking costs no randomness of the run: a plan given leads to the same steps
            vectorised = can_vectorise(lambda: log_weight(pair))
            plan = make_plan(pair, q if vectorised else fullest(pair, q), vectorised, overrides, force)
            vectorised = vectorised and can_vectorise(lambda: log_weight(pair, plan.recipe, True))
            if particles is None:
                particles = plan.particles or how_many(pair, plan, vectorised)
        p = poutine.trace(poutine.replay(model, trace=q)).get_trace(*pair.data)
        latents = _numbers({name: site for name, site in latent(p).items() if name in q.nodes}, rows)
        crowded = latents > _numbers(observed(p), rows)
    return Prepared(state, dtype, plan, vectorised, particles, rows, WARMUP if crowded else 0, latents, summed)


def _numbers(sites: Mapping[str, Any], rows: Rows | None) -> int:
    """How many numbers the sites hold, those in plates over rows counted for all rows."""

    def times(site: Any) -> float:
        return rows.n / rows.size if rows is not None and plates(site) & rows.plates else 1

    return round(sum(site["value"].numel() * times(site) for site in sites.values()))
