"""Forms of prediction: identities of the two splits, agreement with all draws, and how much is in memory at once."""

from functools import partial

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import credo
from credo.forms import predictions, split_uncertainty

torch.manual_seed(0)
X = torch.randn(40, 2)


def fitted(name, outputs, y, **settings):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, outputs))
    pair = credo.load(name)
    programs = [partial(p, **settings) for p in (pair.model, pair.guide)] if settings else pair[1:3]
    return credo.fit(*programs, net, X, y, steps=20, progress=False, compile=False), net


def test_classes_are_the_averages_of_all_draws():
    fit, net = fitted("bnn_classifier", 3, torch.arange(40) % 3)
    draws = fit.predict(net, X, n=30)["probs"]
    found = predictions(fit, net, X, 30, batch=7)
    assert list(found) == ["one draw", "30 draws", "mean network"]
    torch.testing.assert_close(found["30 draws"], draws.mean(0))
    torch.testing.assert_close(found["one draw"], fit.predict(net, X, n=1)["probs"][0])
    torch.testing.assert_close(found["mean network"], fit.trained(net)(X).softmax(-1).detach())
    split = split_uncertainty(fit, net, X, 30, batch=7)
    assert abs(split["total"] - split["aleatoric"] - split["epistemic"]).max() < 1e-12
    wanted = credo.metrics.uncertainty(draws)
    assert abs(split - wanted).to_numpy().max() < 1e-5


@pytest.mark.parametrize(("outputs", "settings"), [(1, {}), (1, {"noise": 2.0}), (2, {})])
def test_numbers_obey_the_law_of_total_variance(outputs, settings):
    fit, net = fitted("bnn_regression", outputs, 50 + 9 * X[:, 0], **settings)
    split = split_uncertainty(fit, net, X, 500, batch=16)
    assert abs(split["total"] - split["aleatoric"] - split["epistemic"]).max() < 1e-9
    drawn = fit.predict(net, X, n=500)
    torch.testing.assert_close(
        torch.tensor(split["epistemic"]).float(), drawn["mean"].var(0, correction=0), rtol=1e-3, atol=1e-4
    )
    y = fit.predict(net, X, n=4000)["y"]
    torch.testing.assert_close(torch.tensor(split["total"]).sqrt().float(), y.std(0), rtol=0.12, atol=0.0)
    found = predictions(fit, net, X, 500)
    assert all(value.shape == (40, 2) and (value[:, 1] > 0).all() for value in found.values())
    torch.testing.assert_close(
        found["500 draws"][:, 1].double(), torch.tensor(split["total"]).sqrt(), rtol=1e-4, atol=0
    )


def test_a_last_layer_predicts_in_one_pass_too():
    fit, net = fitted("bnn_last_layer", 3, torch.arange(40) % 3)
    found = predictions(fit, net, X, 2000, batch=16)
    assert list(found) == ["one draw", "2000 draws", "mean network", "one pass"]
    torch.testing.assert_close(found["one pass"], found["2000 draws"], rtol=0, atol=0.01)


class Largest(TorchDispatchMode):
    """Counts the numbers of the largest tensor that an operator returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self.numbers = max(self.numbers, value.numel())
        return out


def test_no_tensor_holds_the_draws_of_all_rows():
    fit, net = fitted("bnn_classifier", 3, torch.arange(40) % 3)
    with Largest() as seen:
        predictions(fit, net, X.repeat(5, 1), 20, batch=20)  # 200 rows
    assert seen.numbers <= 20 * 20 * 4 < 20 * 200 * 3


def test_a_model_without_such_sites_is_refused():
    pair = credo.load("coin_toss")
    fit = credo.fit(pair.model, pair.guide, torch.ones(4), steps=5, progress=False, compile=False)
    with pytest.raises((ValueError, TypeError)):
        predictions(fit, nn.Linear(1, 1), torch.ones(4))


def test_arrays_and_tables_are_predicted_as_tensors_are_and_no_rows_are_refused():
    fit, net = fitted("bnn_regression", 1, 50 + 9 * X[:, 0])
    wanted, table = predictions(fit, net, X[:4], 2), pd.DataFrame(X[:4].numpy())
    for given in (X[:4].double().numpy(), table):
        found = predictions(fit, net, given, 2)
        assert all(torch.equal(found[form], value) for form, value in wanted.items())
    assert split_uncertainty(fit, net, table, 2).equals(split_uncertainty(fit, net, X[:4], 2))
    wrong = {"x is empty": X[:0], r"x\[None\]": X[0], r"rows of shape \(1,\), wanted \(2,\)": X[:4, :1]}
    for says, rows in wrong.items():
        with pytest.raises(ValueError, match=says):
            predictions(fit, net, rows, 2)


def test_whole_numbers_reach_an_embedding_as_they_are():
    words, y = torch.arange(40)[:, None] % 3, torch.arange(40) % 2
    net = nn.Sequential(nn.Embedding(3, 2), nn.Flatten(), nn.Linear(2, 2))
    pair = credo.load("bnn_classifier")
    fit = credo.fit(pair.model, pair.guide, net, words, y, steps=5, progress=False, compile=False)
    found = predictions(fit, net, words.numpy(), 9)["mean network"]
    torch.testing.assert_close(found, fit.trained(net)(words).softmax(-1).detach())


SLOW = pytest.mark.slow  # the same kind once more
ROWS = {"shared": False, "once": True}  # a mask for each row


@pytest.mark.parametrize(
    ("name", "masks"),
    [("bnn_dropout", ROWS), pytest.param("bnn_dropout", {}, marks=SLOW), ("bnn_dropconnect", {})],
)
def test_the_mean_network_of_learnt_rates_has_the_mean_of_the_masked_weights(name, masks):
    pair, net, y = credo.load(name), nn.Linear(2, 2), (X[:, 0] > 0).long()
    model, guide = partial(pair.model, **masks), partial(pair.guide, learn=True, **masks)
    fit = credo.fit(model, guide, net, X, y, steps=20, lr=0.1, progress=False, compile=False)
    kept = 1 - fit.params["weight.rate"]  # E[w keep / (1 - 0.1)] = w (1 - r) / 0.9
    assert abs(kept - 0.9) > 0.01
    logits = X @ (fit.params["weight.value"] * kept / 0.9).T + fit.params["bias.value"]
    torch.testing.assert_close(predictions(fit, net, X, 2)["mean network"], logits.softmax(-1))


def test_numbers_of_a_pair_of_ones_own_have_no_mean_network():
    """No softmax of them, which is 1: how `mean` follows from the output is known of credo's pairs alone."""
    net = nn.Linear(2, 1)
    weights = credo.nn.mean_field(net)

    def model(net, x, y=None):
        mean = pyro.deterministic("mean", 3 + credo.nn.bayesian(net)(x)[:, 0])
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(mean, pyro.param("sigma", torch.tensor(0.5))), obs=y)

    fit = credo.fit(model, lambda net, x, y=None: weights(x, y), net, X, X[:, 0], steps=2, progress=False)
    found = predictions(fit, net, X, 200)
    assert list(found) == ["one draw", "200 draws"]
    torch.testing.assert_close(found["200 draws"][:, 0], fit.predict(net, X, n=200)["mean"].mean(0))
