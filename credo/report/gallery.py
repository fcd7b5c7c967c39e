"""Which pictures a fit gets: found by looking at the fit, not by the name of the pair, so that anyone's own gets them.

loss                                    always
belief, masses                          of a latent that is one real number, or one of finitely many values
intervals                               of a comparison with the exact posterior
predictive                              of a regression
lesson                                  of the pair's own table, where it has those columns
reliability, strangeness, certainty     where the model says the probabilities of classes, in a site `probs`
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
from credo.inference.runtime.sites import latent
from credo.inference.variational.result import Fit
from credo.report import held_out

MANY = 40  # rows, values of a latent: more are no picture
STRANGERS, SHOWN, THUMBNAILS = 1000, 10, 200  # inputs told apart; images in a row; images in a plane
ROW_KINDS = ("predictive", "reliability", "strangeness", "certainty", "images", "plane")
KINDS = ("loss", "lesson", "belief", "masses", "intervals", *ROW_KINDS)
Draw = Callable[..., None]  # draw(name, caption, plot of an Axes, size in inches)


def gallery(
    fit: Fit, out: Path, exact: Any = None, compared: pd.DataFrame | None = None, lesson: pd.DataFrame | None = None
) -> list[tuple[str, str]]:
    """Draws what there is to draw into the folder `out`, as PNG. (file name, caption) of each picture.

    exact: what `posterior()` of the model returned. compared: the table of `credo.compare`. lesson: the table of the
    pair's `lesson`. None: there is none. What an earlier call left in `out` under the names of pictures is removed.
    Raises ValueError for a plate that is subsampled, and as `credo.held_out.held_out`.
    """
    from matplotlib.figure import Figure

    drawn: list[tuple[str, str]] = []
    out.mkdir(parents=True, exist_ok=True)
    for name in (*KINDS, *(_file(kind, site) for kind in ("belief", "masses") for site in fit.sample(1))):
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
        draw("intervals", "Each scalar: mean and two sds either way.", partial(plots.intervals, compared), size)
    try:
        draw("predictive", "What it expects to see, and what was seen.", partial(plots.predictive, fit))
    except ValueError:  # not a regression
        pass
    there, rows = held_out.held_out(fit)
    _classes(there, rows, draw)
    _images(there, rows, draw)
    draw("loss", "−ELBO at each step, and its running mean.", partial(plots.losses, fit))
    return drawn


def _scalars(fit: Fit, exact: Any, points: Any, draw: Draw) -> None:
    """belief and masses of latents that are one number; after the first of a kind, the file is named for the site."""
    trace, prior, known = model_trace(fit), priors(fit), {} if exact is None else exact.marginals
    draws, count = fit.sample(2), {"belief": 0, "masses": 0}
    finite = {name: fn for name, fn in marginals(fit).items() if getattr(fn, "has_enumerate_support", False)}
    for name in latent(trace):
        if draws[name].dim() != 1:
            continue
        fn = finite.get(name)
        if fn is not None and len(values := fn.enumerate_support()) <= MANY:
            kind, caption = "masses", f"What is believed of {name}, value by value."
            shares = [None if d is None else d.log_prob(values).exp() for d in (fn, known.get(name), prior.get(name))]
            plot: Callable[..., Any] = partial(_masses, name, shares, values.tolist())
        elif not _discrete(trace.nodes[name]["fn"]) and draws[name][0] != draws[name][1]:
            kind, caption = "belief", f"What is believed of {name}, before the data and after."
            plot = partial(plots.belief, fit, name, exact=exact, points=None if count["belief"] else points)
        else:
            continue
        draw(_file(kind, name) if count[kind] else kind, caption, plot)
        count[kind] += 1


def _classes(fit: Fit, rows: str, draw: Draw) -> None:
    """reliability, strangeness and certainty of a classifier, on the rows of this fit."""
    found = held_out.classes(fit)
    if found is None:
        return
    probs, y = found
    n, where = len(y), held_out.image_argument(fit, len(y))
    caption = f"Is it right as often as it is sure? {n:,} {rows} rows; grey: how many of them."
    draw("reliability", caption, partial(plots.reliability, probs, y))
    if where is None:
        return
    x, entropy = fit.data[where], _entropy(probs)
    some = held_out.take(fit, n, slice(0, STRANGERS))
    familiar = some.data[where]
    noise = torch.rand(familiar.shape, generator=torch.Generator().manual_seed(0)).to(familiar)
    entropies = {f"{rows} images": entropy[:STRANGERS]}
    for label, strange in (("noise", noise), ("inverted", 1 - familiar)):
        data = (*some.data[:where], strange, *some.data[where + 1 :])
        entropies[label] = _entropy(held_out.probabilities(dataclasses.replace(some, data=data), len(strange)))
    caption = "Does it know that it does not know? Images that are none, beside those it was made for."
    draw("strangeness", caption, partial(plots.strangeness, entropies))
    order, guess = entropy.argsort(stable=True), probs.double().mean(0).argmax(-1)
    ends = torch.cat([order[:SHOWN], order[-SHOWN:].flip(0)]) if n >= 2 * SHOWN else order
    names = [f"{guess[i]}" + ("" if guess[i] == y[i] else f" ({y[i]})") + f" · {entropy[i]:.2f}" for i in ends]
    wrong = (guess != y).double().mean().item()
    caption = (
        f"The {rows} images it is surest of, and those it is least sure of: its answer (the truth, where that is "
        f"another) and the entropy of the prediction in nats. It is wrong on {wrong:.1%} of all."
    )
    sides = ["surest", "least sure"] if n >= 2 * SHOWN else None
    draw("certainty", caption, partial(plots.images, x[ends.to(x.device)], names, SHOWN, rows=sides), (10, 2.5))


def _images(fit: Fit, rows: str, draw: Draw) -> None:
    """images and plane, where each row of this fit is an image with latents of its own."""
    found = held_out.image_site(fit)
    if found is None:
        return
    name, x = found
    some = held_out.take(fit, len(x), slice(0, SHOWN))
    again = some.predict(50)[name].double().mean(0)
    grid = torch.cat([v.double().cpu() for v in (x[:SHOWN], again, *held_out.made_up(some, name))])
    labels = [rows, "reconstructed", "made up", "and drawn"]
    caption = (
        f"{rows.capitalize()} images; the same after a passage through the latents (the mean of 50 draws); images made "
        f"up, from latents drawn from the prior: the mean of each pixel, and a draw."
    )
    draw("images", caption, partial(plots.images, grid, columns=len(again), rows=labels), (10, 4.1))
    many = held_out.take(fit, len(x), slice(0, THUMBNAILS))
    for site, (mean, _) in means_and_sds(many, 200, 0).items():
        if mean.dim() != 2 or mean.shape[1] < 2 or len(mean) < 3:
            continue
        z, share = _principal(mean.cpu())
        caption = f"Where {len(mean)} {rows} images lie: the means of {site}"
        caption += "." if mean.shape[1] == 2 else f", in the plane that holds most of their spread ({share:.0%})."
        draw("plane", caption, partial(plots.plane, z, images=x[:THUMBNAILS]), (5, 4.5))
        break


def _masses(name: str, shares: list[Any], values: list[float], ax: Any) -> Any:
    q, exact, prior = shares
    plots.masses(q, exact, prior, labels=[f"{v:g}" for v in values], ax=ax).set(xlabel=name)
    return ax


def _entropy(probs: torch.Tensor) -> torch.Tensor:
    return torch.tensor(metrics.uncertainty(probs)["total"].tolist(), dtype=torch.float64).clamp(min=0)


def _principal(points: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The points in the plane of their largest spread, shape (N, 2), and the share of their variance it holds."""
    if points.shape[1] == 2:
        return points, 1.0
    centred = points - points.mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:2].T, (sizes[:2].square().sum() / sizes.square().sum().clamp_min(1e-300)).item()


def _discrete(fn: Any) -> bool:
    return bool(getattr(fn, "has_enumerate_support", False) or getattr(fn.support, "is_discrete", False))


def _file(kind: str, site: str) -> str:
    return f"{kind}_{re.sub(r'[^A-Za-z0-9_.-]', '_', site)}"
