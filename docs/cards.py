"""What the cards of docs/gallery.md use: data and models.

`docs/pictures.py` runs the block of Python of the card whose picture is NAME.svg in the names that the function NAME
returns; without one, nothing but `credo` and `torch` is there. The pictures that no plot of credo draws are in
`drawings.py`.
"""

import importlib
from typing import Any

import arviz as az
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from sklearn.datasets import load_diabetes, make_moons
from torch import nn

import credo

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


def vae() -> Names:
    return held_out("vae")


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


def gp() -> Names:
    torch.manual_seed(0)
    x = torch.sort(6 * torch.rand(25)).values
    y = torch.sin(2 * x) + 0.2 * torch.randn(25)

    def model(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
        scale = pyro.sample("length", dist.LogNormal(0.0, 0.5))
        cov = torch.exp(-0.5 * ((x[:, None] - x) / scale) ** 2) + 0.04 * torch.eye(len(x))
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), cov), obs=y)

    return {"model": model, "x": x, "y": y, "grid": torch.linspace(-1, 8, 91)}


def batches(rows: int = 2000) -> Names:
    x, y = (torch.tensor(a) for a in make_moons(rows, noise=0.2, random_state=0))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    return {"pair": credo.load("bnn_classifier"), "net": net, "x": x.float(), "y": y}


def watching() -> Names:
    return batches(300)


def arviz() -> Names:
    return hierarchy() | {"az": az}


def lesson() -> Names:
    return {"lesson": module("models", "coin_toss").lesson}
