"""The posterior predictive: draws of the observations, averaged over the approximate posterior.

p(y* | x*, data) = E_q[p(y* | x*, z)],   estimated by draws z ~ q(z), y* ~ p(y* | x*, z)
"""

from functools import partial
from numbers import Number
from typing import Any

import torch
from pyro import poutine

from ..inputs.arguments import arguments, gaps_of, shown, to_predict
from ..inputs.call import argument_names, by_name
from ..inputs.draws import draws_and_data
from ..posterior.approximation import Approximation, dtype_of, pair_of
from ..posterior.explained import (
    naming_arguments,
    refuse_missing,
    refuse_one_row,
    refuse_other_kinds,
    refuse_other_lengths,
)
from ..posterior.finite_latents import finite_given, same_rows
from ..posterior.local_latents import Sources, sources
from ..posterior.marginals import model_trace
from ..posterior.prediction import draws_of_kept, one_prediction
from ..runtime.generators import noise
from ..runtime.sites import observed
from ..runtime.state import reading, refuse_unknown
from ..storage.absent import refuse_without_data
from .batched import memory, predictions
from .few_rows import on_few_rows
from .fresh_rows import with_rows
from .reduced import Reduce, Values
from .row_batches import RowBatches, cut

OPTIONS = ("n", "seed", "prior", "corrected", "rows", "batch", "reduce")


def predict(
    fit: Approximation,
    *new: Any,
    n: int | None = None,
    seed: int = 0,
    prior: bool = False,
    corrected: bool = False,
    rows: int | None = None,
    batch: int | None = None,
    reduce: str | Reduce | None = None,
    **named: Any,
) -> Values:
    """p(y* | x*, data) = E_q[p(y* | x*, z)]: n draws of the observed sites, {site: shape (n, *shape of the site)}.

    A draw has one row for each row of the new data. The deterministic sites of the model are returned too.
    fit: what `credo.fit`, `credo.exact` or `credo.reference` returned.
    new: the model's arguments, as for `credo.fit`; the observations, left out at the end, are None. If nothing is
        given, the observations of the fit are drawn anew. Columns of a table are matched by name, labels get the codes
        of the fit. named: arguments of the model by name.
    n: the number of draws, in the first place or by name: predict(fit, x), predict(fit, 100, x), predict(fit, x,
        n=100). A whole number in the first place is always n, unless n is given by name; if it is left out, 1,000.
    seed: of the draws. prior: draws the latents from the model's prior instead of the guide, with the trained
        parameters, and returns them too: a trained decoder generates new data. corrected: takes the latents from the
        weighted draws of `fit.corrected`, which are right where the guide is not.
    rows: with `prior=True`, how many rows to draw where the model reads nothing but their number from its data.
    batch: rows at once. All batches have the same draws of the latents, so deterministic sites do not depend on it; the
        noise of the observations is drawn batch by batch, so other batches have other noise.
    reduce: "mean" returns the mean of the draws, {site: shape of the site}; a function gets the draws (n, rows, ...) of
        a batch and returns a tensor with its rows first. With `batch` or `reduce`, little more memory is used than the
        result takes, and the draws of one batch for a function.
    Latents that all rows share come from the guide. Latents of the rows (in a plate over the rows, or with an entry for
        each row) belong to those rows: the guide's are kept if the new data begins with all rows of the fit. Other rows
        have latents of their own, from the guide where it computes them from the data of the rows (amortised), else
        from the model given the shared latents; these are returned too. A plate over groups keeps its groups; further
        ones, if it grows, are drawn from the model.
    A site that is one joint normal draw of all rows (a Gaussian process, observed or latent) is drawn at the new rows
        given its values at the rows of the fit; without new data they are these rows again, with noise of their own.
    Finite latents that were summed out are drawn given the data, and y* given them, at the rows of the fit. At other
        rows they are drawn given the observations that are passed, from their prior if none is, but y* never depends on
        a value that is passed for y. Networks are in evaluation mode.
    Raises ValueError for n below 1, for data that `credo.fit` refuses, for rows that the pair chooses itself by
    `subsample=`, for an index or a shape that the model cannot take, for other rows of one joint draw, and with `batch`
    for rows that depend on each other.
    Source: Gelman et al. 2013, eq. 1.4.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> fit = credo.fit(pair.model, pair.guide, flips, steps=300, seed=1, compile=False)
    >>> {site: draws.shape for site, draws in credo.predict(fit, 100, flips).items()}
    {'flips': torch.Size([100, 4])}
    >>> credo.predict(fit, 100, flips, batch=2, reduce="mean")["flips"].shape
    torch.Size([4])
    """
    if not hasattr(fit, "guide"):  # of a closed form or a reference, which have a method of their own
        asked = {"seed": seed, "batch": batch, "reduce": reduce} | ({"prior": True} if prior else {})
        asked |= ({"corrected": True} if corrected else {}) | ({} if rows is None else {"rows": rows})
        other: Any = fit
        found: Values = other.predict(*new, n=n, **asked, **named)
        return found
    (n, new), options = draws_and_data("predict", new, n, fitted=fit.data), memory(batch, reduce)
    fit = fit.reweighted if corrected else fit
    refuse_without_data(fit.data, "predict" if new or named or rows is not None else "rows")
    given = new_arguments(fit, by_name(fit.model, new, named, OPTIONS), predicted=True)
    if new or named:
        fit = on_few_rows(fit, given, lambda one, at: predict(one, *at, n=2, prior=prior))
    values, pair = to_predict(given, fit.data), pair_of(fit)
    names = argument_names(fit.model, len(values))
    trained = observed(model_trace(fit))
    with naming_arguments(fit, values), reading(fit.state, seed), torch.no_grad():
        with noise(seed):
            if rows is not None:
                values = with_rows(pair, values, given if new or named else (), rows, prior, names)
            where = Sources(values) if prior else sources(pair, values)
            refuse_missing(fit, values, lambda: list(one_prediction(pair, values, where).drawn.values()))
        own = fit.data if same_rows(values, fit.data) else None

        def finite(held: poutine.Trace, here: tuple[Any, ...], batches: RowBatches, at: slice) -> Values:
            assert fit.summed is not None
            data = own if own is None or len(batches.slices) < 2 else cut(own, batches.arguments, at)
            return finite_given(fit.model, fit.summed, data, held, here, trained.keys())

        latents = partial(draws_of_kept, fit, where)
        summed = None if prior or fit.summed is None or where.first else finite
        drawn = predictions(pair, values, where, n, seed, latents, options, names, summed)
    if not where.first:
        refuse_other_lengths(fit, values, trained, drawn, reduced=reduce is not None)
    return drawn


def new_arguments(fit: Approximation, new: tuple[Any, ...], predicted: bool = False) -> tuple[Any, ...]:
    """New data as tensors on the device of the fit, in its precision, tables in its order of columns.

    If nothing is given, the data of the fit. predicted: observations that are all missing are None.
    Raises ValueError for a network that the run has not trained.
    """
    refuse_unknown(fit.state, new)
    if not new:
        return fit.data
    refuse_other_kinds(fit, new)
    gaps = gaps_of(fit.model, fit.data)
    asked: dict[str, Any] = {"gaps": gaps, "fitted": fit.data, "predicted": predicted}
    given = arguments(fit.model, new, dtype_of(fit), fit.state.device, fit.columns, fit.codes, **asked)
    for name, value, old in zip(given.names, given.values, fit.data, strict=False):
        if value is None or not isinstance(old, torch.Tensor):
            continue
        rows = value.dim() > 0 if isinstance(value, torch.Tensor) else False
        if not (rows or (old.dim() == 0 and isinstance(value, (torch.Tensor, Number)))):
            shape = tuple(old.shape)
            place = "; the number of draws comes first, or as n=" if isinstance(value, int) else ""
            raise ValueError(
                f"{name}: got {shown(value)}, wanted a tensor as in the fit, where it has shape {shape}{place}"
            )
    refuse_one_row(fit, given.values)
    return given.values
