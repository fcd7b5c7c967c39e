"""Mistakes in a pair of model and guide (kind 4 of the table in docs/results.md)."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from _mistakes_case import LINE, Case, X, Z, normal, number, observing, positive, q_normal, regression
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch import nn

NOISE = "random numbers outside of a sample site"
LEAF = torch.tensor(0.0, requires_grad=True)
NET = nn.Linear(1, 1)
RNG, CALLS = np.random.default_rng(0), [0]


def observes_in_guide(x: Any) -> None:
    q_normal(x)
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def shared_name(x: Any) -> None:
    mu, s = pyro.sample("mu", dist.Normal(0.0, 10.0)), positive("s")
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, s), obs=x)


def sized(size: int, **options: Any) -> Any:
    def model(x: Any) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", size, **options):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    return model


def noisy(draw: Any) -> Any:
    def model(x: Any) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        e = draw()
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mu + e, 1.0), obs=x)

    return model


def counted() -> float:
    CALLS[0] += 1
    return 1 / CALLS[0]


def one_row(x: Any, y: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def twice(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        for name in ("x", "again"):
            pyro.sample(name, dist.Normal(mu, 1.0), obs=x)


def masked(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)), poutine.mask(mask=torch.zeros(len(x), dtype=torch.bool)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def two(x: Any) -> None:
    a, b = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "ab")
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(a - b, 1.0), obs=x)


def same_parameter(x: Any) -> None:
    pyro.sample("a", dist.Normal(number("m"), 1.0))
    pyro.sample("b", dist.Normal(pyro.param("m", torch.tensor(1.0)), 1.0))


def one_tensor(x: Any) -> None:
    start = torch.tensor(0.0)
    for name in "ab":
        pyro.sample(name, dist.Normal(pyro.param(f"m of {name}", start), positive(f"s of {name}")))


def half_uniform(x: Any) -> None:
    pyro.sample("a", dist.Uniform(0.0, 1.0))
    pyro.sample("b", dist.Normal(number("m"), positive("s")))


def in_a_loop(x: Any) -> None:
    for name in "ab":
        pyro.sample(name, dist.Normal(number("m"), positive("s")))


def scale(x: Any) -> None:
    sigma = pyro.sample("mu", dist.HalfCauchy(5.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(0.0, sigma), obs=x)


def column_in_event(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    pyro.sample("x", dist.Normal(mu.expand(len(x)), 1.0).to_event(1), obs=x[:, None])


def n_by_n(x: Any, y: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(mu * x[:, None], 1.0), obs=y)


def no_plate(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def named_twice(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    for row in x[:5]:
        pyro.sample("x", dist.Normal(mu, 1.0), obs=row)


def local(x: Any) -> None:
    with pyro.plate("rows", len(x), subsample_size=10) as index:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])


def nothing_latent(x: Any) -> None:
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def unobserved(x: Any) -> None:
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(pyro.sample("mu", dist.Normal(0.0, 10.0)), 1.0))


def q(distribution: Any, name: str = "mu") -> Any:
    return lambda *data: pyro.sample(name, distribution())


def unregistered(x: Any) -> None:
    pyro.sample("mu", dist.Normal(NET(x.mean()[None])[0], positive("s")))


def swapped(y: Any, x: Any) -> None:
    for name in "ab":
        pyro.sample(name, dist.Normal(number(f"m{name}") + 0 * x.mean(), positive(f"s{name}")))


def pair(name: str, model: Any, guide: Any, words: str, *data: Any, **more: Any) -> Case:
    return Case("pair", name, model, guide, data or (X,), words, **more)


MEANS = torch.linalg.solve(torch.tensor([[101.0, -100.0], [-100.0, 101.0]]), torch.stack([X.sum(), -X.sum()]))
DIFFERENCE = {name: (MEANS[i].item(), 101**-0.5) for i, name in enumerate("ab")}  # the mean-field optimum
CASES = [
    pair("obs= in the guide", normal, observes_in_guide, "'x'.*guide observes"),
    pair("one parameter name in model and guide", shared_name, q_normal, "parameter 's' is in the model and in"),
    pair("one parameter for two sites", two, same_parameter, "parameter 'm' is created twice"),
    pair("one parameter for all sites of a loop", two, in_a_loop, "'a', 'b'.*cannot differ"),
    pair("a leaf tensor in place of pyro.param", normal, q(lambda: dist.Normal(LEAF, positive("s"))), "'LEAF'"),
    pair("a network that is not registered", normal, unregistered, "Linear.*not trained"),
    pair("one row of y in a plate", one_row, None, "'y'.*'rows' of size 100", X, torch.tensor([2.0])),
    pair("a number for y in a plate", one_row, None, "'y'.*'rows' of size 100", X, torch.tensor(2.0)),
    pair("a plate larger than the rows", sized(1000, subsample=torch.arange(100)), q_normal, "'rows'.*1000.*100 rows"),
    pair("a subsample of all rows", sized(1000, subsample_size=100), q_normal, "'rows'.*1000.*100 rows"),
    pair("a plate of another size", sized(50), q_normal, "'x'.*rows"),
    pair("a plate of a larger size", sized(200), q_normal, "'x'.*rows"),
    pair("no plate", no_plate, q_normal, "'x'.*pyro.plate"),
    pair("a column inside an event", column_in_event, q_normal, "'x'.*event"),
    pair("(n, 1) against (n,)", n_by_n, q_normal, "'y'.*\\(100, 100\\)", X, Z),
    pair("the same data twice", twice, q_normal, "'x', 'again'.*count 2 times"),
    pair("all rows masked", masked, q_normal, "'x'.*mask"),
    pair("torch.randn in the model", noisy(lambda: torch.randn(())), q_normal, NOISE),
    pair("rsample by hand in the model", noisy(lambda: dist.Normal(0.0, 1.0).rsample()), q_normal, NOISE),
    pair("NumPy's noise in the model", noisy(lambda: float(np.random.normal())), q_normal, NOISE),
    pair("a generator of one's own", noisy(lambda: float(RNG.normal())), q_normal, "'x'.*another density"),
    pair("a counter in the model", noisy(counted), q_normal, "'x'.*count its calls"),
    pair(
        "noise by hand in the guide",
        normal,
        q(lambda: dist.Delta(number("m") + positive("s") * torch.randn(()))),
        NOISE,
    ),
    pair("data made up anew", lambda x: normal(torch.randn(100)), q_normal, NOISE),
    pair("Uniform for a real latent", two, half_uniform, "'a'.*Uniform.*Normal"),
    pair(
        "LogNormal for a real latent", normal, q(lambda: dist.LogNormal(number("l"), positive("s"))), "'mu'.*LogNormal"
    ),
    pair("HalfNormal for a real latent", normal, q(lambda: dist.HalfNormal(positive("s"))), "'mu'.*HalfNormal"),
    pair(
        "Beta for a positive latent",
        scale,
        q(lambda: dist.Beta(positive("a"), positive("b"))),
        "'mu'.*Beta.*HalfCauchy",
    ),
    pair("Normal for a positive latent", scale, q_normal, "'mu'.*HalfCauchy.*Normal"),
    pair(
        "Normal for a finite latent",
        observing(lambda k: dist.Normal(k, 1.0), dist.Bernoulli(0.5)),
        q_normal,
        "'mu'.*Bern",
    ),
    pair("model and guide swapped", q_normal, normal, "swapped"),
    pair("the class AutoNormal", normal, AutoNormal, "class AutoNormal"),
    pair("a distribution for a guide", normal, dist.Normal(0.0, 1.0), "guide.*distribution"),
    pair("a guide of other arguments", regression, lambda x: None, "guide takes the arguments", Z, LINE),
    pair("arguments in another order", regression, swapped, "another order", Z, LINE),
    pair("a latent that the guide forgets", two, q(lambda: dist.Normal(number("m"), 1.0), "a"), "no site 'b'"),
    pair("a site that the model does not have", normal, q(lambda: dist.Normal(number("m"), 1.0), "mus"), "'mus'.*'mu'"),
    pair(
        "a site of another shape",
        normal,
        q(lambda: dist.Normal(number("m").expand(2), 1.0).to_event(1)),
        r"'mu'.*\(2,\)",
    ),
    pair("two sites of one name", named_twice, q_normal, "two sites named 'x'"),
    pair(
        "a guide outside of the subsampled plate",
        local,
        q(lambda: dist.Normal(pyro.param("m", torch.zeros(10)), 1.0).to_event(1), "z"),
        "'z'.*'rows'",
    ),
    pair("no latent", nothing_latent, None, "no latent"),
    pair("nothing observed", unobserved, q_normal, "observes nothing"),
    pair("no parameters", normal, q(lambda: dist.Normal(0.0, 1.0)), "no parameters"),
    pair(
        "a detached parameter",
        normal,
        q(lambda: dist.Normal(number("m").detach(), positive("s"))),
        "'m' gets no gradient",
    ),
    pair(
        "a parameter read as a number",
        normal,
        q(lambda: dist.Normal(number("m").item(), positive("s"))),
        "'m' gets no grad",
    ),
    pair("two parameters from one tensor", two, one_tensor, "(?!)", right=DIFFERENCE),
]
