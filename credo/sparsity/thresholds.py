"""Where to prune, by the ELBO: what each threshold gains and loses in nats.

    ELBO(t) = E_q[log p(y | x, w m)] - sum_i m_i KL(q(w_i) || p),     m_i = 1 if log alpha_i < t, else 0

A pruned weight is q(w_i) = N(0, sigma_i^2) as sigma_i falls to 0: its alpha is infinite, where the KL from the
log-uniform prior is 0, so the pruned network has an ELBO of its own. To prune a weight saves its KL and its noise, and
costs what it said about the data.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn
from torch.distributions import kl_divergence

from credo.guides.bnn_sparse import log_alpha
from credo.models.bnn_sparse import LogUniform

GRID = tuple(i / 2 for i in range(-8, 15))  # log alpha from -4 to 7
BATCH = 10_000  # rows at a time


def thresholds(
    fit: Any, *, at: Sequence[float] = GRID, draws: int = 8, rows: int | None = 10_000, seed: int = 0
) -> pd.DataFrame:
    """The ELBO of the pruned network at each threshold, on the data of the fit: where to prune, not by eye.

        ELBO(t) = E_q[log p(y | x, w m)] - sum_i m_i KL(q(w_i) || p),     m_i = 1 if log alpha_i < t, else 0

    fit: of the pair `bnn_sparse`. at: thresholds, in log alpha. draws: of the weights, the same for every threshold.
    rows: of the data, drawn once and scaled to all; None: all rows. seed: of draws and rows.
    Returns a row for each threshold: kept (weights), elbo (nats, but for a constant that no threshold changes), below
    (nats below the best row), error (of `below`: the standard error over draws and over rows, as if other rows of the
    same source had come). `attrs["best"]` is the threshold that keeps fewest weights among those no further below than
    their error: what more would cost, these data cannot tell from nothing.
    A network with layers of noise, such as nn.Dropout, is taken in evaluation mode. Raises ValueError for a fit without
    log alpha or with another prior, and for fewer than two draws or rows.
    Source: the ELBO of Molchanov, Ashukha and Vetrov 2017, eq. 13 and 14, at alpha = infinity.

    >>> import credo
    >>> from credo.sparsity.thresholds import thresholds
    >>> pair = credo.load("bnn_sparse")
    >>> fit = credo.fit(pair.model, pair.guide, *pair.data(), steps=20, compile=False, progress=False)
    >>> table = thresholds(fit, at=(0.0, 3.0), draws=2, rows=200)
    >>> list(table.columns), table.attrs["best"] in (0.0, 3.0)
    (['kept', 'elbo', 'below', 'error'], True)
    """
    if draws < 2 or not at or any(math.isnan(t) for t in at):
        raise ValueError(f"thresholds: got {draws} draws and at={tuple(at)}, wanted at least 2 draws and 1 number")
    if rows is not None and rows < 2:
        raise ValueError(f"rows: got {rows}, wanted at least 2, whose spread is the error; None: all rows")
    net, x, y = of_pair(fit)
    if len(x) < 2:
        raise ValueError(
            f"fit: its data has {len(x)} rows, wanted at least 2, whose spread is the error of a threshold"
        )
    noise = log_alpha(fit.params)
    normals = {
        name: dist.Normal(fit.params[f"{name}.theta"], (0.5 * fit.params[f"{name}.log_sigma2"]).exp()) for name in noise
    }
    points = {k.removesuffix(".value"): v for k, v in fit.params.items() if k.endswith(".value")}
    costs = {name: kl_divergence(q, LogUniform(q.loc.shape)).double() for name, q in normals.items()}
    masks = [{name: a < t for name, a in noise.items()} for t in at]
    generator = torch.Generator().manual_seed(seed)
    part = torch.randperm(len(x), generator=generator)[: rows or len(x)].sort().values.to(x.device)
    eps = {name: [torch.randn(a.shape, generator=generator).to(a) for _ in range(draws)] for name, a in noise.items()}
    found = torch.zeros(draws, len(at), len(part), dtype=torch.float64)  # log p(y_n | x_n, w)
    for draw in range(draws):
        for i, mask in enumerate(masks):
            weights = {n: (q.loc + q.scale * eps[n][draw]) * mask[n].to(q.loc) for n, q in normals.items()}
            logs = [_log_likelihood(fit.model, points | weights, net, x[p], y[p]) for p in part.split(BATCH)]
            found[draw, i] = torch.cat(logs).cpu()
    kl = torch.tensor([sum((cost * mask[n]).sum().item() for n, cost in costs.items()) for mask in masks])
    elbo = found.mean(2).mean(0) * len(x) - kl
    behind = found[:, [int(elbo.argmax())]] - found  # of log p, below that of the best
    by_draw, by_row = behind.mean(2) * len(x), behind.mean(0) * len(x)
    table = pd.DataFrame({"kept": [sum(int(m.sum()) for m in mask.values()) for mask in masks]}, index=list(at))
    table["elbo"], table["below"] = elbo.numpy(), (elbo.max() - elbo).numpy()
    table["error"] = (by_draw.var(0) / draws + by_row.var(1) / len(part)).sqrt().numpy()
    table.index.name = "threshold"
    near = table[table["below"] <= table["error"]]
    table.attrs["best"] = float(near["kept"].idxmin())
    return table


def of_pair(fit: Any) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(a copy of the net in evaluation mode, x, y) of a fit of the pair bnn_sparse. Raises ValueError for another."""
    noise = log_alpha(fit.params)
    if not noise:
        raise ValueError(
            f"fit: its parameters are {sorted(fit.params)[:4]}, wanted NAME.theta and NAME.log_sigma2 for each weight, "
            f"as the guide of credo.load('bnn_sparse') has them"
        )
    if len(fit.data) != 3 or not isinstance(fit.data[0], nn.Module) or fit.data[2] is None:
        raise ValueError("fit: its data are not (net, x, y), those of credo.load('bnn_sparse'); give a threshold")
    net, x, y = fit.data
    net = copy.deepcopy(net).eval()  # as it is when pruned: nn.Dropout would draw
    values = {name.rpartition(".")[0]: value for name, value in fit.params.items() if not name.endswith("log_sigma2")}
    with torch.no_grad():
        sites = poutine.trace(pyro.condition(fit.model, data=values)).get_trace(net, x[:2], y[:2]).nodes
    for name in noise:
        prior = getattr(sites.get(name, {}).get("fn"), "base_dist", None)
        if not isinstance(prior, LogUniform):
            raise ValueError(
                f"{name}: its prior is {type(prior).__name__}, under which a weight at zero has no finite KL; wanted "
                f"the log-uniform one of bnn_sparse, or a threshold of your own"
            )
    return net, x, y


@torch.no_grad()
def _log_likelihood(
    model: Any, weights: dict[str, torch.Tensor], net: nn.Module, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """log p(y_n | x_n, weights) of each row, in nats, double precision."""
    site: Any = poutine.trace(pyro.condition(model, data=weights)).get_trace(net, x, y).nodes["y"]
    logs: torch.Tensor = site["fn"].log_prob(site["value"]).double()
    return logs
