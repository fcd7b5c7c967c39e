"""What a newcomer does in the first week, each in at most ten lines of a user's code. Oracles where there are some.

Each program is the part of a test between `# begin` and `# end`; a test counts its lines.
"""

import inspect
import re
import sys

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import BayesianRidge
from torch import nn

import credo


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_regression_on_a_frame_has_the_names_of_its_columns():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    X, y, new = X[["bmi", "bp", "s5"]].iloc[:400], (y / 77.0)[:400], X[["bmi", "bp", "s5"]].iloc[400:]

    # begin
    def model(X, y=None):
        b = pyro.sample("b", dist.Normal(torch.zeros(X.shape[1]), 20.0).to_event(1))
        a = pyro.sample("a", dist.Normal(0.0, 5.0))
        s = pyro.sample("s", dist.HalfNormal(2.0))
        with pyro.plate("rows", len(X)):
            pyro.sample("y", dist.Normal(a + X @ b, s), obs=y)

    fit = credo.fit(model, None, X, y)
    table = fit.intervals(new, prob=0.9)
    # end
    rows = fit.summary()
    assert {"b[bmi]", "b[bp]", "b[s5]"} <= set(rows.index)
    ridge = BayesianRidge().fit(X, y)
    assert rows.loc[["b[bmi]", "b[bp]", "b[s5]"], "mean"].to_numpy() == pytest.approx(ridge.coef_, abs=1.0)
    assert list(table.index) == list(new.index)
    assert {"mean", "sd", "low", "high"} <= set(table.columns)
    mean, sd = ridge.predict(new, return_std=True)
    assert table["mean"].to_numpy() == pytest.approx(mean, abs=0.15)
    assert (table["high"] - table["low"]).to_numpy() == pytest.approx(2 * 1.645 * sd, rel=0.15)


@pytest.mark.filterwarnings("ignore:column county. 6 labels became the codes")
def test_radon_keeps_the_names_of_the_counties(rng):
    names = ["AITKIN", "ANOKA", "BECKER", "BROWN", "CARVER", "CASS"]
    county = pd.Series(rng.choice(names, 120), name="county")
    table = pd.DataFrame({"county": county, "floor": rng.integers(0, 2, 120).astype(float)})
    level = county.map({name: 1.0 + 0.3 * k for k, name in enumerate(names)})
    table["y"] = level - 0.7 * table["floor"] + 0.5 * rng.standard_normal(120)

    # begin
    def model(county, floor, y=None):
        m, t = pyro.sample("m", dist.Normal(0.0, 3.0)), pyro.sample("t", dist.HalfNormal(1.0))
        with pyro.plate("counties", 6):
            a = pyro.sample("a", dist.Normal(m, t))
        b = pyro.sample("b", dist.Normal(0.0, 3.0))
        with pyro.plate("rows", len(county)):
            pyro.sample("y", dist.Normal(a[county] + b * floor, 0.5), obs=y)

    fit = credo.fit(model, None, table)
    # end
    rows = fit.summary()
    assert [f"a[{name}]" in rows.index for name in names] == [True] * 6
    means = table.assign(y=table["y"] + 0.7 * table["floor"]).groupby("county")["y"].mean()
    for name in names:
        assert rows.loc[f"a[{name}]", "mean"] == pytest.approx(means[name], abs=0.25)
    assert "AITKIN" in str(fit.intervals(table.drop(columns="y").head(3))) or len(fit.intervals()) == 120


@pytest.mark.filterwarnings("ignore:site 'tau'. its sd under the normal")
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution")  # ArviZ's, of every NUTS run too
def test_eight_schools_go_to_arviz_with_theta():
    arviz = pytest.importorskip("arviz")
    y, sigma = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]), torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])

    # begin
    def model(sigma, y=None):
        mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("school", 8):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            theta = pyro.deterministic("theta", mu + tau * z)
            pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    idata = credo.fit(model, None, sigma, y).to_arviz()
    # end
    table = arviz.summary(idata, var_names=["theta", "mu"], kind="stats")
    assert len(table) == 9
    assert table.loc["mu", "mean"] == pytest.approx(4.4, abs=0.6)  # Stan's example model; long runs of NUTS
    assert np.isfinite(arviz.loo(idata).elpd_loo)


def test_a_heteroscedastic_network_scores_in_original_units(rng):
    x = torch.as_tensor(rng.uniform(-2, 2, (600, 1)), dtype=torch.float32)
    noise = torch.as_tensor(rng.standard_normal(600), dtype=torch.float32)
    y = 1000 * (torch.sin(2 * x[:, 0]) + (0.1 + 0.2 * (x[:, 0] > 0)) * noise)
    x_new, y_new, x, y = x[500:], y[500:], x[:500], y[:500]
    # begin
    net = nn.Sequential(nn.Linear(1, 30), nn.Tanh(), nn.Linear(30, 2))
    pair = credo.load("bnn_regression")
    fit = credo.fit(pair.model, pair.guide, net, x, y, steps=3000)
    scores = credo.metrics.regression(fit.predict(200, net, x_new)["y"], y_new)
    # end
    assert scores["rmse"] == pytest.approx(1000 * np.sqrt((0.1**2 + 0.3**2) / 2), rel=0.25)
    best = np.log(1000) + np.mean([np.log(0.1), np.log(0.3)]) + 0.5 * np.log(2 * np.pi * np.e)
    assert scores["nll"] == pytest.approx(best, abs=0.3)


def test_a_convolutional_network_is_saved_loaded_and_predicts(tmp_path):
    digits = credo.load("bnn_classifier").data()
    x, y = digits[1][:300].reshape(-1, 1, 8, 8), digits[2][:300]

    # begin
    def network():
        return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))

    pair, net = credo.load("bnn_classifier"), network()
    fit = credo.fit(pair.model, pair.guide, net, x, y, steps=300, batch_size=100)
    fit.save(tmp_path / "digits.credo")
    again = network()
    loaded = credo.load_fit(tmp_path / "digits.credo", pair.model, pair.guide, again, x, y)
    probs = loaded.predict(50, again, x)["probs"].mean(0)
    # end
    assert torch.equal(probs, fit.predict(50, net, x)["probs"].mean(0))
    assert (probs.argmax(-1) == y).float().mean() > 0.8


def test_the_assignments_of_a_mixture(rng):
    truth = rng.integers(0, 2, 200)
    x = torch.as_tensor(np.where(truth == 0, -2.0, 2.0) + rng.standard_normal(200), dtype=torch.float32)

    # begin
    def model(x):
        w = pyro.sample("w", dist.Dirichlet(torch.ones(2)))
        m = pyro.sample("m", dist.Normal(torch.tensor([-2.0, 2.0]), 1.0).to_event(1))
        with pyro.plate("rows", len(x)):
            k = pyro.sample("k", dist.Categorical(w))
            pyro.sample("x", dist.Normal(m[k], 1.0), obs=x)

    assigned = credo.fit(model, None, x).sample(500)["k"].float().mean(0)
    # end
    exact = torch.sigmoid(4 * x)  # at the true weights and means: N(x; 2, 1) / (N(x; 2, 1) + N(x; -2, 1))
    assert (assigned - exact).abs().mean() < 0.05


def test_the_smoothed_states_of_a_hidden_markov_model(rng):
    states = np.repeat([0, 1, 0], 10)
    y = torch.as_tensor(3.0 * states + rng.standard_normal(30), dtype=torch.float32)

    # begin
    def model(y):
        stay = pyro.sample("stay", dist.Beta(8.0, 2.0))
        k = 0
        for t in pyro.markov(range(len(y))):
            p = torch.where(torch.as_tensor(k) == 1, stay, 1 - stay)
            k = pyro.sample(f"k{t}", dist.Bernoulli(p)).long()
            pyro.sample(f"y{t}", dist.Normal(3.0 * k, 1.0), obs=y[t])

    fit = credo.fit(model, None, y)
    smoothed = torch.stack([fit.sample(400)[f"k{t}"].float().mean() for t in range(30)])
    # end
    assert ((smoothed > 0.5).numpy() == (states == 1)).mean() > 0.9


def test_a_gaussian_process_predicts_at_new_inputs():
    x = torch.linspace(0, 5, 25)
    y, new = torch.sin(x), torch.linspace(0.1, 4.9, 7)

    # begin
    def model(x, y=None):
        K = torch.exp(-0.5 * (x[:, None] - x[None]) ** 2) + 1e-4 * torch.eye(len(x))
        f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(x)), K))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(f, 0.1), obs=y)

    table = credo.fit(model, None, x, y).intervals(new)
    # end
    assert table["mean"].to_numpy() == pytest.approx(torch.sin(new).numpy(), abs=0.1)
    assert (table["sd"] < 0.2).all()


def test_a_schedule_with_a_callback_into_tensorboard(tmp_path):
    SummaryWriter = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    pair = credo.load("linear_regression")
    # begin
    with SummaryWriter(tmp_path) as writer:
        fit = credo.fit(
            pair.model, pair.guide, *pair.data(), steps=300, lr=lambda step: 0.05 * 0.99**step,
            callback=lambda svi, step, loss: writer.add_scalar("loss", loss, step),
        )  # fmt: skip
    # end
    assert len(fit.losses) == 300
    assert list(tmp_path.glob("events*"))


def test_a_run_goes_on_after_ctrl_c():
    pair = credo.load("linear_regression")

    def stop(svi, step, loss):
        if step == 100:
            raise KeyboardInterrupt

    first = credo.fit(pair.model, pair.guide, *pair.data(), steps=300, callback=stop)
    # begin
    fit = credo.fit(pair.model, pair.guide, *pair.data(), steps=300, start=first)
    # end
    assert len(first.losses) < 300
    assert fit.losses[0] < first.losses[0]
    assert (credo.compare(fit)["error in sds"].abs() < 0.3).all()


def test_four_seeds_agree():
    x = torch.tensor([1.0, 2.0, 4.0])

    # begin
    def model(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    fit = credo.fit(model, "mean_field", x, seeds=4)
    # end
    assert len(fit.seeds) == 4
    assert fit.sample(4000)["m"].mean() == pytest.approx(7 / 4, abs=0.05)


@pytest.mark.parametrize("name", sorted(n for n in globals() if n.startswith("test_")))
def test_no_program_is_longer_than_ten_lines(name):
    text = inspect.getsource(getattr(sys.modules[__name__], name))
    program = re.search(r"# begin\n(.*?)\n\s*# end", text, re.S)
    assert program is not None, f"{name}: no program between # begin and # end"
    lines = [line for line in program[1].splitlines() if line.strip()]
    assert len(lines) <= 10, f"{name}: {len(lines)} lines"
