"""The summary shows finite latents by their likeliest value or their shares, and is not swamped by long sites."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.distributions.summaries import LONGEST
from credo.inference.tables.summary import summary

X = torch.tensor([-3.0, -2.5, 2.0, 2.6, 0.4])


def known(x, likelihood=1.0):
    """Everything about the clusters is known, so p(k | x) is too; one latent is left for the guide."""
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    pyro.deterministic("square", m**2)
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.5, 0.2])))
        pyro.deterministic("centre", torch.tensor([-2.0, 0.0, 2.0])[k])
        pyro.sample("x", dist.Normal(torch.tensor([-2.0, 0.0, 2.0])[k], 1.0), obs=x)


def guide(x):
    pyro.sample("m", dist.Normal(pyro.param("loc", torch.tensor(1.0)), 0.5))


def posterior(x):
    centres = torch.tensor([-2.0, 0.0, 2.0])
    return (torch.tensor([0.3, 0.5, 0.2]).log() + dist.Normal(centres, 1.0).log_prob(x[:, None])).softmax(-1)


def test_a_short_site_has_a_row_for_each_scalar_with_its_likeliest_value():
    fit = credo.fit(known, guide, X, steps=0, progress=False)
    table = summary(fit, 4000, 0)
    assert list(table.index) == [
        "m",
        "square",
        *(f"k[{i}]" for i in range(5)),
        *(f"centre[{i}]" for i in range(5)),
    ]
    assert list(table.columns) == ["mean", "sd", "5%", "50%", "95%", "mode", "P(mode)"]
    p = posterior(X)
    rows = table.loc[[f"k[{i}]" for i in range(5)]]
    assert rows["mode"].tolist() == p.argmax(-1).tolist()
    assert rows["P(mode)"].tolist() == pytest.approx(p.max(-1).values.tolist(), abs=0.04)
    means = (p * torch.arange(3.0)).sum(-1)
    assert rows["mean"].tolist() == pytest.approx(means.tolist(), abs=0.06)
    assert table.loc[["m", "square", "centre[0]"], "mode"].isna().all()
    assert table.loc["square", "mean"] == pytest.approx(1.25, abs=0.1)  # 1 + 0.5^2


def test_a_long_site_has_the_share_of_the_rows_with_each_value():
    x = X.repeat(LONGEST)
    fit = credo.fit(known, guide, x, steps=0, progress=False)
    table = summary(fit, 1000, 0)
    assert list(table.index) == ["m", "square", "share of k = 0", "share of k = 1", "share of k = 2"]
    p = posterior(x)
    shares = table.loc[[f"share of k = {i}" for i in range(3)]]
    sds = (p * (1 - p)).sum(0).sqrt() / len(x)  # rows are independent
    assert shares["sd"].tolist() == pytest.approx(sds.tolist(), rel=0.15)
    assert shares["mean"].tolist() == pytest.approx(p.mean(0).tolist(), abs=5 * sds.max().item() / 1000**0.5)


def test_one_hot_values_are_named_by_their_place():
    def model(x):
        pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.OneHotCategorical(torch.tensor([0.2, 0.8])))
            pyro.sample("x", dist.Normal(k[..., 0], 1.0), obs=x)

    fit = credo.fit(model, guide, torch.zeros(LONGEST), steps=0, progress=False)
    table = summary(fit, 500, 0)
    assert list(table.index) == ["m", "share of k = 0", "share of k = 1"]
    one = dist.Normal(torch.tensor([1.0, 0.0]), 1.0).log_prob(torch.tensor(0.0)) + torch.tensor([0.2, 0.8]).log()
    assert table["mean"].iloc[1:].tolist() == pytest.approx(one.softmax(0).tolist(), abs=0.02)


def test_a_fit_without_them_has_the_columns_of_before():
    coin = credo.load("coin_toss")
    fit = credo.fit(coin.model, coin.guide, torch.tensor([1.0, 0.0]), steps=0)
    assert list(fit.summary(100).columns) == ["mean", "sd", "5%", "50%", "95%"]
