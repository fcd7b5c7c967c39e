"""The latents of new rows, from a guide that computes them from the data of the rows.

z* ~ q(z* | x*, theta),   theta ~ q(theta)
"""

from typing import Any

import torch
from pyro import poutine

from ..inputs.call import by_name
from ..inputs.draws import draws_and_data
from ..pair.backward import draw_summed
from ..pair.batches import rows_of
from ..pair.pair import Summed
from ..posterior.approximation import Approximation, pair_of
from ..posterior.local_latents import sources
from ..posterior.prediction import kept_latents
from ..posterior.row_sites import find_row_sites
from ..posterior.sample import Values
from ..runtime.held import HeldSites
from ..runtime.sites import latent, plates, plates_of_rows
from ..runtime.state import reading
from ..runtime.vectorise import draw
from .predict import new_arguments

OPTIONS = ("n", "seed")


def latents(fit: Approximation, *new: Any, n: int | None = None, seed: int = 0, **named: Any) -> Values:
    """q(z* | x*): n joint draws of the latents of new rows, and of those that all rows share, {site: (n, *shape)}.

    Finite latents of rows that were summed out are drawn given the new data and the others, exactly; where a finite
    latent that all rows share was summed out, they are left out: the new data alone do not tell it.
    new: the model's arguments, all that the guide reads, as for `credo.fit`; named: arguments by name. n: the number
    of draws, in the first place or by name; None: 1,000. seed: of the draws.
    Raises ValueError for a guide without latents of rows that it has not seen: only one that computes them from the
    data of the rows has them, such as guide="amortised".
    """
    (n, new) = draws_and_data("latents", new, n, fitted=fit.data)
    if not new and not named:
        raise ValueError(
            "latents: no data are given; pass those of the rows, fit.latents(n, x); fit.sample(n) has the latents of "
            "the rows of the fit"
        )
    values, pair = new_arguments(fit, by_name(fit.model, new, named, OPTIONS)), pair_of(fit)
    with reading(fit.state, seed), torch.no_grad():
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
        found = sources(pair, values)
        inside = find_row_sites(pair, guide, model).inside
        if lost := sorted(name for name in latent(guide) if name in inside - found.computed):
            raise ValueError(
                f"site {lost[0]!r}: the guide has no draw of it at rows that it has not seen; "
                f"credo.fit(model, 'amortised', ...) computes latents from the data of their row, fit.sample(rows=...) "
                f"reads those of the fit, and fit.predict draws new ones from the model"
            )

        finite = _finite_latents_of_rows(fit, model)

        def one() -> Values:
            drawn = poutine.trace(HeldSites(kept_latents(pair, found))(pair.guide)).get_trace(*values)
            own = {name: site["value"] for name, site in latent(drawn).items()}
            return own if finite is None else own | draw_summed(fit.model, drawn, values, finite)

        return draw(one, n)


def _finite_latents_of_rows(fit: Approximation, model: poutine.Trace) -> Summed | None:
    """The finite latents that were summed out, if each stands in a plate over the rows. model: a trace on the data."""
    if fit.summed is None:
        return None
    over, nodes = plates_of_rows(model, rows_of(fit.data)[1]), latent(model)
    return fit.summed if all(plates(nodes[name]) & over for name in fit.summed.sites) else None
