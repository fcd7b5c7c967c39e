"""Data as people hold it gives the posterior of the tensors that it means, from the first call to predictions."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyro.infer
import pyro.optim
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import credo

QUICK = dict(progress=False, compile=False, plan="fast")


def survival(t, ev):
    """Deaths and censored rows: the posterior is Gamma(1 + deaths, 1 + time)."""
    r = pyro.sample("r", dist.Gamma(1.0, 1.0))
    with pyro.plate("died", len(t[ev])):
        pyro.sample("t", dist.Exponential(r), obs=t[ev])
    pyro.factor("alive", -r * t[~ev].sum())


T = np.array([0.5, 1.0, 2.0, 0.25, 2.0])
EV = np.array([True, True, False, True, False])
FLAGS = {
    "bool": pd.Series(EV),
    "nullable": pd.Series(EV, dtype="boolean"),
    "objects": pd.Series(EV.tolist(), dtype=object),
    "list": EV.tolist(),
}


@pytest.mark.parametrize("ev", FLAGS.values(), ids=FLAGS)
def test_flags_choose_rows(ev):
    found = credo.exact(survival, T, ev).marginals["r"]
    assert abs(found.mean.item() - 4 / 6.75) < 1e-5
    table = pd.DataFrame({"t": T, "ev": ev})
    assert abs(credo.exact(survival, table).marginals["r"].mean.item() - 4 / 6.75) < 1e-5


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


X = torch.tensor([1.0, 2.0, -1.0, 0.5])
Y = torch.tensor([2.0, 4.5, -1.5, 1.0])
MEAN = ((X * Y).sum() / (0.01 + (X * X).sum())).item()  # of the posterior of w
ROWS = TensorDataset(X, Y)
GIVEN = {
    "by name": ((X,), {"y": Y}),
    "all by name": ((), {"y": Y, "x": X}),
    "dictionary": (({"y": Y.numpy(), "x": X.tolist(), "rows": 4},), {}),
    "table": ((pd.DataFrame({"y": Y.numpy(), "x": X.numpy()}),), {}),
    "labels in another order": ((pd.Series(X.numpy(), list("abcd")), pd.Series(Y.numpy(), list("abcd"))[::-1]), {}),
    "records": ((np.rec.fromarrays([Y.numpy(), X.numpy()], names=["y", "x"]),), {}),
    "data set": ((ROWS,), {}),
    "loader": ((DataLoader(ROWS, batch_size=4),), {}),
}


@pytest.mark.parametrize(("data", "named"), GIVEN.values(), ids=GIVEN)
def test_each_way_to_give_the_data_is_the_same_posterior(data, named):
    assert abs(credo.exact(line, *data, **named).marginals["w"].mean.item() - MEAN) < 1e-5
    fit = credo.fit(line, None, *data, **named, **QUICK, steps=1)
    assert torch.equal(fit.data[0], X) and torch.equal(fit.data[1], Y)
    assert credo.SVI(line, None, progress=False, compile=False).step(*data, **named) > 0


def test_the_batches_of_a_loader_are_the_batches_of_the_fit():
    rows = DataLoader(TensorDataset(X.repeat(5), Y.repeat(5)), batch_size=5)
    one = credo.fit(line, None, rows, **QUICK, steps=20)
    two = credo.fit(line, None, X.repeat(5), Y.repeat(5), batch_size=5, **QUICK, steps=20)
    assert one.losses == two.losses


def test_predictions_take_data_by_name():
    fit = credo.fit(line, None, X, Y, **QUICK, steps=1)
    assert torch.equal(fit.predict(3, x=X[:2])["y"], fit.predict(3, X[:2])["y"])
    assert credo.log_likelihood(fit, 10, x=X, y=Y).values.shape == (4,)
    with pytest.raises(ValueError, match="x: got 'a', wanted a tensor as in the fit, where it has shape"):
        fit.predict(3, "a")
    with pytest.raises(TypeError, match=r"'sed'.*did you mean 'seed'"):
        fit.predict(3, x=X, sed=1)


def test_times_in_seconds_are_warned_of_and_smaller_numbers_are_not():
    seconds = 1.7e9 + np.arange(4.0)
    with pytest.warns(UserWarning, match="x: single precision rounds these values by up to"):
        credo.fit(line, None, seconds, Y, **QUICK, steps=1)
    credo.fit(line, None, seconds - seconds.mean(), Y, **QUICK, steps=1)
    with pytest.warns(UserWarning, match="distinct values become equal"):
        credo.plan(line, None, seconds.astype(int), Y)


MISTAKES = {
    "no data": (lambda: credo.fit(line, None), "no data: the model wants x"),
    "misaligned": (lambda: credo.fit(line, None, pd.Series(X), pd.Series(Y).iloc[::-1]), "x and y have .* indexes"),
    "masked": (lambda: credo.fit(line, None, X, np.ma.masked_array(Y, mask=[0, 0, 1, 0])), "y: 1 of 4 .* masked"),
    "a slip": (lambda: credo.fit(line, None, X, Y, stpes=3), "'stpes'.*did you mean 'steps'"),
    "too many": (lambda: credo.fit(line, None, X, Y, X), "got 3 arguments of data, and the model takes 2: x, y"),
    "list of tensors": (lambda: credo.fit(line, None, X, list(Y)), r"site 'y': .* a list, wanted a tensor.*stack"),
    "complex": (lambda: credo.fit(line, None, X, 1j * Y), "site 'y': the observed values are complex"),
    "Pyro's optimiser": (lambda: credo.fit(line, None, X, Y, optim=pyro.optim.Adam({"lr": 0.1})), "credo.SVI"),
    "its function": (lambda: credo.fit(line, None, X, Y, optim=pyro.optim.Adam), "optim: got Adam"),
    "a word as rate": (lambda: credo.fit(line, None, X, Y, lr="a"), "lr: got 'a', wanted a positive"),
    "a number as plan": (lambda: credo.fit(line, None, X, Y, plan=5), "plan: got 5"),
    "a seed too large": (lambda: credo.fit(line, None, X, Y, seed=2**32), "seed: got 4294967296"),
    "no posterior": (lambda: credo.compare(credo.fit(line, None, X, Y, **QUICK, steps=1), 5), "exact: got a int"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(call, message, unchanged):
    with unchanged(), pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fit: fit.sample(X), r"n: got a Tensor of shape \(4,\), wanted the number of draws: sample\(1000\)"),
        (lambda fit: fit.summary("w"), r"n: got 'w', wanted the number of draws; .*summary\(\).loc\['w'\]"),
        (lambda fit: fit.sample("w"), r"n: got 'w'.*sample\(\)\['w'\]"),
        (lambda fit: credo.log_likelihood(fit, pd.DataFrame({"x": [1.0]})), "site 'y' is not observed"),
        (lambda fit: fit.predict(2, seed="a"), "seed: got 'a'"),
    ],
)
def test_data_or_a_name_in_the_place_of_n_is_named(call, message):
    fit = credo.fit(line, None, X, Y, **QUICK, steps=1)
    with pytest.raises(ValueError, match=message):
        call(fit)


def test_pyros_runner_takes_data_by_name_too():
    def guide(x, y=None):
        pyro.sample("w", dist.Normal(pyro.param("m", torch.tensor(0.0)), 0.1))

    svi = credo.SVI(line, guide, pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO())
    assert len(svi.run(X, y=Y, steps=3).losses) == 3
    with pytest.raises(TypeError, match=r"'stpes'.*did you mean 'steps'"):
        svi.run(X, Y, steps=3, stpes=4)
