"""Sound programs: data of every type, models of every kind, loops of one's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from _mistakes_case import LINE, MU, Case, X, Z, line_posterior, normal, observing, positive, q_normal, regression
from pyro import poutine

import credo

FLIPS = (torch.arange(60) % 3 == 0).float()
COUNTS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
GROUP = torch.arange(60) % 3
ON_LINE = line_posterior(Z, LINE)
TABLE = pd.DataFrame({"y": LINE.numpy(), "x": Z.numpy()}, index=range(5, 105))
FEW = {"steps": 150}
PLANE = torch.randn(50, 2, generator=torch.Generator().manual_seed(3))


def beta(a: float, b: float) -> dict[str, tuple[float, float]]:
    return {"mu": (a / (a + b), (a * b / (a + b) ** 2 / (a + b + 1)) ** 0.5)}


def coin(x: Any) -> None:
    p = pyro.sample("mu", dist.Beta(1.0, 1.0))
    for i in range(len(x)):
        pyro.sample(f"flip_{i}", dist.Bernoulli(p), obs=x[i])


def clusters(x: Any) -> None:
    locs = pyro.sample("locs", dist.Normal(torch.tensor([0.0, 3.0]), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])))
        pyro.sample("x", dist.Normal(locs[..., k], 1.0), obs=x)


def chain(x: Any) -> None:
    locs = pyro.sample("locs", dist.Normal(torch.tensor([0.0, 3.0]), 1.0).to_event(1))
    k = torch.tensor(0)
    moves = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    for t in pyro.markov(range(len(x))):
        k = pyro.sample(f"k_{t}", dist.Categorical(moves[k]))
        pyro.sample(f"x_{t}", dist.Normal(locs[..., k], 1.0), obs=x[t])


def groups(y: Any, g: Any) -> None:
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfNormal(2.0))
    with pyro.plate("groups", 3):
        a = pyro.sample("a", dist.Normal(mu, tau))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)


def locals_(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def correlated(x: Any) -> None:
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0).expand([2]).to_event(1))
    lower = pyro.sample("lower", dist.LKJCholesky(2, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), scale_tril=scale[..., None] * lower), obs=x)


def kalman(x: Any) -> None:
    s, one = pyro.sample("s", dist.LogNormal(0.0, 1.0)), torch.eye(1)
    noise = dist.MultivariateNormal(torch.zeros(1), one)
    walk = dist.MultivariateNormal(torch.zeros(1), s * one)
    pyro.sample("x", dist.GaussianHMM(noise, one, walk, one, noise), obs=x)


def matrix(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("columns", 2), pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def lone(x: Any) -> None:
    pyro.sample("x", dist.Normal(pyro.sample("mu", dist.Normal(0.0, 1.0)), 1.0), obs=x)


def horseshoe(x: Any, y: Any) -> None:
    tau = pyro.sample("tau", dist.HalfCauchy(1.0))
    lam = pyro.sample("lam", dist.HalfCauchy(torch.ones(2)).to_event(1))
    w = pyro.sample("w", dist.Normal(torch.zeros(2), tau * lam).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def topics(x: Any) -> None:
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Categorical(p), obs=x)


def censored(t: Any, seen: Any) -> None:
    rate = pyro.sample("rate", dist.Gamma(1.0, 1.0))
    with pyro.plate("rows", len(t)):
        with poutine.mask(mask=seen):
            pyro.sample("t", dist.Exponential(rate), obs=t)
        with poutine.mask(mask=~seen):
            pyro.sample("later", dist.Bernoulli(torch.exp(-rate * t)), obs=torch.ones(len(t)))


def of_the_whole(batch: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", 100, subsample=batch):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=batch)


def in_steps() -> dict[str, torch.Tensor]:
    """Pyro's own idiom: each step gets a batch, and the plate has the size of the whole."""
    svi = credo.SVI(of_the_whole, q_normal, progress=False)
    for epoch in range(200):
        order = torch.randperm(100, generator=torch.Generator().manual_seed(epoch))
        for index in order.split(25):
            svi.step(X[index])
    return {"mu": svi.params["m"] + svi.params["s"] * torch.randn(2000)}


def amortised() -> None:
    """Batches of a pair whose latents all stand in the plate need no scale."""

    def model(x: Any) -> None:
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(pyro.param("w", torch.ones(())) * z, 1.0), obs=x)

    def guide(x: Any) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("a", torch.zeros(())) * x, positive("s")))

    svi = credo.SVI(model, guide, progress=False)
    for index in range(40):
        svi.step(X[index : index + 20])


def predicted() -> dict[str, torch.Tensor]:
    fit = credo.fit(regression, None, Z, LINE, progress=False)
    return {"y": fit.predict(4000, torch.ones(1))["y"].flatten()}


def pair_of(name: str) -> Callable[[], None]:
    def run() -> None:
        pair = credo.load(name)
        credo.fit(pair.model, pair.guide, *pair.data(), steps=500, progress=False).summary()

    return run


def sound(name: str, model: Any, *data: Any, guide: Any = None, right: Any = None, **options: Any) -> Case:
    return Case("sound", name, model, guide, data, right=right, options=options)


def called(name: str, call: Callable[[], Any], right: Any = None) -> Case:
    return Case("sound", name, call=call, right=right)


BINOMIAL = observing(lambda p: dist.Binomial(10, p), dist.Beta(1.0, 1.0))
CASES = [
    sound("NumPy arrays", regression, Z.numpy(), LINE.numpy(), right=ON_LINE),
    sound(
        "double precision of small numbers", regression, Z.numpy().astype(np.float64), LINE.numpy().astype(np.float64)
    ),
    sound("Series", regression, TABLE["x"], TABLE["y"], right=ON_LINE),
    sound("a table by column", regression, TABLE, right=ON_LINE),
    sound("a list of numbers", normal, X.tolist(), right=MU),
    sound(
        "whole counts",
        observing(lambda r: dist.Poisson(r), dist.Gamma(1.0, 1.0)),
        COUNTS,
        right={"mu": (32 / 9, 32**0.5 / 9)},
    ),
    sound("Bernoulli of flips", observing(lambda p: dist.Bernoulli(p), dist.Beta(1.0, 1.0)), FLIPS, right=beta(21, 41)),
    sound("Binomial counts", BINOMIAL, COUNTS.float(), right=beta(32, 50)),
    sound("a site for each flip", coin, FLIPS, right=beta(21, 41)),
    sound("equal observations", normal, torch.full((30,), 2.0), right={"mu": (60 / 30.01, 30.01**-0.5)}),
    sound("one row in a plate of one", normal, torch.tensor([2.0]), right={"mu": (2 / 1.01, 1.01**-0.5)}),
    sound("one number, no plate", lone, torch.tensor(2.0), right={"mu": (1.0, 0.5**0.5)}),
    sound("a mixture, summed out", clusters, X, **FEW),
    sound("a hidden Markov model", chain, X[:10], **FEW),
    sound("groups", groups, LINE[:60], GROUP, **FEW),
    sound("a latent for each row", locals_, X, **FEW),
    sound("a correlation matrix", correlated, PLANE, **FEW),
    sound("a Kalman filter", kalman, X[:20, None], **FEW),
    sound("two plates", matrix, X.reshape(50, 2), right=MU),
    sound("a horseshoe", horseshoe, PLANE, PLANE[:, 0], **FEW),
    sound("a Dirichlet of labels", topics, torch.arange(30) % 3, **FEW),
    sound("Student's t", observing(lambda m: dist.StudentT(4.0, m, 1.0)), X, **FEW),
    sound("negative binomial", observing(lambda m: dist.NegativeBinomial(5.0, logits=m)), COUNTS.float(), **FEW),
    sound("gamma rates", observing(lambda m: dist.Gamma(3.0, m), dist.LogNormal(0.0, 1.0)), X.abs() + 0.1, **FEW),
    sound("a censored time", censored, X[:60].abs() + 0.1, FLIPS > 0, **FEW),
    called("batches of a plate of the whole", in_steps, {"mu": (MU["mu"][0], MU["mu"][1])}),
    called("batches of an amortised pair", amortised),
    called(
        "predictions of a new row",
        predicted,
        {"y": (ON_LINE["a"][0] + ON_LINE["b"][0], (0.25 + ON_LINE["a"][1] ** 2 + ON_LINE["b"][1] ** 2) ** 0.5)},
    ),
    called("credo's coin", pair_of("coin_toss")),
    called("credo's regression", pair_of("linear_regression")),
]
