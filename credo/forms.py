"""Forms of prediction of a fitted network beside each other, and its uncertainty split in two, in bounded memory.

    one draw         p(y | x, w), w ~ q         a single network
    k draws          1/k Σ_j p(y | x, w_j)      the posterior predictive
    mean network     p(y | x, E_q w)            one pass, surer than the average
    one pass         E_q p(y | x, w)            by the moments of a Bayesian last layer, without draws

Rows go in batches, and of the draws of a batch only their moments are kept.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import nn

from credo.inference.predictive.predict import new_arguments
from credo.inference.variational.result import Fit
from credo.models.bnn_regression import LEAST_SD
from credo.treatments.one_pass import FACTOR, known_noise, one_pass

BATCH = 1024  # rows at once


def predictions(
    fit: Fit, net: nn.Module, x: Any, draws: int = 100, *, batch: int = BATCH, seed: int = 0
) -> dict[str, torch.Tensor]:
    """The prediction of a network pair in every form: one draw, k draws, the mean network, and one pass where it can.

    fit: of a pair with a network, `bnn_classifier`, `bnn_regression`, `bnn_last_layer` or one like them. x: shape
    (N, ...), a tensor, an array or a table, whole numbers too where the net takes them. draws: k. batch: rows at once;
    memory holds the k draws of one batch, and never those of all rows. seed: of the draws.
    Returns {form: tensor}: class probabilities, (N, C), which `credo.metrics.classification` scores; or (N, 2), mean
    and sd of y in its units. "one pass" is there for fits of `bnn_last_layer` alone. "mean network" is left out for
    numbers of other pairs than credo's: how their `mean` follows from the output of the network is not known.
    Raises ValueError for a fit that predicts neither probabilities `probs` nor a `mean`, and for rows that
    `fit.predict` refuses: none, of another shape, or with numbers that are missing.

    >>> import credo, torch
    >>> pair = credo.load("bnn_last_layer")
    >>> x, y = torch.randn(40, 2), torch.arange(40) % 2
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    >>> fit = credo.fit(pair.model, pair.guide, net, x, y, steps=20, progress=False, compile=False)
    >>> {form: tuple(p.shape) for form, p in credo.predictions(fit, net, x[:3], 20).items()}
    {'one draw': (3, 2), '20 draws': (3, 2), 'mean network': (3, 2), 'one pass': (3, 2)}
    """
    x, found = _rows(fit, net, x), {}
    for name, n in (("one draw", 1), (f"{draws} draws", draws)):
        moments = _moments(fit, net, x, n, batch, seed)
        total = moments["within"] + moments["between"]
        found[name] = moments["mean"] if "probs" in moments else torch.stack([moments["mean"], total.sqrt()], -1)
    if (classes := "probs" in moments) or "y.mean" in fit.params:
        found["mean network"] = torch.cat([_at_the_mean(fit, net, rows, classes) for rows in x.split(batch)])
    if any(name.endswith(FACTOR) for name in fit.params):
        found["one pass"] = torch.cat([one_pass(fit, net, rows) for rows in x.split(batch)])
    return found


def split_uncertainty(
    fit: Fit, net: nn.Module, x: Any, draws: int = 100, *, batch: int = BATCH, seed: int = 0
) -> pd.DataFrame:
    """Total uncertainty of each row in two parts: what every network doubts, and what the networks disagree about.

        classes   H[E p]  = E H[p]      + I(y; w)            nats (Depeweg et al. 2018, eq. 2)
        numbers   Var[y]  = E[sd(w)^2]  + Var[mean(w)]       in the units of y, squared (law of total variance)
                  total   = aleatoric   + epistemic

    fit, net, x, draws, batch, seed: as for `credo.predictions`. The epistemic part of k draws of classes is too low by
        O(1/k).
    Returns a DataFrame with a row for each row of x: total, aleatoric, epistemic.

    >>> import credo, torch
    >>> pair = credo.load("bnn_regression")
    >>> x, net = torch.randn(40, 2), torch.nn.Linear(2, 1)
    >>> fit = credo.fit(pair.model, pair.guide, net, x, x[:, 0], steps=20, progress=False, compile=False)
    >>> credo.split_uncertainty(fit, net, x[:3], 20).columns.tolist()
    ['total', 'aleatoric', 'epistemic']
    """
    moments = _moments(fit, net, _rows(fit, net, x), draws, batch, seed)
    within, between = moments["within"].double(), moments["between"].double()
    parts = {"total": within + between, "aleatoric": within, "epistemic": between}
    return pd.DataFrame({name: value.cpu().numpy() for name, value in parts.items()})


def _moments(fit: Fit, net: nn.Module, x: torch.Tensor, n: int, batch: int, seed: int) -> dict[str, torch.Tensor]:
    """mean; within and between, which add up to the total uncertainty, (N,); and `probs`, where it is of classes."""
    options: dict[str, Any] = {"n": n, "seed": seed, "batch": min(batch, len(x)), "reduce": _of_draws}
    found = fit.predict(net, x, **options)
    if "probs" in found:
        mean, inner = found["probs"][:, :-1], found["probs"][:, -1]
        mean = mean / mean.sum(-1, keepdim=True)
        total = torch.special.entr(mean).sum(-1)
        return {"probs": mean, "mean": mean.to(torch.get_default_dtype()), "within": inner, "between": total - inner}
    if "mean" not in found:
        raise ValueError(
            f"fit: it predicts {', '.join(found)}; wanted a site `probs`, class probabilities, or `mean`, as the pairs "
            f"bnn_classifier and bnn_regression have"
        )
    mean, between = found["mean"].unbind(-1)
    if "sd" in found:
        within = found["sd"][:, 1] + found["sd"][:, 0].square()
    else:
        within = _noise(fit, n, seed).square().mean().expand_as(mean)
    return {"mean": mean, "within": within, "between": between}


def _of_draws(draws: torch.Tensor) -> torch.Tensor:
    """Of probabilities, (S, B, C): their mean and their mean entropy, (B, C + 1). Of numbers, (S, B): mean, variance.

    One draw after another, so that no double of all of them is made.
    """
    if draws.dim() == 3:
        mean, inner = draws.new_zeros(draws.shape[1:], dtype=torch.float64), 0.0
        for p in draws:
            mean += p.double() / len(draws)
            inner = inner + torch.special.entr(p.double()).sum(-1, keepdim=True) / len(draws)
        return torch.cat([mean, torch.as_tensor(inner)], -1)
    wide = draws.double()
    return torch.stack([wide.mean(0), wide.var(0, correction=0)], -1).to(torch.get_default_dtype())


def _noise(fit: Fit, n: int, seed: int) -> torch.Tensor:
    """Draws of the noise sd that all rows share, in the units of y: a latent, a parameter, or a number given."""
    if "sigma" in fit.params:
        return fit.params["sigma"]
    drawn = fit.sample(n, seed=seed)
    if "sigma" in drawn:
        return drawn["sigma"]
    if (known := known_noise(fit)) is not None:
        return torch.tensor(known)
    raise ValueError("fit: its model has no site `sd`, no `sigma` and no `noise`, so the noise of y is not known")


def _rows(fit: Fit, net: nn.Module, x: Any) -> torch.Tensor:
    """x as `fit.predict` reads it: a tensor on the device of the fit, in its precision; whole numbers stay."""
    found: torch.Tensor = new_arguments(fit, (net, x), predicted=True)[1]
    return found


def _at_the_mean(fit: Fit, net: nn.Module, x: torch.Tensor, classes: bool) -> torch.Tensor:
    """The prediction of the network at the means of its weights, (N, C) or (N, 2)."""
    trained: Callable[[torch.Tensor], torch.Tensor] = fit.trained(net)
    with torch.no_grad():
        if classes:
            return trained(x).softmax(-1)
        f = trained((x - fit.params["x.mean"]) / fit.params["x.sd"]).reshape(len(x), -1)
        centre, unit = fit.params["y.mean"], fit.params["y.sd"]
        if f.shape[1] == 2:
            sd = unit * (nn.functional.softplus(f[:, 1]) + LEAST_SD)
        else:
            sd = _noise(fit, 1000, 0).square().mean().sqrt().expand(len(x))
        return torch.stack([centre + unit * f[:, 0], sd], -1)
