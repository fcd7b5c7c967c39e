"""The log predictive density of each row, by importance sampling where rows have latents of their own.

    log p(x_n | data) ~= log 1/K sum_k p(x_n | z_nk, w_k) p(z_nk | w_k) / q(z_nk | x_n, w_k),   w_k ~ q(w),  z_nk ~ q

w are the latents shared by all rows, z_n the latents of row n (Burda, Grosse and Salakhutdinov 2016, eq. 8). Without
z_n it is the log of the posterior predictive: minus the NLL of a classifier. The expectation lies below the true value
and rises to it with K.
"""

import math
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import kind
from ..inputs.call import argument_names, by_name
from ..inputs.draws import draws_and_data
from ..pair.batches import rows_of
from ..pair.costs import DATA, GUIDE, PRIOR, run
from ..pair.pair import Pair, Program
from ..posterior.approximation import Approximation, pair_of
from ..posterior.explained import naming_arguments
from ..posterior.sample import pieces_with_guide
from ..preflight.check import check
from ..preflight.rows import find_rows, refuse_shared
from ..runtime.defaults import default_dtype
from ..runtime.held import HeldSites
from ..runtime.sites import Site, counts_once, is_index, latent, plates
from ..runtime.state import reading
from ..storage.absent import refuse_without_data
from .predict import new_arguments
from .streamed import LARGE
from .untempered import untempered


class LogLikelihood(NamedTuple):
    """The log predictive density of each row, with its Monte Carlo error. `credo.log_likelihood` returns it.

    values: log p(x_n | data), shape (N,), nats. errors: their standard errors, shape (N,), nats.
    """

    values: torch.Tensor
    errors: torch.Tensor


def log_likelihood(fit: Approximation, *new: Any, n: int | None = None, seed: int = 0, **named: Any) -> LogLikelihood:
    """log p(x_n | data) ~= log 1/K sum_k p(x_n | z_nk, w_k) p(z_nk | w_k) / q(z_nk | x_n, w_k) in nats, for each row.

    fit: what `credo.fit`, `credo.exact` or `credo.reference` returned.
    n: the number K of importance samples (w_k, z_nk) ~ q, in the first place or by name; 1,000 if it is left out.
    seed: of these draws.
    Latents of rows that count once, as masks of `bnn_dropout` can, are drawn from q like those that all rows share.
    Latents of rows that the guide draws together with others, as a closed form does, come from the model: z_nk ~
        p(z | w_k); new rows then need none of the guide.
    new, named: the model's arguments, observations included, N rows; if nothing is given, the data of the fit.
    Returns `.values` and `.errors`, shape (N,) each; the error is that of the mean weight by the delta method.
    Raises ValueError for n below 2, a pair without a plate over its rows, observations that were left out or lie
    outside their support, and rows with a point estimate for a latent.
    Source: Burda, Grosse and Salakhutdinov 2016, eq. 8.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> fit = credo.fit(pair.model, pair.guide, flips, steps=300, seed=1, compile=False)
    >>> found = credo.log_likelihood(fit, 1000)
    >>> found.values.shape, bool((found.errors < 0.1).all())
    (torch.Size([4]), True)
    """
    if (approximation := getattr(fit, "approximation", None)) is not None:  # of a reference
        with default_dtype(approximation.dtype):
            return log_likelihood(approximation, *new, n=n, seed=seed, **named)
    n, new = draws_and_data("log_likelihood", new, n, least=2)
    new = by_name(fit.model, new, named, ("n", "seed"))
    refuse_without_data(fit.data, "predict" if new else "rows")
    pair = pair_of(fit)
    pair = pair._replace(model=untempered(pair.model), data=new_arguments(fit, new))
    if not any(isinstance(value, torch.Tensor) and value.dim() for value in pair.data):
        raise ValueError("log_likelihood: the data holds no tensor with rows, so there is no likelihood of a row")
    with naming_arguments(fit, pair.data), reading(fit.state, seed), torch.no_grad():
        names = argument_names(fit.model, len(pair.data))
        if together := _drawn_together(fit):
            pair = pair._replace(guide=_rows_from_model(pair, pair.guide, together))
        shared = _observed_all(pair, names)
        over_rows = _plates_over_rows(fit, pair)
        if pair.summed is not None:
            guide = poutine.trace(pair.guide).get_trace(*pair.data)
            refuse_shared(pair.model, guide, pair.data, pair.summed, over_rows, "no row has a likelihood of its own")

        def one(guide: Program) -> torch.Tensor:
            guide = _rows_from_model(pair, guide, together) if together else guide
            _, costs, where, dims, _ = run(pair._replace(guide=guide))
            total = torch.zeros((), dtype=torch.float64)
            nested = frozenset().union(*where.values())  # plates, whose own sites hold indices
            for (side, name), cost in costs.items():
                if where[side, name] & over_rows and name not in nested | shared:
                    if pair.summed is not None:  # its sites may lie in plates within a row
                        cost = _by_row(cost, dims[side, name], over_rows)
                    if cost.dim() != 1:
                        raise ValueError(
                            f"site {name!r}: its density has shape {tuple(cost.shape)}, wanted one for each row: "
                            f"declare what belongs to a row with .to_event()"
                        )
                    sign = {DATA: 1, PRIOR: 1, GUIDE: -1}[side]
                    total = total + sign * cost.double()
            return total

        weights, squares = (torch.tensor(-math.inf, dtype=torch.float64),) * 2  # logarithms of their sums
        for log_weights in pieces_with_guide(fit, n, one, LARGE):  # (draws, N)
            weights = weights.logaddexp(log_weights.logsumexp(0))
            squares = squares.logaddexp((2 * log_weights).logsumexp(0))
    values = weights - math.log(n)
    variance = ((squares - math.log(n) - 2 * values).exp() - 1).clamp(min=0.0) * n / (n - 1)  # of weights with mean 1
    return LogLikelihood(values, (variance / n).sqrt())


def _observed_all(pair: Pair, names: list[str]) -> frozenset[str]:
    """The latents of rows that count once. Raises ValueError for new data that is not an observation of the pair."""
    guide = poutine.trace(pair.guide).get_trace(*pair.data)
    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
    summed = pair.summed.sites if pair.summed is not None else frozenset()
    if missing := sorted(latent(model).keys() - latent(guide).keys() - summed):
        raise ValueError(
            f"site {missing[0]!r} is not observed, so its rows have no likelihood; pass the observations too: "
            f"log_likelihood(fit, n, {', '.join(names)}, ...)"
        )
    check(pair.model, pair.guide, pair.data, names, whole=False)
    return frozenset(name for name, site in latent(guide).items() if counts_once(site))


def _drawn_together(fit: Approximation) -> frozenset[str]:
    """The latents of rows that the guide draws together with others: q has no density of one row alone.

    Raises ValueError for a latent of rows that is a point, the same in every draw.
    """
    guide, other = (poutine.trace(fit.guide).get_trace(*fit.data) for _ in range(2))
    nodes: dict[str, Site] = dict(poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*fit.data).nodes)
    rows = rows_of(fit.data)[1]
    seen = {f.name for s in nodes.values() if s["type"] == "sample" and s["is_observed"] for f in s["cond_indep_stack"]}
    again = latent(other)
    found, auxiliary = set(), latent(guide, auxiliary=True).keys() - latent(guide).keys()
    for name, site in latent(guide).items():
        sizes = {f.name: f.size for f in nodes[name]["cond_indep_stack"]} if name in nodes else {}
        if kind(site["fn"]) != "Delta" or not any(plate in seen and size == rows for plate, size in sizes.items()):
            continue
        if not auxiliary and torch.equal(site["value"], again[name]["value"]):
            raise ValueError(
                f"site {name!r}: the guide has a point estimate for each row, which has no likelihood; give it a "
                f"distribution with a density"
            )
        own = guide.nodes.get(f"{name}_unconstrained")  # AutoNormal draws each latent there, in its plates
        if own is None or plates(own) != plates(site):
            found.add(name)
    return frozenset(found)


def _rows_from_model(pair: Pair, guide: Program, together: frozenset[str]) -> Program:
    """The guide with these latents of rows drawn from the model given the others: z_n ~ p(z_n | w), w ~ q.

    The weights are then p(x_n | z_n, w_k), right whatever the guide, and as noisy as the rows are informative.
    """

    def program(*data: Any) -> None:
        kept = poutine.block(guide, hide_fn=lambda site: site["name"] in together or is_index(site))
        trace = poutine.trace(kept).get_trace(*data)  # its plates may have the rows of the fit
        shared = {name: site["value"] for name, site in latent(trace).items()}
        poutine.block(HeldSites(shared)(pair.model), expose=list(together))(*data)

    return program


def _by_row(cost: torch.Tensor, dims: dict[str, int], over_rows: frozenset[str]) -> torch.Tensor:
    """A cost summed over the plates that lie within a row, shape (N,) if that leaves one value for each row."""
    for plate, dim in dims.items():
        if plate not in over_rows and cost.dim() >= -dim:
            cost = cost.sum(dim, keepdim=True)
    rows = [dim for plate, dim in dims.items() if plate in over_rows]
    return cost.flatten() if len(rows) == 1 and cost.numel() == cost.shape[rows[0]] else cost


def _plates_over_rows(fit: Approximation, pair: Pair) -> frozenset[str]:
    """The plates whose size is the number of rows, in the fit and in the new data.

    If several plates have that size, the ones whose size follows the number of rows.
    """
    lengths = [rows_of(data)[1] for data in (fit.data, pair.data)]
    sizes = []
    for data in (fit.data, pair.data):
        guide = poutine.trace(pair.guide).get_trace(*data)
        trace = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*data)
        sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
        sizes.append({frame.name: frame.size for site in sites for frame in site["cond_indep_stack"]})
    found = frozenset(name for name, size in sizes[1].items() if [sizes[0].get(name), size] == lengths)
    if not found:
        raise ValueError(
            f"no plate of the model has the size of its {lengths[1]} rows (plates: {sizes[1] or 'none'}), so there is "
            f"no likelihood of a row; write pyro.plate('N', len(x))"
        )
    if len(found) > 1 and lengths[0] == lengths[1] > 1:
        found &= find_rows(pair, lengths[1] - 1, argument_names(fit.model, len(pair.data))).plates
    return found
