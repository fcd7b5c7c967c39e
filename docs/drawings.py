"""The pictures of cards of docs/gallery.md that no plot of credo draws, from what the block of the card left.

`docs/pictures.py` calls `draw_NAME`, where there is one, for the picture NAME.svg.
"""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot

import credo

RESULTS = Path(__file__).parent / "results.md"
Names = dict[str, Any]


def draw_bnn_sparse(names: Names) -> None:
    kept = names["report"](names["fit"].params).iloc[:-1]
    _, ax = pyplot.subplots()
    ax.barh(kept.index, kept["weights"], color=credo.plots.PRIOR, alpha=0.5, label="set to zero")
    ax.barh(kept.index, kept["kept"], color=credo.plots.FIT, label="kept")
    for row, (total, left) in enumerate(zip(kept["weights"], kept["kept"], strict=True)):
        ax.text(total, row, f" {left:,} of {total:,}", va="center")
    ax.set(xlabel="weights of a layer", xlim=(0, 1.45 * kept["weights"].max()), ylim=(len(kept) - 0.5, -0.5))
    ax.legend(frameon=False, loc="lower right", reverse=True)


def draw_lesson(names: Names) -> None:
    pyplot.gca().set_ylim(-0.03, 1.2)  # room for the legend
    pyplot.gca().get_legend().set_loc("upper right")


def draw_vae(names: Names) -> None:
    x, again, drawn = names["x"][:5], names["again"][:5], names["new"][:5]
    grid = torch.cat([x, again, drawn])
    credo.plots.images(grid, columns=5, rows=["held out", "reconstructed", "new"], ax=pyplot.subplots()[1])


def draw_treatments(names: Names) -> None:
    figure = pyplot.gcf()
    figure.suptitle(textwrap.fill(" ".join(figure.get_suptitle().split()), 48), fontsize=9)


def draw_network(names: Names) -> None:
    ax = pyplot.gca()
    ax.plot(names["x"], names["y"], ".", color="black", ms=4, label="data")
    ax.set_ylim(None, 1.4)  # room for the legend
    ax.legend(loc="upper left", frameon=False, ncols=3, columnspacing=1, handlelength=1.5)


def draw_hmm(names: Names) -> None:
    y, states = names["y"], names["states"]
    up = torch.stack([names["draws"][f"z{t}"] for t in range(80)], 1).mean(0)
    _, ax = pyplot.subplots()
    ax.plot(y, ".", color="0.4", ms=5, label="data")
    ax.fill_between(range(80), 2 * up - 1, -1, color=credo.plots.FIT, alpha=0.2, lw=0, step="mid")
    ax.step(range(80), 2 * up - 1, where="mid", color=credo.plots.FIT, lw=1.5, label="P(state is 1)")
    ax.step(range(80), 2 * states - 1, where="mid", color="black", lw=1.2, ls=":", label="true state")
    ax.set(xlabel="time", ylabel="y", ylim=(None, 4.8))
    right = ax.secondary_yaxis("right", functions=(lambda y: (y + 1) / 2, lambda p: 2 * p - 1))
    right.set(yticks=[0, 1], ylabel="P(state is 1)")
    ax.legend(loc="upper center", ncols=3, frameon=False, handlelength=1.2, columnspacing=1)


def draw_gp(names: Names) -> None:
    grid, draws = names["grid"], names["draws"].double()
    low, high = draws.quantile(torch.tensor([0.05, 0.95]).double(), 0)
    _, ax = pyplot.subplots()
    ax.fill_between(grid, low, high, color=credo.plots.FIT, alpha=0.2, lw=0, label="90 % interval")
    ax.plot(grid, draws.mean(0), color=credo.plots.FIT, lw=1.5, label="mean")
    ax.plot(names["x"], names["y"], ".", color="black", ms=5, label="data")
    ax.set(xlabel="x", ylabel="y", ylim=(-3.2, 3.6))
    ax.legend(loc="upper center", ncols=3, frameon=False)


def draw_gpu(names: Names) -> None:
    """The figures of docs/results.md: no GPU is needed to draw them."""
    text = RESULTS.read_text(encoding="utf-8")
    part = text[text.index("| pair, microseconds a step |") :]
    rows = re.findall(r"^\| (\w+) \| ([\d,]+) \| [\d,]+ \| ([\d,]+) \|", part[: part.index("\n\n")], flags=re.MULTILINE)
    pairs, pyro_us, credo_us = zip(*rows, strict=True)
    _, ax = pyplot.subplots()
    at = np.arange(len(pairs))
    for shift, values, color, label in ((-0.2, pyro_us, "0.6", "Pyro"), (0.2, credo_us, credo.plots.FIT, "credo")):
        ax.barh(at + shift, [int(v.replace(",", "")) for v in values], 0.38, color=color, label=label)
    ax.set_yticks(at, [name.replace("stochastic_depth_resnet", "stochastic_depth") for name in pairs])
    ax.set(xlabel="microseconds a step", xscale="log", xlim=(100, 60_000))
    ax.set_xticks([100, 1000, 10_000], ["100", "1,000", "10,000"])
    ax.invert_yaxis()
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
