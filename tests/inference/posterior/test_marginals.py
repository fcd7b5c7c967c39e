"""Asking a fit changes nothing in it, tables keep the meaning of their columns, and later data is looked at too."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from credo.inference.stepping.steps import StepBlock
from credo.inference.variational.endings import FixedSteps
from credo.inference.variational.loop import loop

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"age": RNG.normal(size=30), "bmi": RNG.normal(size=30)})
TABLE["y"] = 3 * TABLE["age"] - TABLE["bmi"]
LINE = credo.load("linear_regression")


@pytest.fixture(scope="module")
def line() -> credo.Fit:
    return credo.fit(LINE.model, LINE.guide, TABLE, steps=300)


def test_columns_of_new_rows_go_by_name_not_by_place(line):
    rows = TABLE.head(4)
    straight = line.predict(50, rows)["y"]
    assert torch.equal(straight, line.predict(50, rows[["bmi", "y", "age"]])["y"])
    assert torch.equal(straight, line.predict(50, rows[["bmi", "age"]])["y"])
    beside = credo.fit(LINE.model, LINE.guide, TABLE[["age", "bmi"]], TABLE["y"], steps=300)
    assert torch.equal(beside.predict(50, rows[["bmi", "age"]], rows["y"])["y"], straight)


@pytest.mark.parametrize(
    ("columns", "words"), [(["age", "y"], ["missing ['bmi']"]), (["age", "bmi", "age2", "y"], ["not known ['age2']"])]
)
def test_columns_that_lack_or_are_too_many_are_named(line, columns, words):
    with pytest.raises(ValueError) as caught:
        line.predict(2, TABLE.assign(age2=1.0)[columns])
    for word in [*words, "X", "['age', 'bmi']"]:
        assert word in str(caught.value)


def network_model(net, x, y=None):
    pyro.module("net", net)
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(net(x).squeeze(-1) + z, 0.01), obs=y)


def test_prediction_neither_changes_the_fit_nor_depends_on_the_other_rows():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1)), torch.randn(20, 2)
    fit = credo.fit(network_model, None, net, x, x.sum(1), steps=20)
    first = fit.predict(5, net, x)["y"]
    fit.predict(5, net, x + 9)
    fit.sample(5), fit.summary(10)
    assert torch.equal(fit.predict(5, net, x)["y"], first)
    alone, among = fit.predict(500, net, x[:1])["y"][:, 0], fit.predict(500, net, x)["y"][:, 0]
    error = fit.sample(4000)["z"].std().item() / 500**0.5
    assert alone.mean().item() == pytest.approx(among.mean().item(), abs=8 * error)


def test_settings_are_kept_when_predicting():
    coin = credo.load("coin_toss")
    flips = torch.tensor([1.0, 0.0, 1.0])
    assert credo.fit(coin.model, coin.guide, flips, 3.0, 3.0, steps=2).predict(4, flips[:2])["flips"].shape == (4, 2)


def test_draws_of_a_subsampled_plate_have_all_rows():
    def model(y):
        with pyro.plate("N", 6, subsample_size=2) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])

    def guide(y):
        m = pyro.param("m", 10.0 * torch.arange(6.0))
        with pyro.plate("N", 6, subsample_size=2) as rows:
            pyro.sample("z", dist.Normal(m[rows], 1.0))

    fit = credo.fit(model, guide, torch.arange(6.0), steps=0)
    for draws in (fit.sample(400)["z"], fit.predict(400)["y"]):
        assert torch.allclose(draws.mean(0), 10.0 * torch.arange(6.0), atol=5 * (2 / 400) ** 0.5)
    assert fit.summary(10)["mean"].tolist() == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]


def test_rows_that_the_pair_chooses_itself_are_refused_where_they_stay():
    def model(y, rows):
        with pyro.plate("N", 6, subsample=rows):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])

    def guide(y, rows):
        m = pyro.param("m", torch.zeros(6))
        with pyro.plate("N", 6, subsample=rows):
            pyro.sample("z", dist.Normal(m[rows], 1.0))

    with pytest.raises(ValueError, match="plate 'N' takes the same rows in each step, 2 of 6"):
        credo.fit(model, guide, torch.arange(6.0), torch.tensor([0, 3]), steps=2)
    runner = credo.SVI(model, guide)  # a loop of one's own may choose other rows in each step
    runner.step(torch.arange(6.0), torch.tensor([0, 3]))


def test_a_point_has_no_density_to_compare():
    coin = credo.load("coin_toss")
    table = credo.compare(credo.fit(coin.model, "mle", torch.tensor([1.0, 0.0, 1.0]), steps=5))
    assert table.loc["p", "kl"] == np.inf and table.attrs["evidence_gap"] == np.inf


class Plain:
    """Not a module: holds one."""

    def __init__(self) -> None:
        self.net = nn.Linear(2, 1)


def test_a_network_of_a_plain_object_is_not_trained_in_place():
    holder, x = Plain(), torch.randn(5, 2)
    before = holder.net.weight.clone()
    fits = [credo.fit(lambda x, y: network_model(holder.net, x, y), None, x, x.sum(1), steps=5) for _ in range(2)]
    assert torch.equal(holder.net.weight, before) and fits[0].losses == fits[1].losses


def test_data_of_a_later_run_is_looked_at_too():
    coin = credo.load("coin_toss")
    svi = credo.SVI(coin.model, coin.guide)
    svi.step(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="0 or 1"):
        svi.run(torch.tensor([5.0, 7.0]), steps=3)


def test_a_list_of_numbers_is_data():
    coin = credo.load("coin_toss")
    assert credo.fit(coin.model, coin.guide, [1, 0, 1], steps=2).data[0].tolist() == [1, 0, 1]


def test_a_product_with_double_makes_the_run_double():
    def model(X, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
        with pyro.plate("N", len(X)):
            pyro.sample("y", dist.Normal(X @ w, 1.0), obs=y)

    X = RNG.normal(size=(4, 2))
    assert credo.fit(model, None, X, X[:, 0], steps=2).data[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("option", "value"), [("seed", -1), ("seed", 1.5), ("steps", 10.0), ("particles", 2.0)], ids=str
)
def test_counts_are_whole_numbers(option, value):
    coin = credo.load("coin_toss")
    with pytest.raises(ValueError, match=f"{option}: got {value}, wanted a whole number"):
        credo.fit(coin.model, coin.guide, torch.ones(2), **{"steps": 1, option: value})
    assert len(credo.fit(coin.model, coin.guide, torch.ones(2), steps=np.int64(2), seed=np.int64(3)).losses) == 2


@pytest.mark.parametrize("steps", [1, 2, 8, 24, 49, 200])
def test_so_many_steps_return_the_mean_of_the_last_quarter(steps):
    """Iterates 1, 2, ..., n: the mean of the last k is n - (k - 1) / 2."""
    done = []
    average, stopped = loop(
        lambda most: done.append(1.0) or StepBlock([0.0], torch.tensor([float(len(done))])),
        FixedSteps(steps),
        total=steps,
    )
    assert len(done) == steps and str(steps) in stopped
    assert average.item() == pytest.approx(steps - (max(1, steps // 4) - 1) / 2)


def test_a_posterior_sure_by_rounding_is_compared_without_dividing_by_zero():
    """The exact sd is 0: a guide that is not sure is infinitely many of them away; and it is no point estimate."""

    def model(y):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(3 * k, 1.0), obs=y)

    def guide(y):
        pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.0))))

    exact = SimpleNamespace(marginals={"k": dist.Bernoulli(logits=torch.tensor(900.0))}, log_evidence=-5.0)
    table = credo.compare(credo.fit(model, guide, torch.full((3,), 3.0), steps=1), exact)
    assert table.loc["k", "sd ratio"] == math.inf and table.loc["k", "error in sds"] == -math.inf
    assert math.isfinite(table.attrs["evidence_gap"])


def test_a_guide_sure_by_rounding_is_no_point():
    def model(y):
        k = pyro.sample("k", dist.Categorical(torch.ones(2)))
        pyro.sample("y", dist.Normal(k.float(), 1.0), obs=y)

    def guide(y):
        u = pyro.param("u", torch.tensor(900.0))
        pyro.sample("k", dist.Categorical(logits=torch.stack([u, torch.tensor(0.0)])))

    fit = credo.fit(model, guide, torch.tensor(0.0), steps=1, progress=False)
    log_evidence = math.log(0.5 * (1 + math.exp(-0.5))) - 0.5 * math.log(2 * math.pi)
    p = dist.Categorical(torch.tensor([1.0, math.exp(-0.5)]))
    exact = SimpleNamespace(marginals={"k": p}, log_evidence=log_evidence)
    table = credo.compare(fit, exact)
    elbo = math.log(0.5) - 0.5 * math.log(2 * math.pi)  # all on the value 0, where log q = 0
    assert table.attrs["elbo"] == pytest.approx(elbo, abs=1e-6) and table.attrs["elbo_error"] < 1e-6
    assert table.attrs["evidence_gap"] == pytest.approx(log_evidence - elbo, abs=1e-6)
    assert table.loc["k", "kl"] == pytest.approx(math.log(1 + math.exp(-0.5)), abs=1e-6)
