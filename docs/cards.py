"""What the cards of docs/gallery.md use: data and models, and the pictures that no plot of credo draws.

`docs/pictures.py` runs the block of Python of the card whose picture is NAME.svg in the names that the function NAME
returns; without one, nothing but `credo` and `torch` is there. Then `draw_NAME`, where there is one, draws the picture
from what the block left; otherwise the block has drawn it.
"""

import importlib
import re
import textwrap
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from matplotlib import pyplot
from sklearn.datasets import load_diabetes, make_moons
from torch import nn

import credo

RESULTS = Path(__file__).parent / "results.md"
Names = dict[str, Any]


def module(kind: str, name: str) -> Any:
    return importlib.import_module(f"credo.{kind}.{name}")


def held_out(name: str) -> Names:
    """The function of a pair that gives its held-out rows."""
    return {"held_out": module("models", name).held_out}


def coin_toss() -> Names:
    (flips,) = credo.load("coin_toss").data()
    return {"flips": flips}


def linear_regression() -> Names:
    return {"pd": pd, "columns": module("models", "linear_regression").columns}


def bnn_sparse() -> Names:
    return {"report": module("guides", "bnn_sparse").report}


def bnn_classifier() -> Names:
    return held_out("bnn_classifier")


def bnn_dropout() -> Names:
    def entropy(probs: torch.Tensor) -> torch.Tensor:
        return torch.tensor(credo.metrics.uncertainty(probs)["total"].to_numpy())

    return held_out("bnn_dropout") | {"entropy": entropy}


def bnn_dropconnect() -> Names:
    return held_out("bnn_dropconnect")


def bnn_regression() -> Names:
    return held_out("bnn_regression")


def bnn_last_layer() -> Names:
    from credo.treatments.one_pass import one_pass

    return held_out("bnn_last_layer") | {"one_pass": one_pass}


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


def vae() -> Names:
    return held_out("vae")


def draw_vae(names: Names) -> None:
    x, again, drawn = names["x"][:5], names["again"][:5], names["new"][:5]
    grid = torch.cat([x, again, drawn])
    credo.plots.images(grid, columns=5, rows=["held out", "reconstructed", "new"], ax=pyplot.subplots()[1])


def vae_plane() -> Names:
    return {"labels": credo.data.digits().y}


def regression() -> Names:
    table = load_diabetes(as_frame=True).frame
    table = ((table - table.mean()) / table.std()).rename(columns={"target": "y"})

    def model(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
        b = pyro.sample("b", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ b, sigma), obs=y)

    return {"table": table, "model": model}


def hierarchy() -> Names:
    schools = list("ABCDEFGH")
    table = pd.DataFrame({"effect": [28.0, 8, -3, 7, -1, 1, 18, 12], "sd": [15.0, 10, 16, 11, 9, 11, 10, 18]}, schools)

    def model(sd: torch.Tensor, effect: torch.Tensor | None = None) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        tau = pyro.sample("tau", dist.HalfNormal(10.0))
        with pyro.plate("school", len(sd)):
            eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
            theta = pyro.deterministic("theta", mu + tau * eta)
            pyro.sample("effect", dist.Normal(theta, sd), obs=effect)

    return {"table": table, "model": model}


def treatments() -> Names:
    torch.manual_seed(0)
    return {"net": nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10)), "digits": credo.data.digits()}


def draw_treatments(names: Names) -> None:
    figure = pyplot.gcf()
    figure.suptitle(textwrap.fill(" ".join(figure.get_suptitle().split()), 48), fontsize=9)


def network() -> Names:
    torch.manual_seed(0)  # for the noise, and for the weights that the net starts with
    x = torch.cat([torch.linspace(-3, -1, 40), torch.linspace(1, 3, 40)])
    y = 0.5 * torch.sin(1.5 * x) + 0.1 * torch.randn(80)
    net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))

    def model(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
        f = credo.nn.bayesian(net, prior_sd=2.0)(x[:, None])[:, 0]
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(f, 0.1), obs=y)

    return {"net": net, "model": model, "x": x, "y": y, "grid": torch.linspace(-4, 4, 161)}


def draw_network(names: Names) -> None:
    ax = pyplot.gca()
    ax.plot(names["x"], names["y"], ".", color="black", ms=4, label="data")
    ax.set_ylim(None, 1.4)  # room for the legend
    ax.legend(loc="upper left", frameon=False, ncols=3, columnspacing=1, handlelength=1.5)


def mixture() -> Names:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(100) - 3, torch.randn(200) + 2])

    def model(x: torch.Tensor) -> None:
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        loc = pyro.sample("loc", dist.Normal(torch.tensor([-3.0, 3.0]), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(share))
            pyro.sample("x", dist.Normal(loc[k.long()], 1.0), obs=x)

    return {"model": model, "x": x}


def hmm() -> Names:
    torch.manual_seed(3)
    state, states = 0, []
    for _ in range(80):
        state = state if torch.rand(()) < 0.92 else 1 - state
        states.append(state)
    y = torch.tensor([-1.0, 1.0])[states] + 0.7 * torch.randn(80)

    def model(y: torch.Tensor) -> None:
        stay = pyro.sample("stay", dist.Beta(8.0, 2.0))
        loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1))
        z: Any = None
        for t in pyro.markov(range(len(y))):
            z = pyro.sample(f"z{t}", dist.Bernoulli(0.5 if z is None else torch.where(z == 1, stay, 1 - stay)))
            pyro.sample(f"y{t}", dist.Normal(loc[z.long()], 0.7), obs=y[t])

    return {"model": model, "y": y, "states": torch.tensor(states)}


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


def gp() -> Names:
    torch.manual_seed(0)
    x = torch.sort(6 * torch.rand(25)).values
    y = torch.sin(2 * x) + 0.2 * torch.randn(25)

    def model(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
        scale = pyro.sample("length", dist.LogNormal(0.0, 0.5))
        cov = torch.exp(-0.5 * ((x[:, None] - x) / scale) ** 2) + 0.04 * torch.eye(len(x))
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), cov), obs=y)

    return {"model": model, "x": x, "y": y, "grid": torch.linspace(-1, 8, 91)}


def draw_gp(names: Names) -> None:
    grid, draws = names["grid"], names["draws"].double()
    low, high = draws.quantile(torch.tensor([0.05, 0.95]).double(), 0)
    _, ax = pyplot.subplots()
    ax.fill_between(grid, low, high, color=credo.plots.FIT, alpha=0.2, lw=0, label="90 % interval")
    ax.plot(grid, draws.mean(0), color=credo.plots.FIT, lw=1.5, label="mean")
    ax.plot(names["x"], names["y"], ".", color="black", ms=5, label="data")
    ax.set(xlabel="x", ylabel="y", ylim=(-3.2, 3.6))
    ax.legend(loc="upper center", ncols=3, frameon=False)


def batches(rows: int = 2000) -> Names:
    x, y = (torch.tensor(a) for a in make_moons(rows, noise=0.2, random_state=0))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    return {"pair": credo.load("bnn_classifier"), "net": net, "x": x.float(), "y": y}


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


def watching() -> Names:
    return batches(300)


def arviz() -> Names:
    return hierarchy() | {"az": az}


def lesson() -> Names:
    return {"lesson": module("models", "coin_toss").lesson}
