"""Mistakes about data, and arguments that are not what they should be (kinds 3 and 8)."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from _mistakes_case import LINE, Case, X, Z, line_posterior, normal, observing, q_normal, regression
from pyro import poutine

import credo

TIMES, EVENTS = torch.linspace(0.1, 3.0, 60), torch.arange(60) % 2 == 0
COUNTS = torch.tensor([1.0, 0.0, 3.0, 2.0, 4.0])
NAN = torch.cat([X[:50], torch.tensor([torch.nan])])


def survival(t: Any, ev: Any) -> None:
    """Exponential times, censored where ev is False: r | data ~ Gamma(1 + events, 1 + sum t)."""
    r = pyro.sample("r", dist.Gamma(1.0, 1.0))
    pyro.factor("events", r.log() * t[ev].numel() - r * t.sum())
    with pyro.plate("rows", 1):
        pyro.sample("seen", dist.Normal(0.0, 1.0), obs=torch.zeros(1))


SHAPE, RATE = 1.0 + EVENTS.sum().item(), 1.0 + TIMES.sum().item()
R = {"r": (SHAPE / RATE, SHAPE**0.5 / RATE)}


def in_place(x: Any) -> None:
    x -= 0.01
    normal(x)


def left_out(x: Any) -> None:
    """The model masks its missing values itself."""
    there = ~x.isnan()
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)), poutine.mask(mask=there):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=torch.where(there, x, torch.zeros(())))


def data(name: str, model: Any, words: str, *values: Any, guide: Any = None, **more: Any) -> Case:
    return Case("data", name, model, guide, values, words, **more)


def fit(*values: Any, **options: Any) -> Any:
    return lambda: credo.fit(normal, q_normal, *(values or (X,)), **({"steps": 5, "progress": False} | options))


def asked(name: str, call: Any, words: str) -> Case:
    return Case("input", name, call=call, words=words, plain=False)


SERIES = pd.Series(Z.numpy(), index=range(100)), pd.Series(LINE.numpy()[::-1].copy(), index=range(99, -1, -1))
UNIX = 1.7e9 + np.arange(50, dtype=np.float64)
MISSPELT = pd.DataFrame({"x": Z.numpy(), "z_y": LINE.numpy(), "other": LINE.numpy()})
LOGIT = observing(lambda mu: dist.Bernoulli(logits=mu))
POISSON = observing(lambda mu: dist.Poisson(mu.exp()))
POSITIVE = observing(lambda mu: dist.Gamma(mu.exp(), 1.0))


def labels(x: Any, y: Any) -> None:
    w = pyro.sample("mu", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Categorical(logits=w * x[:, None]), obs=y)


CASES = [
    data(
        "a bool column of a table", survival, "(?!)", pd.DataFrame({"t": TIMES.numpy(), "ev": EVENTS.numpy()}), right=R
    ),
    data("values under a NumPy mask", normal, "mask", np.ma.masked_array(X.numpy() * 100, np.arange(100) > 50)),
    data("Series of other indexes", regression, "index|align", *SERIES, right=line_posterior(Z, LINE)),
    data("y as a column", regression, "'y'|y:", Z, LINE[:, None]),
    data(
        "a table of one column as y",
        regression,
        "'y'|y:",
        Z,
        pd.DataFrame({"y": LINE.numpy()}),
        right=line_posterior(Z, LINE),
    ),
    data("NaN in y", normal, "x: 1 of 51.*nan", NAN),
    data("infinity in x", regression, "x: .*inf", torch.cat([Z[:99], torch.tensor([torch.inf])]), LINE),
    data("NaN that the model masks", left_out, "x.*nan", NAN, right={"mu": (X[:50].sum().item() / 50.01, 50.01**-0.5)}),
    data("unix times in single precision", normal, "x.*(digits|precision|distinct|float64)", UNIX),
    data("x and y of different length", regression, "(x|y).*(rows|50|shape)", Z, LINE[:50]),
    data("a misspelt column", regression, "column.*y|observes nothing", MISSPELT),
    data("text", normal, "x.*(number|str|object)", pd.Series(["a", "b", "c"])),
    data("no rows", normal, "x.*empty", torch.zeros(0)),
    data("no data", normal, "x|data|argument"),
    data("the model changes its data", in_place, "x.*in place", X.clone()),
    data("2 for a Bernoulli", LOGIT, "'x'.*0 or 1", COUNTS),
    data("half a count", POISSON, "'x'.*Poisson", COUNTS + 0.5),
    data("a negative number for a Gamma", POSITIVE, "'x'.*Gamma", -COUNTS - 1),
    data("labels from 1", labels, "'y'.*classes 0 to 2", X[:5], torch.tensor([1, 2, 3, 1, 2])),
    data("one class only", labels, "'y'.*class", X[:5], torch.tensor([1, 1, 1, 1, 1])),
    asked("lr as text", fit(lr="a"), "lr"),
    asked("a negative lr", fit(lr=-1.0), "lr"),
    asked("half a step", fit(steps=2.5), "steps"),
    asked("no particle", fit(particles=0), "particles"),
    asked("a batch of no rows", fit(batch_size=0), "batch_size"),
    asked("a batch of more than all rows", fit(batch_size=1000), "batch_size"),
    asked("a negative seed", fit(seed=-1), "seed"),
    asked("a device that is not there", fit(device="cuda:9"), "device"),
    asked("a misspelt option", fit(particels=3), "particels"),
    asked("a Pyro optimiser", fit(optim=pyro.optim.Adam({"lr": 0.1})), "optim"),
    asked("a guide by a wrong word", lambda: credo.fit(normal, "mapp", X), "guide.*mapp"),
    asked("the guide forgotten", lambda: credo.fit(normal, X), "guide"),
    asked("a set as data", fit({1.0, 2.0}), "x|set"),
    asked("complex numbers", fit(np.array([1 + 2j])), "x|complex"),
    asked("a plan for no site", fit(plan={"nu": "score"}), "nu"),
    asked("a plan that does not exist", fit(plan={"mu": "magic"}), "magic"),
    asked("a pair that does not exist", partial(credo.load, "coin_tos"), "coin_toss"),
    asked("predict(x) for predict(n)", lambda: fit()().predict(X), "^n|draws"),
]
