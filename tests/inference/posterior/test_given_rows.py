"""Draws of given rows are those of all rows, with the others left out."""

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.posterior.given_rows import given_rows

N = 12
X = torch.linspace(-2.0, 2.0, N)


def model(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.deterministic("twice", 2 * z)
        pyro.sample("x", dist.Normal(z + w.sum(-1), 0.5), obs=x)


def read(x):
    """Computes the latents of a row from its data."""
    a = pyro.param("a", torch.tensor(0.5))
    pyro.sample("mu", dist.Normal(a, 0.1))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(a * x, 0.1))
        pyro.sample("w", dist.Normal(torch.stack([x, -x], -1), 0.1).to_event(1))


def held(x):
    """Holds a number for each row."""
    loc = pyro.param("loc", lambda: X.clone())
    scale = pyro.param("scale", lambda: torch.full((N,), 0.1), constraint=constraints.positive)
    pyro.sample("mu", dist.Normal(0.0, 0.1))
    with pyro.plate("N", N):
        pyro.sample("z", dist.Normal(loc, scale))
        pyro.sample("w", dist.Normal(torch.stack([loc, -loc], -1), 0.1).to_event(1))


def rows_of_tables(x):
    """Holds a number for each row it is given."""
    loc = pyro.param("loc", lambda: X.clone())
    pyro.sample("mu", dist.Normal(0.0, 0.1))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(loc, 0.1))
        pyro.sample("w", dist.Normal(torch.stack([loc, -loc], -1), 0.1).to_event(1))


def shifted(x):
    """Reads all rows for what they share."""
    pyro.sample("mu", dist.Normal(x.sum(), pyro.param("a", torch.tensor(0.1))))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(x, 0.1))
        pyro.sample("w", dist.Normal(torch.stack([x, -x], -1), 0.1).to_event(1))


@pytest.fixture(scope="module")
def fits():
    how = {"steps": 1, "compile": False, "progress": False, "plan": "fast", "lr": 1e-9}
    table = pd.Series(X.numpy(), index=[f"r{i}" for i in range(N)])
    return {guide.__name__: credo.fit(model, guide, table, **how) for guide in GUIDES}


GUIDES = (read, held, rows_of_tables, shifted)


@pytest.mark.parametrize(
    ("guide", "alone"), [("read", True), ("held", False), ("rows_of_tables", True), ("shifted", False)]
)
def test_draws_of_given_rows_are_those_of_all_rows(fits, guide, alone):
    fit, rows = fits[guide], [3, -1, 5]
    assert (given_rows(fit, rows).part is not None) == alone
    some, every = fit.sample(4000, rows=rows), fit.sample(4000)
    assert {name: tuple(v.shape[1:]) for name, v in some.items()} == {"mu": (), "z": (3,), "w": (3, 2), "twice": (3,)}
    torch.testing.assert_close(some["twice"], 2 * some["z"])
    for name, values in some.items():
        wanted = every[name] if name == "mu" else every[name][:, rows]
        torch.testing.assert_close(values.mean(0), wanted.mean(0), atol=0.02, rtol=0)
        torch.testing.assert_close(values.std(0), wanted.std(0), atol=0.02, rtol=0)


def test_rows_are_numbers_slices_masks_and_labels(fits):
    fit, wanted = fits["read"], [2, 3]
    for rows in (wanted, slice(2, 4), torch.tensor(wanted), [i in wanted for i in range(N)], ["r2", "r3"]):
        assert given_rows(fit, rows).numbers.tolist() == wanted
    assert given_rows(fit, 2).labels == ("r2",)
    for rows in (N, [], "r99", [0.5], [True, False]):
        with pytest.raises(ValueError, match=r"^rows: got"):
            fit.sample(2, rows=rows)


def test_the_summary_calls_rows_by_their_labels(fits):
    for fit in fits.values():
        table = fit.summary(2000, rows=[3, 7])
        assert list(table.index) == [
            *("mu", "z[r3]", "z[r7]", "w[r3,0]", "w[r3,1]", "w[r7,0]", "w[r7,1]", "twice[r3]", "twice[r7]")
        ]
        assert table.loc["w[r7,1]", "mean"] == pytest.approx(-X[7].item(), abs=0.02)


def test_finite_latents_of_given_rows_are_drawn_given_their_data():
    def mixture(x):
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(8 * k + z, 0.1), obs=x)

    def guide(x):
        with pyro.plate("N", len(x)):
            pyro.sample("z", dist.Normal(x.remainder(4), pyro.param("s", torch.tensor(0.1))))

    x = torch.tensor([0.0, 8.5, 0.2, 8.1])
    fit = credo.fit(mixture, guide, x, steps=1, compile=False, progress=False)
    assert fit.sample(20, rows=[1, 2])["k"].mean(0).tolist() == [1.0, 0.0]


def test_rows_have_their_finite_latents_where_the_guide_has_none_of_rows():
    def faulty(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.3))
            pyro.deterministic("mean", a + 2 * k)
            pyro.sample("x", dist.Normal(a + 2 * k, 1.0), obs=x)

    fit = credo.fit(faulty, "mean_field", X, steps=50, batch_size=6, plan="fast", compile=False, progress=False)
    rows, n = [2, 7, 11], 20_000
    draws = fit.sample(n, rows=rows)
    a, k = draws["a"][:, None], draws["k"]
    assert k.shape == (n, 3) and torch.equal(draws["mean"], a + 2 * k)
    odds = [dist.Normal(a + 2 * value, 1.0).log_prob(X[rows]) for value in (0, 1)]
    p = torch.sigmoid(odds[1] - odds[0] + torch.tensor(0.3 / 0.7).log())
    assert ((k - p).mean(0).abs() < 4 * ((p * (1 - p)).mean(0) / n).sqrt()).all()


def test_data_without_rows_have_none():
    def alone(c):
        z = pyro.sample("z", dist.Normal(c, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(ValueError, match="no tensor with rows"):
        credo.fit(alone, "mean_field", 1.0, steps=1, progress=False).sample(2, rows=0)
