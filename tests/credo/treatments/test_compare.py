"""One table of a network under many treatments: what every row obeys, and what a failing one may not do."""

import copy
import functools
import os
import signal

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from torch import nn

import credo
from credo.treatments.compare import EQUAL_COST, TREATMENTS
from credo.treatments.mean_field import mean_field
from credo.treatments.points import points, train
from credo.treatments.treatment import Budget, Trained
from credo.treatments.warm import warm

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(90, 5, generator=GENERATOR)
LABELS = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
NUMBERS = 30 + 5 * X[:, 0] + torch.randn(90, generator=GENERATOR)
COSTS = ["train_seconds", "predict_seconds"]
QUICK = {"steps": 6, "draws": 3, "progress": False}
FEW = ["points", "swag", "ensemble"]


def net(outputs: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, outputs))


def constant(net, x, y, budget):
    """A treatment of one's own, which has nothing to learn."""
    return Trained(lambda x, draws: torch.full((draws, len(x), 3), 1 / 3), 7, "one third for each class")


def failing(net, x, y, budget):
    net[0].weight.data.zero_()
    pyro.param("left behind", torch.ones(1))
    torch.manual_seed(17)
    raise RuntimeError("no such luck")


def test_the_table_has_a_row_for_each_and_the_ensemble_of_equal_cost():
    one = net(3)
    before = copy.deepcopy(one.state_dict())
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    table = credo.compare_treatments(one, X, LABELS, ood=X + 9, treatments=[*FEW, constant], **QUICK)
    assert list(table.index) == [*FEW, "constant", EQUAL_COST]
    assert list(table.columns[:5]) == ["error", "nll", "ece", "brier", "ood_auroc"]
    assert np.isfinite(table.drop(columns="words").to_numpy(float)).all()
    assert all(torch.equal(before[name], w) for name, w in one.state_dict().items()) and one.training
    assert torch.equal(torch.get_rng_state(), state[0]) and np.random.get_state()[1].tolist() == state[1]
    assert table.loc["constant", "nll"] == pytest.approx(np.log(3)) and table.loc["constant", "ood_auroc"] == 0.5
    assert table.loc["constant", "megabytes"] == pytest.approx(28e-6)
    assert table.attrs["data"] == "72 rows to learn from, 18 held out at random (seed 0), 90 unlike them"
    assert table.attrs["words"]["constant"] == "one third for each class"


def test_the_seed_reproduces_the_scores_and_another_one_does_not():
    part = {"treatments": ["swag", "ensemble"], **QUICK}
    x, y = X[:60], LABELS[:60]
    first, again, other = (
        credo.compare_treatments(net(3), x, y, X[60:], LABELS[60:], seed=seed, **part).drop(columns=[*COSTS])
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert (first["nll"] != other["nll"]).all()


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regression_has_scores_in_the_units_of_y(outputs):
    table = credo.compare_treatments(net(outputs), X.numpy(), NUMBERS.numpy(), treatments=FEW, **QUICK)
    assert list(table.columns) == ["rmse", "nll", "coverage", *COSTS, "megabytes", "words"]
    far = credo.compare_treatments(net(outputs), X, 1000 * NUMBERS, treatments=FEW, **QUICK)
    assert np.allclose(far["rmse"], 1000 * table["rmse"], rtol=1e-3)
    assert np.allclose(far["nll"], table["nll"] + np.log(1000), rtol=1e-3)


def test_a_treatment_that_raises_loses_its_own_row_alone():
    chosen = {"one": "points", "bad": failing, "last": "points"}
    with pytest.warns(UserWarning, match="bad: its row is NaN, since it raised RuntimeError: no such luck"):
        table = credo.compare_treatments(net(3), X, LABELS, treatments=chosen, **QUICK)
    assert list(table.index) == ["one", "bad", "last", EQUAL_COST]
    assert table.loc["bad"].drop("words").isna().all() and "no such luck" in table.loc["bad", "words"]
    assert table.loc["one", "nll"] == table.loc["last", "nll"]
    assert "left behind" not in pyro.get_param_store()


def pressed(net, x, y, budget):
    os.kill(os.getpid(), signal.SIGINT)
    return constant(net, x, y, budget)


def pressed_in_a_fit(net, x, y, budget):
    """A fit makes a result of Ctrl-C; half a treatment must not become a row."""

    def model(x):
        os.kill(os.getpid(), signal.SIGINT)
        pyro.sample("z", pyro.distributions.Normal(0.0, 1.0))

    credo.fit(model, "mean_field", x, steps=5, progress=False, compile=False)
    return constant(net, x, y, budget)


@pytest.mark.parametrize("interrupted", [pressed, pressed_in_a_fit])
def test_ctrl_c_returns_the_rows_so_far(interrupted):
    chosen = {"one": "points", "two": interrupted, "three": "points"}
    table = credo.compare_treatments(net(3), X, LABELS, treatments=chosen, **QUICK)
    assert list(table.index) == ["one"]
    assert table.attrs["interrupted"] == "Ctrl-C after 1 of 4 treatments"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_rates_of_single_rows():
    table = credo.compare_treatments(
        net(3), X, LABELS, treatments={"one": points, "two": points}, lr={"two": 0.1}, **QUICK
    )
    one = points(net(3), X, LABELS, Budget(6, 90, 1e-3))
    assert one.words == table.loc["one", "words"] and table.loc["one", "nll"] != table.loc["two", "nll"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"treatments": ["swog"]}, "did you mean 'swag'"),
        ({"treatments": ["points", "points"]}, "more than once"),
        ({"treatments": 3}, "treatments: got 3, wanted some of"),
        ({"steps": 0}, "steps: got 0"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"lr": -1.0}, "lr: got -1.0"),
        ({"lr": {"dropout": 0.1}, "treatments": ["points"]}, "no rows of the table"),
        ({"net": "net"}, "wanted a torch.nn.Module"),
        ({"y": LABELS[:5]}, "5 entries for 90 rows"),
        ({"y": LABELS.float()}, "pass y.long()"),
        ({"y": LABELS[:, None]}, "pass y"),
        ({"x_test": X}, "y_test: got none"),
        ({"ood": X[:, :2]}, "ood: got rows of shape"),
        ({"ood": X, "y": NUMBERS, "net": net(1)}, "ood: got rows unlike the others for a regression"),
        ({"x": X * torch.nan}, "missing or infinite"),
        ({"x_test": X, "y_test": NUMBERS}, "wanted the kind of y"),
        ({"x_test": X, "y_test": LABELS + 3}, "y_test: got classes from 3"),
        ({"x": X[:2], "y": LABELS[:2]}, "x_test: got none, and 2 rows of x"),
        ({"treatments": {EQUAL_COST: points}}, "which credo adds itself"),
        ({"x": pd.DataFrame(X.numpy()).assign(sex="f")}, "x: sex holds no numbers"),
        ({"x": pd.DataFrame(X.numpy()).astype("Float64").mask(X.numpy() > 2)}, "are missing or"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(changes, words):
    given = {"net": net(3), "x": X, "y": LABELS, **QUICK, **changes}
    with pytest.raises(ValueError, match=words):
        credo.compare_treatments(**given)


@pytest.mark.slow
@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize(("outputs", "y"), [(3, LABELS), (1, NUMBERS)])
def test_every_treatment_obeys_the_same_laws(name, outputs, y):
    """The network stays, the seed reproduces, the shapes and sums are those of `Trained`, in pieces as at once.

    A treatment of classes alone refuses numbers with a sentence.
    """
    one, budget = net(outputs), Budget(30, 32, 1e-2, seed=1, device=torch.device("cpu"))
    before = copy.deepcopy(one.state_dict())
    try:
        trained = TREATMENTS[name](copy.deepcopy(one), X, y, budget)
    except ValueError as error:
        assert y is NUMBERS and "y" in str(error)
        return
    predicted = trained.predict(X[:20], 4)
    assert predicted.shape[1:] == (20, 3 if y is LABELS else 2) and predicted.dim() == 3
    if y is LABELS:
        assert torch.allclose(predicted.sum(-1), torch.ones(()), atol=1e-4) and (predicted >= 0).all()
    else:
        assert (predicted[..., 1] > 0).all()
    again = TREATMENTS[name](copy.deepcopy(one), X, y, budget).predict(X[:20], 4)
    assert torch.allclose(predicted, again, rtol=1e-4, atol=1e-5)
    assert trained.numbers > 0 and trained.words
    assert all(torch.equal(before[key], w) for key, w in one.state_dict().items())


@pytest.mark.slow
def test_mean_field_is_the_fit_of_the_pair():
    budget = Budget(20, 32, 1e-3, seed=2)
    one, pair = net(3), credo.load("bnn_classifier")
    predicted = mean_field(one, X, LABELS, budget).predict(X[:7], 5)
    fit = credo.fit(pair.model, pair.guide, one, X, LABELS, steps=20, batch_size=32, lr=1e-2, seed=2, progress=False)
    assert torch.allclose(predicted, fit.predict(5, one, X[:7])["probs"])


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
def test_whole_numbers_in_x_score_as_the_same_floating_point_numbers(outputs, kind):
    whole, y = (3 * X.abs()).to(kind), NUMBERS if outputs == 1 else LABELS
    tables = [credo.compare_treatments(net(outputs), x, y, treatments=FEW, **QUICK) for x in (whole, whole.float())]
    same = [table.drop(columns=[*COSTS, "words"]) for table in tables]
    assert same[0].equals(same[1]) and np.isfinite(same[0].to_numpy(float)).all()


def test_an_embedding_takes_whole_numbers_as_they_are():
    indices = torch.randint(0, 4, (90, 2), generator=torch.Generator().manual_seed(1))
    words = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(6, 3))
    table = credo.compare_treatments(words, indices, LABELS, treatments=["points"], **QUICK)
    assert np.isfinite(table["nll"]).all()


def test_columns_that_may_be_missing_score_as_plain_ones():
    x, y = pd.DataFrame(X.numpy()), pd.Series(LABELS.numpy())
    given = [(x, y), (x.astype("Float64"), y.astype("Int64")), (X, LABELS)]
    tables = [credo.compare_treatments(net(3), *pair, treatments=["points"], **QUICK) for pair in given]
    assert all(table["nll"].equals(tables[0]["nll"]) for table in tables[1:])


def test_a_symmetric_x_is_split_as_any_other():
    wide = nn.Linear(90, 3)
    table = credo.compare_treatments(wide, torch.eye(90), LABELS, treatments=["points"], **QUICK)
    assert np.isfinite(table["nll"]).all()


def test_a_partial_has_the_name_of_its_function():
    given = [functools.partial(points, weight_decay=1.0), warm(points)]
    assert list(credo.compare_treatments(net(3), X, LABELS, treatments=given, **QUICK).index[:2]) == [
        "points",
        "warm points",
    ]


def test_megabytes_count_frozen_weights_and_buffers():
    one = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    one[0].requires_grad_(False)
    one.register_buffer("shift", torch.zeros(11))
    given = ["points", "dropout_learnt", "sparse"]
    table = credo.compare_treatments(one, X, LABELS, treatments=given, **QUICK)
    frozen, free = 5 * 6 + 6 + 11, 2 * 6 + 6 * 3 + 3
    numbers = table["megabytes"] * 1e6 / 4
    assert numbers["points"] == pytest.approx(frozen + free)
    assert numbers["dropout_learnt"] == pytest.approx(frozen + free + 1)  # and the rate of the layer that is not frozen
    assert frozen - 5 * 6 + 2 * 6 + 3 <= numbers["sparse"] <= frozen + free


def test_batch_norm_is_trained_by_plain_networks_refused_by_weights_that_are_latents_and_kept_in_evaluation_mode():
    one = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    with pytest.warns(UserWarning, match="BatchNorm1d"):
        table = credo.compare_treatments(one, X, LABELS, treatments=["points", "dropout_learnt", "sparse"], **QUICK)
    assert table["nll"].isna().tolist() == [False, True, True, False]
    one[1].eval()
    one[1].running_mean += 0.3
    seen = []

    def watched(net, x, y, budget):
        _, trained, _ = train(net, x, y, budget)
        seen.append(trained[1].running_mean)
        return constant(net, x, y, budget)

    table = credo.compare_treatments(one, X, LABELS, treatments=["swag", "dropout_learnt", watched], **QUICK)
    assert table["nll"].notna().all() and torch.equal(seen[0], one[1].running_mean)
