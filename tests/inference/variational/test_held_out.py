"""Held-out rows end a run that only learns its training rows by heart, and no other."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo

torch.manual_seed(3)
X = torch.randn(60, 12)
Y = X[:, 0] + 0.5 * torch.randn(60)
X_VAL = torch.randn(200, 12)
Y_VAL = X_VAL[:, 0] + 0.5 * torch.randn(200)


def model(x, y):
    b = pyro.sample("b", dist.Normal(0.0, 10.0).expand([x.shape[1]]).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ b, 0.5), obs=y)


def by_heart(net, x, y):
    """A large network at one point of its weights, which fits noise once it has fitted the rest."""
    pyro.module("net", net)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(net(x).squeeze(-1), pyro.param("sd", torch.tensor(-1.0)).exp()), obs=y)


def nothing(net, x, y):
    pass


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 1))


def fit_by_heart(**options):
    options = {"lr": 0.003, "steps": 3000, "progress": False, "plan": "fast", "seed": 1, **options}
    return credo.fit(by_heart, nothing, network(), X, Y, **options)


def density(fit):
    """The oracle: log p(y | x) of the validation rows under the trained network, in nats a row."""
    net = fit.trained(fit.data[0])
    with torch.no_grad():
        return dist.Normal(net(X_VAL).squeeze(-1), fit.params["sd"].exp()).log_prob(Y_VAL).mean().item()


def test_a_run_that_learns_by_heart_is_ended_with_the_best_parameters():
    fit = fit_by_heart(validation=(X_VAL, Y_VAL), callback_every=50, patience=4)
    n, words = len(fit.losses), fit.stopped
    assert n < 2500 and words.startswith(f"ended by the held-out rows at step {n:,}: no gain in the last 4 looks")
    assert f"kept the parameters of step {n - 200:,} ({density(fit):,.4g} nats a row)" in words and not fit.converged
    assert density(fit) > density(fit_by_heart(steps=n)) + 0.02


def test_a_run_that_goes_on_gaining_is_not_ended():
    fit = credo.fit(model, None, X, Y, validation=(X_VAL, Y_VAL), steps=600, lr=0.005, progress=False, plan="fast")
    assert len(fit.losses) == 600 and fit.stopped.startswith("after the 600 steps asked for")
    assert fit.method == "mean field"


def test_looks_change_nothing_of_the_run():
    plain = credo.fit(model, "mean_field", X, Y, steps=250, plan="fast", progress=False, batch_size=20)
    options = {"validation": (X_VAL, Y_VAL), "callback_every": 10, "patience": 100}
    watched = credo.fit(model, "mean_field", X, Y, steps=250, plan="fast", progress=False, batch_size=20, **options)
    assert watched.losses == plain.losses


@pytest.mark.parametrize("kind", ["tensors", "arrays", "frame", "names"])
def test_a_share_of_the_rows_is_held_out_and_not_trained_on(kind):
    def of_columns(x, y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(a * x, 1.0), obs=y)

    x, y = X[:, 0], Y
    data = {
        "tensors": ((x, y), {}),
        "arrays": ((x.numpy(), y.tolist()), {}),
        "frame": ((pd.DataFrame({"y": y.numpy(), "x": x.numpy()}),), {}),
        "names": ((), {"y": pd.Series(y.numpy()), "x": x}),
    }
    given, named = data[kind]
    options = {"steps": 40, "validation": 0.25, "progress": False, "plan": "fast", "compile": False}
    fits = [credo.fit(of_columns, None, *given, seed=seed, **options, **named) for seed in (1, 1, 2)]
    for fit in fits:
        assert [len(v) for v in fit.data] == [45, 45] and torch.equal(fit.data[1], Y[_places(fit.data[0], x)])
    assert torch.equal(fits[0].data[0], fits[1].data[0]) and not torch.equal(fits[0].data[0], fits[2].data[0])
    if kind != "frame":
        runner = credo.SVI(of_columns, "mean_field", seed=1, plan="fast", compile=False, progress=False)
        again = runner.run(*given, steps=40, validation=0.25, **named)
        assert torch.equal(again.data[0], fits[0].data[0])


def _places(some, every):
    return (some[:, None] == every).nonzero()[:, 1]


def test_latents_of_a_row_count_by_their_weights():
    """A VAE in one dimension: y_n ~ N(z_n + m, 1), z_n ~ N(0, 1), so that y_n ~ N(m, 2)."""

    def local(y):
        m = pyro.param("m", torch.tensor(0.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)) + m, 1.0), obs=y)

    def amortised(y):
        a, b = pyro.param("a", torch.tensor(0.0)), pyro.param("b", torch.tensor(0.0))
        with pyro.plate("N", len(y)):
            pyro.sample("z", dist.Normal(a * y + b, 0.7))

    y = 3 + 2**0.5 * torch.randn(300)
    fit = credo.fit(local, amortised, y, validation=0.3, steps=600, lr=0.05, progress=False, plan="fast")
    assert fit.params["m"].item() == pytest.approx(fit.data[0].mean().item(), abs=0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"validation": 0.0}, "validation: got 0.0, wanted a share"),
        ({"validation": 1}, "validation: got 1, wanted a share"),
        ({"validation": True}, "validation: got True"),
        ({"validation": 0.001}, "validation: got 0.001 of 60 rows"),
        ({"validation": X_VAL}, "validation: got 1 arguments, wanted .* 2 as in the data"),
        ({"validation": (X_VAL, Y_VAL[:3])}, "validation: "),
        ({"validation": 0.5, "patience": 0}, "patience: got 0"),
    ],
    ids=["zero", "one", "true", "no row", "one argument", "other lengths", "patience"],
)
def test_what_cannot_be_held_out_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        credo.fit(model, "mean_field", X, Y, steps=10, progress=False, compile=False, plan="fast", **options)


def test_a_model_whose_rows_have_no_likelihood_is_refused_before_the_first_step():
    def in_one(x, y):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.MultivariateNormal(b * x[:, 0], torch.eye(len(x))), obs=y)

    with pytest.raises(ValueError, match="validation: no plate"):
        credo.fit(in_one, "mean_field", X, Y, steps=10, progress=False, compile=False, validation=np.float64(0.2))


def test_seeds_are_compared_on_the_same_rows():
    options = {"steps": 60, "validation": 0.25, "progress": False, "plan": "fast", "compile": False}
    fits = credo.fit(model, "mean_field", X, Y, seeds=2, **options)
    alone = credo.fit(model, "mean_field", X, Y, seed=0, **options)
    assert torch.equal(fits.data[0], alone.data[0])


def of_each_row(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def test_rows_that_do_not_stand_alone_are_said_to_be_the_held_out_ones():
    with pytest.raises(ValueError, match=r"validation: .*Model and guide run on the held-out rows alone"):
        credo.fit(of_each_row, "mean_field", torch.ones(10), validation=0.3, steps=5, progress=False, compile=False)
