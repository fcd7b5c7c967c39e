"""The pictures of a fit. The fit decides which, not the name of the pair, so that a user's own model gets them too.

loss                                    of a fit by steps
belief, masses                          of a latent that is one real number, or one of finitely many values
updates                                 of such a latent, where the pair's `posterior` says what a few rows said of it
intervals, forest                       of a comparison with the exact posterior; of the scalars of other fits
predictive                              of a regression, or of counts
lesson                                  of the table that the pair's `lesson` returns, if it has the columns
reliability, strangeness, certainty     of a classifier: a model with a site `probs` (of_classes.py)
images, prior, plane                    where each row is an image with latents of its own (of_images.py)
"""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from credo import plots
from credo.inference.inputs.beside import beside
from credo.inference.posterior.marginals import marginals, model_trace, priors
from credo.inference.posterior.sample import guide_draws
from credo.inference.runtime.sites import latent
from credo.inference.variational.result import STEPPED, Fit
from credo.plots.style import lines
from credo.report import held_out, of_classes, of_images, vector
from credo.report.vector import Picture

MANY = 40  # rows of a table, values of a latent: with more there is no picture
FEW = 10  # rows, after which belief is shown beside that after all
KINDS = ("loss", "lesson", "updates", "belief", "masses", "intervals", "forest", "predictive")


def gallery(
    fit: Fit, out: Path, exact: Any = None, compared: pd.DataFrame | None = None, lesson: pd.DataFrame | None = None
) -> list[Picture]:
    """Draws all pictures of a fit into the folder `out`, as SVG; returns the file, headline and sentence of each.

    exact: what `posterior()` of the model returned. compared: the table of `credo.compare`. lesson: the table of the
    pair's `lesson`. None: there is none. Pictures that an earlier call left in `out` are removed.
    Raises ValueError for a plate that is subsampled, and as `held_out.held_out`.
    """
    drawn: list[Picture] = []
    out.mkdir(parents=True, exist_ok=True)
    every = (*KINDS, *of_classes.KINDS, *of_images.KINDS)
    for name in (*every, *(_file(kind, site) for kind in ("belief", "masses") for site in guide_draws(fit, 1))):
        (out / f"{name}.svg").unlink(missing_ok=True)

    draw = pen(out, drawn)
    points = None
    if lesson is not None and {"mle", "map", "bayes", "sd"} <= set(lesson.columns):
        points = {k.upper(): v for k, v in lesson.iloc[-1][["mle", "map"]].items()}
        sentence = "Three answers to the same question, as data come in; the band is ± 2 posterior sds of p."
        draw("lesson", sentence, partial(plots.lesson, lesson))
    rows = "rows" if lesson is None else str(lesson.index.name or "rows")
    _scalars(fit, exact, points, draw, rows)
    if (
        compared is not None
        and 1 < len(compared) <= MANY
        and compared[["exact mean", "exact sd"]].notna().all(axis=None)
    ):
        other = "NUTS, which draws from the posterior" if "mc error in sds" in compared else "the exact posterior"
        sentence = f"Each scalar of the model: its mean ± 2 sd by the fit, and by {other}."
        draw("intervals", sentence, partial(plots.intervals, compared), 1.1 + 0.22 * len(compared))
    elif count := _coefficients(fit):
        sentence = "Each scalar of the model: the median and the 90 % interval of its posterior."
        draw("forest", sentence, partial(plots.forest, fit), 1.1 + 0.22 * count)
    with suppress(ValueError):  # not a regression
        sentence = "Each row of the data: what the fit predicts, with its 90 % interval, and what was observed."
        draw("predictive", sentence, partial(plots.predictive, fit))
    there, rows = held_out.held_out(fit)
    of_classes.draw_classes(there, rows, draw)
    of_images.draw_images(fit, there, rows, draw)
    falls = f" The learning rate fell at step{_listed(fit.falls)} (dotted)." if fit.falls else ""
    sentence = f"The loss, −ELBO, at each step (pale), and its running mean.{falls}"
    if fit.losses or fit.method in STEPPED:
        draw("loss", sentence if fit.losses else "The fit took no step.", partial(plots.losses, fit))
    return drawn


def pen(out: Path, drawn: list[Picture]) -> Callable[..., None]:
    """draw(name, sentence, plot, height): saves what `plot(ax=)` draws, its title as headline; adds it to `drawn`."""
    from matplotlib.figure import Figure

    def draw(name: str, sentence: str, plot: Callable[..., Any], height: float = vector.HEIGHT) -> None:
        with vector.drawing():
            figure = Figure(figsize=(vector.WIDTH, height), layout="constrained")
            ax = plot(ax=figure.subplots())
            headline = " ".join(ax.get_title().split())
            ax.set_title("")
            figure.suptitle(lines(headline, vector.WIDTH - 0.3), x=0.02, ha="left", fontsize=vector.SIZE + 2)
            vector.save(figure, out / f"{name}.svg", headline, sentence)
        drawn.append(Picture(f"{name}.svg", headline, sentence))

    return draw


def _scalars(fit: Fit, exact: Any, points: Any, draw: Callable[..., None], rows: str = "rows") -> None:
    """Draws updates, belief or masses of each scalar latent; the second of a kind is named for its site."""
    trace, prior, known = model_trace(fit), priors(fit), {} if exact is None else exact.marginals
    draws, count = guide_draws(fit, 2), {"belief": 0, "masses": 0}
    finite = {name: fn for name, fn in marginals(fit).items() if getattr(fn, "has_enumerate_support", False)}
    for name in latent(trace):
        if name not in draws or draws[name].dim() != 1:
            continue
        fn = finite.get(name)
        if fn is not None and len(values := fn.enumerate_support()) <= MANY:
            kind, sentence = "masses", f"The probability of each value of {name}, before the data and after."
            shares = [None if d is None else d.log_prob(values).exp() for d in (fn, known.get(name), prior.get(name))]
            plot: Callable[..., Any] = partial(_masses, name, shares, values.tolist())
        elif not _discrete(trace.nodes[name]["fn"]) and draws[name][0] != draws[name][1]:
            kind, sentence = "belief", f"The density of {name} after the data, by the fit"
            sentence += (" and by the exact posterior" if name in known else "") + ", beside the prior."
            if not count["belief"]:
                _updates(fit, name, prior.get(name), known.get(name), draw, rows)
            plot = partial(plots.belief, fit, name, exact=exact, points=None if count["belief"] else points)
        else:
            continue
        draw(_file(kind, name) if count[kind] else kind, sentence, plot)
        count[kind] += 1


def _coefficients(fit: Fit) -> int:
    """The number of scalars of the latents, if there are vectors among them, at most MANY, and all of them vary."""
    draws = guide_draws(fit, 2)
    count = sum(v[0].numel() for v in draws.values())
    moves = all((v[0] != v[1]).any() for v in draws.values())
    return count if moves and any(v.dim() > 1 for v in draws.values()) and count <= MANY else 0


def _updates(fit: Fit, name: str, prior: Any, after: Any, draw: Callable[..., None], rows: str) -> None:
    """Draws the exact belief in a scalar before the data, after FEW rows, and after all, where the pair knows it."""
    function = beside(fit.model, "posterior")
    sizes = [len(v) for v in fit.data if isinstance(v, torch.Tensor) and v.dim()]
    if function is None or prior is None or after is None or not sizes or sizes[0] <= FEW**2:
        return
    some = held_out.select_rows(fit, sizes[0], slice(0, FEW)).data
    sentence = f"The exact belief in {name} as data come in, with its mean ± sd; each curve has its own height."
    try:
        few = function(*some, **getattr(fit.model, "keywords", {})).marginals.get(name)
    except Exception:  # of the user's program, for so few rows
        return
    stages = {"before the data": prior, f"after {FEW} {rows}": few, f"after {sizes[0]:,} {rows}": after}
    with suppress(ValueError):  # a belief without mean and sd, such as a Cauchy prior
        draw("updates", sentence, partial(plots.updates, stages, name=name))


def _masses(name: str, shares: list[Any], values: list[float], ax: Any) -> Any:
    q, exact, prior = shares
    plots.masses(q, exact, prior, labels=[f"{v:g}" for v in values], ax=ax).set(xlabel=name)
    return ax


def _discrete(fn: Any) -> bool:
    return bool(getattr(fn, "has_enumerate_support", False) or getattr(fn.support, "is_discrete", False))


def _listed(steps: tuple[int, ...]) -> str:
    words = [f"{step:,}" for step in steps]
    return f" {words[0]}" if len(words) == 1 else f"s {', '.join(words[:-1])} and {words[-1]}"


def _file(kind: str, site: str) -> str:
    return f"{kind}_{re.sub(r'[^A-Za-z0-9_.-]', '_', site)}"
