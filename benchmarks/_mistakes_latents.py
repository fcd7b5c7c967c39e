"""Latents and predictions that went wrong in silence (kind 5): drawn without the data, of other rows, at a point."""

import pickle
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _mistakes_case import MU, Case, X, normal
from pyro.infer.autoguide import AutoLaplaceApproximation

import credo

CLUSTERS = torch.cat([torch.full((10,), -3.0), torch.full((10,), 2.0)]) + 0.01 * torch.arange(20)
TIMES = torch.linspace(0, 3, 20)
UNMASKED = torch.arange(100) % 2 == 0
HALF = {"mu": ((X * UNMASKED).sum().item() / 50.01, 0.1)}  # the mean-field optimum: 100 rows, 50 of them latent


def gap(x: Any, there: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x, obs_mask=there)


def clusters(x: Any) -> None:
    locs = pyro.sample("locs", dist.Normal(torch.tensor([-3.0, 2.0]), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.ones(2) / 2))
        pyro.sample("x", dist.Normal(locs[..., k], 0.5), obs=x)


def assignments() -> dict[str, torch.Tensor]:
    draws = credo.fit(clusters, None, CLUSTERS, steps=500, progress=False).sample(200)["k"].float()
    shares = {"low": draws[:, :10].mean(1), "high": draws[:, 10:].mean(1)}
    return {name: share + 0.01 * torch.randn(200) for name, share in shares.items()}


def per_row(x: Any, y: Any = None) -> None:
    s = pyro.sample("s", dist.LogNormal(0.0, 0.1))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, s))
        pyro.sample("y", dist.Normal(z, 0.1), obs=y)


def other_rows() -> dict[str, torch.Tensor]:
    """New rows draw their latents from the prior, N(0, 1): not those of the rows of the fit, all at 3."""
    fit = credo.fit(per_row, None, torch.zeros(20), torch.full((20,), 3.0), steps=500, progress=False)
    scale = fit.sample(400)["s"].mean()
    return {"z": fit.predict(400, torch.ones(7))["y"].flatten() / scale}


def groups(g: Any, y: Any = None) -> None:
    with pyro.plate("groups", 3):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(g)):
        pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)


def new_group() -> None:
    fit = credo.fit(groups, None, torch.tensor([0, 1, 2, 1]), torch.zeros(4), steps=50, progress=False)
    fit.predict(5, torch.tensor([3]))


def process(x: Any, y: Any = None) -> None:
    width = pyro.sample("width", dist.LogNormal(0.0, 0.1))
    cov = torch.exp(-0.5 * ((x[:, None] - x) / width) ** 2) + 1e-2 * torch.eye(len(x))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), cov), obs=y)


def remembers() -> dict[str, torch.Tensor]:
    fit = credo.fit(process, None, TIMES, 2 + TIMES.sin(), steps=300, progress=False)
    return {"y": fit.predict(200, TIMES[5:6] + 0.01)["y"].flatten()}


def unpickled() -> dict[str, torch.Tensor]:
    fit = credo.fit(normal, None, X, steps=1000, progress=False)
    draws: dict[str, torch.Tensor] = pickle.loads(pickle.dumps(fit)).sample(2000)
    return draws


def called(name: str, call: Callable[[], Any], right: Any = None, words: str = "(?!)") -> Case:
    return Case("latents", name, call=call, right=right, words=words, plain=False)


CASES = [
    Case("latents", "obs_mask", gap, None, (X, UNMASKED), right=HALF),
    called("assignments of a mixture", assignments, {"low": (0.0, 0.01), "high": (1.0, 0.01)}),
    called("rows that the fit has not seen", other_rows, {"z": (0.0, 1.0)}),
    called("a group that the fit has not seen", new_group, words="g:|'groups'|group"),
    called(
        "predictions of a Gaussian process",
        remembers,
        {"y": (2 + float((TIMES[5] + 0.01).sin()), 0.11)},
        words="'y'",
    ),
    called("a fit, pickled", unpickled, MU),
    Case("latents", "AutoLaplaceApproximation", normal, AutoLaplaceApproximation(normal), (X,), right=MU),
]
