"""Pictures of a classifier on rows of data: calibration, and if the rows are images, what it has not seen before."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from credo import metrics, plots
from credo.inference.variational.result import Fit
from credo.plots.style import headline
from credo.report import held_out

KINDS = ("reliability", "strangeness", "certainty")
COMPARED, SHOWN, COLUMNS = 1000, 10, 5  # inputs whose entropies are compared; images on each side; in a row


def draw_classes(fit: Fit, rows: str, draw: Callable[..., None]) -> None:
    """Draws reliability, strangeness and certainty of a classifier on the rows of this fit; nothing of another model.

    rows: "held-out" or "training". draw: draw(name, sentence, plot of an Axes, height in inches).
    """
    found = held_out.classes(fit)
    if found is None:
        return
    probs, y = found
    n, where = len(y), held_out.image_argument(fit, len(y))
    sentence = (
        f"Of {n:,} {rows} rows, grouped by how confident the prediction is: the share that is right. The area of a "
        f"point is its share of the rows, the bar a 95 % interval."
    )
    least = max(8, min(20, n // 50))  # rows of a point
    draw("reliability", sentence, partial(plots.reliability, probs, y, least=least))
    if where is None:
        return
    x, entropy = fit.data[where], _entropy(probs)
    entropies = {f"{rows} images": entropy[:COMPARED]} | _strange(fit, n, where)
    sentence = (
        "How uncertain the predictions are (entropy) for images like the data and unlike them. AUROC: how often the "
        "stranger image of two has the higher entropy."
    )
    draw("strangeness", sentence, partial(plots.strangeness, entropies))
    order, guess = entropy.argsort(stable=True), probs.double().mean(0).argmax(-1)
    ends = torch.cat([order[:SHOWN], order[-SHOWN:].flip(0)]) if n >= 2 * SHOWN else order
    names = [f"{guess[i]}" + ("" if guess[i] == y[i] else f" ({y[i]})") + f"\n{entropy[i]:.2f}" for i in ends]
    wrong = guess != y
    which = f"All {n} {rows} images, those with the most certain predictions first"
    words = f"{int(wrong.sum())} of {n} predictions are wrong"
    if n >= 2 * SHOWN:
        which = f"The {SHOWN} {rows} images with the most certain predictions, then the {SHOWN} with the least"
        sure, unsure = (int(wrong[side].sum()) for side in (ends[:SHOWN], ends[SHOWN:]))
        words = f"{unsure} of the {SHOWN} least certain predictions are wrong, {sure} of the most certain; "
        words += f"{100 * wrong.double().mean():.1f} % of all {n:,}"
    sentence = f"{which}: the predicted class (red: wrong, with the true class), and the entropy in nats."
    plot = partial(_certainty, x[ends.to(x.device)], names, words)
    draw("certainty", sentence, plot, 4.9)


def _strange(fit: Fit, n: int, where: int) -> dict[str, torch.Tensor]:
    """{label: the entropies of predictions for images unlike the data}: noise, and the images inverted."""
    some = held_out.select_rows(fit, n, slice(0, COMPARED))
    inside = some.data[where]
    noise = torch.rand(inside.shape, generator=torch.Generator().manual_seed(0)).to(inside)
    found = {}
    for label, outside in (("noise", noise), ("inverted", 1 - inside)):
        data = (*some.data[:where], outside, *some.data[where + 1 :])
        found[label] = _entropy(held_out.probabilities(dataclasses.replace(some, data=data), len(outside)))
    return found


def _certainty(x: torch.Tensor, names: list[str], words: str, ax: Any) -> Any:
    plots.images(x, names, COLUMNS, ax=ax)
    for text in ax.texts:
        if "(" in text.get_text():  # a wrong prediction
            text.set_color(plots.POINTS[0])
    headline(ax, words)
    return ax


def _entropy(probs: torch.Tensor) -> torch.Tensor:
    return torch.tensor(metrics.uncertainty(probs)["total"].tolist(), dtype=torch.float64).clamp(min=0)
