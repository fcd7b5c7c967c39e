"""The pictures of a fit. The fit decides which, not the name of the pair, so that a user's own model gets them too.

loss                                    always
belief, masses                          of a latent that is one real number, or one of finitely many values
intervals                               of a comparison with the exact posterior
predictive                              of a regression, or of counts
lesson                                  of the table that the pair's `lesson` returns, if it has the columns
reliability, strangeness, certainty     of a classifier: a model with a site `probs`
images, plane                           where each row is an image with latents of its own
"""

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from credo import metrics, plots
from credo.inference.posterior.marginals import marginals, means_and_sds, model_trace, priors
from credo.inference.posterior.sample import guide_draws
from credo.inference.runtime.sites import latent
from credo.inference.variational.result import Fit
from credo.report import held_out

MANY = 40  # rows of a table, values of a latent: with more there is no picture
COMPARED, SHOWN, THUMBNAILS = 1000, 10, 200  # inputs whose entropies are compared; images in a row; in a plane
ROW_KINDS = ("predictive", "reliability", "strangeness", "certainty", "images", "plane")
KINDS = ("loss", "lesson", "belief", "masses", "intervals", *ROW_KINDS)
Draw = Callable[..., None]  # draw(name, caption, plot of an Axes, size in inches)


def gallery(
    fit: Fit, out: Path, exact: Any = None, compared: pd.DataFrame | None = None, lesson: pd.DataFrame | None = None
) -> list[tuple[str, str]]:
    """Draws all pictures of a fit into the folder `out`, as PNG; returns (file name, caption) of each picture.

    exact: what `posterior()` of the model returned. compared: the table of `credo.compare`. lesson: the table of the
    pair's `lesson`. None: there is none. Pictures that an earlier call left in `out` are removed.
    Raises ValueError for a plate that is subsampled, and as `held_out.held_out`.
    """
    from matplotlib.figure import Figure

    drawn: list[tuple[str, str]] = []
    out.mkdir(parents=True, exist_ok=True)
    for name in (*KINDS, *(_file(kind, site) for kind in ("belief", "masses") for site in guide_draws(fit, 1))):
        (out / f"{name}.png").unlink(missing_ok=True)

    def draw(name: str, caption: str, plot: Callable[..., Any], size: tuple[float, float] = (5, 3.4)) -> None:
        figure = Figure(figsize=size, layout="constrained")
        plot(ax=figure.subplots()).spines[["top", "right"]].set_visible(False)
        figure.savefig(out / f"{name}.png", dpi=150)
        drawn.append((f"{name}.png", caption))

    points = None
    if lesson is not None and {"mle", "map", "bayes", "sd"} <= set(lesson.columns):
        points = {k.upper(): v for k, v in lesson.iloc[-1][["mle", "map"]].items()}
        draw("lesson", "Three answers to the same question, as data come in.", partial(plots.lesson, lesson))
    _scalars(fit, exact, points, draw)
    if (
        compared is not None
        and 1 < len(compared) <= MANY
        and compared[["exact mean", "exact sd"]].notna().all(axis=None)
    ):
        size = (5, 0.7 + 0.26 * len(compared))
        draw("intervals", "Each scalar: mean ± 2 sd.", partial(plots.intervals, compared), size)
    try:
        draw("predictive", "Posterior predictive and data.", partial(plots.predictive, fit))
    except ValueError:  # not a regression
        pass
    there, rows = held_out.held_out(fit)
    _classes(there, rows, draw)
    _images(there, rows, draw)
    falls = "; dotted: the learning rate falls" if fit.falls else ""
    draw("loss", f"−ELBO at each step, and its running mean{falls}.", partial(plots.losses, fit))
    return drawn


def _scalars(fit: Fit, exact: Any, points: Any, draw: Draw) -> None:
    """Draws belief or masses of each scalar latent; from the second of a kind on, the file is named for the site."""
    trace, prior, known = model_trace(fit), priors(fit), {} if exact is None else exact.marginals
    draws, count = guide_draws(fit, 2), {"belief": 0, "masses": 0}
    finite = {name: fn for name, fn in marginals(fit).items() if getattr(fn, "has_enumerate_support", False)}
    for name in latent(trace):
        if name not in draws or draws[name].dim() != 1:
            continue
        fn = finite.get(name)
        if fn is not None and len(values := fn.enumerate_support()) <= MANY:
            kind, caption = "masses", f"Probability of each value of {name}."
            shares = [None if d is None else d.log_prob(values).exp() for d in (fn, known.get(name), prior.get(name))]
            plot: Callable[..., Any] = partial(_masses, name, shares, values.tolist())
        elif not _discrete(trace.nodes[name]["fn"]) and draws[name][0] != draws[name][1]:
            kind, caption = "belief", f"Density of {name}, before the data and after."
            plot = partial(plots.belief, fit, name, exact=exact, points=None if count["belief"] else points)
        else:
            continue
        draw(_file(kind, name) if count[kind] else kind, caption, plot)
        count[kind] += 1


def _classes(fit: Fit, rows: str, draw: Draw) -> None:
    """Draws reliability, strangeness and certainty of a classifier on the rows of this fit."""
    found = held_out.classes(fit)
    if found is None:
        return
    probs, y = found
    n, where = len(y), held_out.image_argument(fit, len(y))
    caption = f"Calibration: is it right as often as it is confident? {n:,} {rows} rows; a point's area: its share."
    draw("reliability", caption, partial(plots.reliability, probs, y))
    if where is None:
        return
    x, entropy = fit.data[where], _entropy(probs)
    some = held_out.select_rows(fit, n, slice(0, COMPARED))
    inside = some.data[where]
    noise = torch.rand(inside.shape, generator=torch.Generator().manual_seed(0)).to(inside)
    entropies = {f"{rows} images": entropy[:COMPARED]}
    for label, outside in (("noise", noise), ("inverted", 1 - inside)):
        data = (*some.data[:where], outside, *some.data[where + 1 :])
        entropies[label] = _entropy(held_out.probabilities(dataclasses.replace(some, data=data), len(outside)))
    caption = "Out-of-distribution detection: entropy of the prediction for images unlike the data, and for the data."
    draw("strangeness", caption, partial(plots.strangeness, entropies))
    order, guess = entropy.argsort(stable=True), probs.double().mean(0).argmax(-1)
    ends = torch.cat([order[:SHOWN], order[-SHOWN:].flip(0)]) if n >= 2 * SHOWN else order
    names = [f"{guess[i]}" + ("" if guess[i] == y[i] else f" ({y[i]})") + f" · {entropy[i]:.2f}" for i in ends]
    wrong = (guess != y).double().mean().item()
    caption = (
        f"The {rows} images with the most and the least certain predictions: the predicted class (the true class, if "
        f"different) and the entropy of the prediction in nats. {wrong:.1%} of all predictions are wrong."
    )
    sides = ["most certain", "least certain"] if n >= 2 * SHOWN else None
    draw("certainty", caption, partial(plots.images, x[ends.to(x.device)], names, SHOWN, rows=sides), (10, 2.5))


def _images(fit: Fit, rows: str, draw: Draw) -> None:
    """Draws images and plane, if each row of this fit is an image with latents of its own."""
    found = held_out.image_site(fit)
    if found is None:
        return
    name, x = found
    some = held_out.select_rows(fit, len(x), slice(0, SHOWN))
    again = some.predict(50)[name].double().mean(0)
    grid = torch.cat([v.double().cpu() for v in (x[:SHOWN], again, *held_out.prior_samples(some, name))])
    labels = [rows, "reconstructed", "prior mean", "prior draw"]
    caption = (
        f"{rows.capitalize()} images; their reconstructions (mean of 50 draws); images from latents drawn from the "
        f"prior: the mean of each pixel, and a draw."
    )
    draw("images", caption, partial(plots.images, grid, columns=len(again), rows=labels), (10, 4.1))
    many = held_out.select_rows(fit, len(x), slice(0, THUMBNAILS))
    for site, (mean, _) in means_and_sds(many, 200, 0).items():
        if mean.dim() != 2 or mean.shape[1] < 2 or len(mean) < 3:
            continue
        z, share = _principal(mean.cpu())
        caption = f"Latent space: the means of {site} for {len(mean)} {rows} images"
        caption += (
            "."
            if mean.shape[1] == 2
            else f", projected on their first two principal components ({share:.0%} of the variance)."
        )
        draw("plane", caption, partial(plots.plane, z, images=x[:THUMBNAILS]), (5, 4.5))
        break


def _masses(name: str, shares: list[Any], values: list[float], ax: Any) -> Any:
    q, exact, prior = shares
    plots.masses(q, exact, prior, labels=[f"{v:g}" for v in values], ax=ax).set(xlabel=name)
    return ax


def _entropy(probs: torch.Tensor) -> torch.Tensor:
    return torch.tensor(metrics.uncertainty(probs)["total"].tolist(), dtype=torch.float64).clamp(min=0)


def _principal(points: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Principal components: the projection on the first two, shape (N, 2), and their share of the variance."""
    if points.shape[1] == 2:
        return points, 1.0
    centred = points - points.mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:2].T, (sizes[:2].square().sum() / sizes.square().sum().clamp_min(1e-300)).item()


def _discrete(fn: Any) -> bool:
    return bool(getattr(fn, "has_enumerate_support", False) or getattr(fn.support, "is_discrete", False))


def _file(kind: str, site: str) -> str:
    return f"{kind}_{re.sub(r'[^A-Za-z0-9_.-]', '_', site)}"
