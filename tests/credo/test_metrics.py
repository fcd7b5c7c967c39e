"""Metrics against hand computation, against counting pairs, and against scikit-learn and torchmetrics."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss
from torch.distributions import Categorical, Dirichlet, kl_divergence

from credo import metrics

HAND = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6]], dtype=torch.float64)
HAND_Y = torch.tensor([0, 2, 0, 2])


def simplex(*shape: int, concentration: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Random probabilities in double precision, the last number being the classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Dirichlet(torch.full(shape, concentration, dtype=torch.float64)).sample()


def test_classification_by_hand():
    """Three of four right, true classes at 0.5, 0.8, 0.2, 0.6; with 15 bins every row has a bin of its own."""
    got = metrics.classification(HAND, HAND_Y)
    assert got["accuracy"] == 0.75
    assert got["nll"] == pytest.approx(-math.log(0.5 * 0.8 * 0.2 * 0.6) / 4)
    squares = (0.25 + 2 * 0.0625) + (2 * 0.01 + 0.04) + (0.64 + 0.49 + 0.01) + (0.09 + 0.01 + 0.16)
    assert got["brier"] == pytest.approx(squares / 4)
    assert got["ece"] == pytest.approx((0.5 + 0.2 + 0.7 + 0.4) / 4)


def test_errors_in_one_bin_cancel_and_in_two_bins_do_not():
    """Confidence 0.61 twice, once right: the bin says 0.61 against 0.5. At 0.61 and 0.69 the rows are apart."""
    y = torch.tensor([0, 1])
    together = torch.tensor([[0.61, 0.39], [0.61, 0.39]], dtype=torch.float64)
    apart = torch.tensor([[0.61, 0.39], [0.69, 0.31]], dtype=torch.float64)
    assert metrics.classification(together, y)["ece"] == pytest.approx(0.11)
    assert metrics.classification(apart, y)["ece"] == pytest.approx((0.39 + 0.69) / 2)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_classification_agrees_with_scikit_learn_and_torchmetrics(classes):
    calibration_error = pytest.importorskip("torchmetrics.functional.classification").multiclass_calibration_error
    probs = simplex(500, classes, concentration=0.5)
    y = Categorical(probs.roll(1, 0) * 0.3 + probs * 0.7).sample()
    got = metrics.classification(probs, y)
    labels = list(range(classes))
    assert got["accuracy"] == pytest.approx(accuracy_score(y, probs.argmax(-1)))
    assert got["nll"] == pytest.approx(log_loss(y, probs.numpy(), labels=labels))
    brier = brier_score_loss(y, probs.numpy(), labels=labels, scale_by_half=False)
    assert got["brier"] == pytest.approx(brier)
    wanted = calibration_error(probs, y, num_classes=classes, n_bins=15, norm="l1")
    assert got["ece"] == pytest.approx(wanted.item(), abs=1e-6)  # torchmetrics counts in float32


def test_a_confidence_of_one_shares_the_last_bin():
    """Right at 0.95, wrong at 1: the last of 15 bins holds both, |0.5 - 0.975|. torchmetrics opens a 16th, 0.525."""
    probs = torch.tensor([[1.0, 0.0, 0.0], [0.95, 0.05, 0.0]])
    assert metrics.classification(probs, torch.tensor([1, 0]))["ece"] == pytest.approx(0.475)


def test_predictions_that_are_right_as_often_as_they_say_have_no_calibration_error():
    """Ten rows at each confidence k/10 + 1/2 of two classes, of which exactly that many are right."""
    confidence = torch.tensor([0.6, 0.7, 0.8, 0.9], dtype=torch.float64).repeat_interleave(10)
    right = torch.cat([torch.arange(10) < k for k in (6, 7, 8, 9)])
    probs = torch.stack([confidence, 1 - confidence], -1)
    assert metrics.classification(probs, (~right).long())["ece"] == pytest.approx(0, abs=1e-12)
    assert metrics.classification(probs, right.long())["ece"] == pytest.approx(0.5)  # right at 0.4, 0.3, ... instead


def test_draws_are_averaged_as_probabilities():
    """Two draws that are sure of opposite classes make one half, and the truth costs log 2 nats."""
    draws = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    got = metrics.classification(draws, torch.tensor([1]))
    assert got["nll"] == pytest.approx(math.log(2))
    assert got["brier"] == pytest.approx(0.5)
    many, y = simplex(7, 20, 4), torch.arange(20) % 4
    assert metrics.classification(many, y).to_dict() == pytest.approx(metrics.classification(many.mean(0), y).to_dict())
    assert metrics.reliability(many, y).equals(metrics.reliability(many[torch.arange(7)], y))


@pytest.mark.parametrize(("dtype", "nats"), [(torch.float32, 126 * math.log(2)), (torch.float64, 1022 * math.log(2))])
def test_a_true_class_of_probability_zero_costs_what_the_dtype_can_tell(dtype, nats):
    got = metrics.classification(torch.tensor([[1.0, 0.0]], dtype=dtype), torch.tensor([1]))
    assert got["nll"] == pytest.approx(nats)


def test_a_sure_and_right_prediction_costs_nothing_also_after_rounding():
    probs = torch.tensor([[1.0000001, 0.0]])
    assert metrics.classification(probs, torch.tensor([0]))["nll"] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_softmax_of_a_narrow_dtype_passes_as_probabilities(dtype):
    logits = torch.randn(64, 100, dtype=torch.float64)
    narrow = metrics.classification(logits.softmax(-1).to(dtype), torch.arange(64))
    wide = metrics.classification(logits.softmax(-1), torch.arange(64))
    assert narrow["nll"] == pytest.approx(wide["nll"], abs=2 * torch.finfo(dtype).eps)


def test_uncertainty_by_hand():
    """Row 0: both draws say one half. Row 1: each is sure, of another class. Row 2: 1 and 1/2 of two classes."""
    draws = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]])
    got = metrics.uncertainty(draws)
    two = math.log(2)
    quarter = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert list(got.columns) == ["total", "aleatoric", "epistemic"]
    assert got["total"].tolist() == pytest.approx([two, two, quarter])
    assert got["aleatoric"].tolist() == pytest.approx([two, 0, two / 2])
    assert got["epistemic"].tolist() == pytest.approx([0, two, quarter - two / 2], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    s=st.integers(1, 6),
    n=st.integers(1, 4),
    c=st.integers(2, 5),
    concentration=st.sampled_from([0.01, 0.3, 1.0, 50.0]),
    single=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_uncertainty_splits_and_stays_in_its_bounds(s, n, c, concentration, single, seed):
    """The epistemic part against its other form, the mean KL from each draw to the average of the draws."""
    draws = simplex(s, n, c, concentration=concentration, seed=seed)
    draws = draws.float() if single else draws
    got = metrics.uncertainty(draws)
    total, aleatoric, epistemic = (torch.tensor(got[name].to_numpy()) for name in got)
    assert torch.allclose(total, aleatoric + epistemic, rtol=0, atol=1e-12)
    assert (got >= 0).all(axis=None)
    assert (total <= math.log(c) + 1e-12).all() and (epistemic <= math.log(s) + 1e-12).all()
    probs = draws.double() / draws.double().sum(-1, keepdim=True)
    kl = kl_divergence(Categorical(probs), Categorical(probs.mean(0).expand_as(probs))).mean(0)
    assert torch.allclose(epistemic, kl, rtol=0, atol=1e-9)


def test_draws_that_agree_leave_nothing_to_learn():
    """Not even by rounding, which goes below zero as often as above."""
    got = metrics.uncertainty(simplex(500, 5).expand(7, 500, 5))
    assert (got["epistemic"] >= 0).all()
    assert got["epistemic"].max() < 1e-14


def test_uncertainty_does_not_depend_on_the_order_of_draws_or_classes():
    draws = simplex(5, 6, 4)
    shuffled = draws[torch.tensor([3, 0, 4, 1, 2])][..., torch.tensor([2, 0, 3, 1])]
    assert np.allclose(metrics.uncertainty(draws), metrics.uncertainty(shuffled), rtol=0, atol=1e-12)


def test_uncertainty_of_a_tensor_with_gradients():
    logits = torch.randn(3, 2, 4, requires_grad=True)
    assert np.isfinite(metrics.uncertainty(logits.softmax(-1)).to_numpy()).all()
    assert np.isfinite(metrics.classification(logits.softmax(-1), torch.tensor([0, 3])).to_numpy()).all()


def pairs(inside: list[float], outside: list[float]) -> float:
    return sum((o > i) + (o == i) / 2 for i, o in itertools.product(inside, outside)) / (len(inside) * len(outside))


SCORES = st.lists(
    st.one_of(st.integers(-2, 2).map(float), st.floats(allow_nan=False, width=32)), min_size=1, max_size=8
)


@settings(max_examples=100, deadline=None)
@given(inside=SCORES, outside=SCORES)
def test_auroc_counts_pairs(inside, outside):
    """Few values, so that many tie; infinite ones among them."""
    got = metrics.auroc(torch.tensor(inside), torch.tensor(outside))
    assert isinstance(got, float)
    assert got == pytest.approx(pairs(inside, outside), abs=1e-12)
    assert metrics.auroc(torch.tensor(outside), torch.tensor(inside)) == pytest.approx(1 - got, abs=1e-12)


def test_auroc_by_hand():
    assert metrics.auroc(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 1
    assert metrics.auroc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 0
    assert metrics.auroc(torch.tensor([1.0, 2.0]), torch.tensor([2, 3])) == 3.5 / 4
    near = torch.tensor([1.0], dtype=torch.float64)
    assert metrics.auroc(near, near + 1e-15) == 1  # not rounded to float32, nor to scikit-learn's idea of near


def test_reliability_by_hand():
    got = metrics.reliability(HAND, HAND_Y, bins=2)
    assert got["count"].tolist() == [1, 3]  # 0.5 closes the lower bin
    assert got["confidence"].tolist() == pytest.approx([0.5, 0.7])
    assert got["accuracy"].tolist() == pytest.approx([1, 2 / 3])
    assert [(bin.left, bin.right) for bin in got.index] == [(0, 0.5), (0.5, 1)]


def test_reliability_keeps_empty_bins():
    got = metrics.reliability(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert got["count"].tolist() == [0] * 9 + [1]
    assert got["confidence"].isna().tolist() == got["accuracy"].isna().tolist() == [True] * 9 + [False]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 30), c=st.integers(1, 4), bins=st.integers(1, 20), seed=st.integers(0, 10**6))
def test_reliability_adds_up(n, c, bins, seed):
    """Bin by bin against a loop; together they hold every row, its confidence and its success."""
    probs = simplex(n, c, concentration=0.3, seed=seed)
    y = torch.arange(n) % c
    got = metrics.reliability(probs, y, bins)
    confidence, top = probs.max(-1)
    inside = [[i for i in range(n) if float(confidence[i]) in bin] for bin in got.index]
    assert got["count"].tolist() == [len(rows) for rows in inside]
    filled = got[got["count"] > 0]
    assert (filled["count"] * filled["confidence"]).sum() == pytest.approx(confidence.sum().item())
    assert (filled["count"] * filled["accuracy"]).sum() == pytest.approx((top == y).sum().item())


GOOD = torch.full((4, 3), 1 / 3)


@pytest.mark.parametrize(
    ("probs", "y", "said"),
    [
        (torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), HAND_Y, r"probs: .*logits use \.softmax"),
        (GOOD.log(), HAND_Y, r"probs: .*log probabilities \.exp"),
        (torch.tensor([[1.5, -0.5, 0.0]] * 4), HAND_Y, "probs: the smallest entry is -0.5"),
        (GOOD * 1.001, HAND_Y, "probs: .*a row sums to 1.001"),
        (GOOD.index_fill(0, torch.tensor([2]), math.nan), HAND_Y, "probs: .*nan"),
        (torch.full((4,), 0.5), HAND_Y, r"probs: got a tensor of shape \(4,\).*give 1 - p and p"),
        (GOOD[:0], HAND_Y[:0], r"probs: got a tensor of shape \(0, 3\)"),
        (torch.ones(4, 1, dtype=torch.int64), HAND_Y, "probs: .*int64"),
        (GOOD.numpy(), HAND_Y, "probs: got ndarray"),
        (GOOD, HAND_Y[:3], r"y: got a tensor of shape \(3,\).*wanted shape \(4,\)"),
        (GOOD.expand(5, 4, 3), torch.zeros(5, dtype=torch.int64), r"y: .*wanted shape \(4,\)"),
        (GOOD, torch.eye(4), "y: got a tensor of shape"),
        (GOOD, [0, 1, 2, 0], "y: got list"),
        (
            GOOD,
            torch.tensor([0, 1, 3, 2]),
            "y: 1 of 4 labels are not classes, the first is 3; wanted whole numbers from 0 to 2",
        ),
        (GOOD, torch.tensor([0, -1, 3, 2]), "y: 2 of 4 labels are not classes, the first is -1"),
        (GOOD, torch.tensor([0, 0.5, 1, 2]), "y: 1 of 4 labels are not classes, the first is 0.5"),
        (GOOD, torch.tensor([0, math.nan, 1, 2]), "y: 1 of 4 labels are not classes, the first is nan"),
    ],
)
@pytest.mark.parametrize("metric", [metrics.classification, metrics.reliability])
def test_what_does_not_fit_is_named(metric, probs, y, said):
    with pytest.raises(ValueError, match=said):
        metric(probs, y)


def test_labels_may_be_whole_numbers_of_any_dtype():
    wanted = metrics.classification(HAND, HAND_Y)
    for dtype in (torch.uint8, torch.int32, torch.float32):
        assert metrics.classification(HAND, HAND_Y.to(dtype)).equals(wanted)


def test_labels_and_scores_may_be_arrays_or_columns_of_numbers():
    wanted = metrics.classification(HAND, HAND_Y)
    for y in (HAND_Y.numpy(), pd.Series(HAND_Y.numpy(), index=list("dcba")), HAND_Y.numpy().astype(np.int32)):
        assert metrics.classification(HAND, y).equals(wanted)
        assert metrics.reliability(HAND, y).equals(metrics.reliability(HAND, HAND_Y))
    with pytest.raises(ValueError, match="y: got Series"):
        metrics.classification(HAND, pd.Series(["one"] * len(HAND_Y)))
    near, far = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.25, 0.9])
    for make in (torch.Tensor.numpy, lambda scores: pd.Series(scores.numpy())):
        assert metrics.auroc(make(near), make(far)) == metrics.auroc(near, far)


def test_uncertainty_wants_draws():
    with pytest.raises(
        ValueError, match=r"draws: got a tensor of shape \(4, 3\).*wanted probabilities of shape \(S, N, C\)"
    ):
        metrics.uncertainty(GOOD)
    with pytest.raises(ValueError, match=r"draws: .*\.softmax\(-1\)"):
        metrics.uncertainty(torch.randn(2, 4, 3))


@pytest.mark.parametrize("bins", [0, -1, 2.5])
def test_bins_are_a_whole_number(bins):
    with pytest.raises(ValueError, match=f"bins: got {bins}"):
        metrics.reliability(GOOD, HAND_Y, bins)


def test_auroc_names_the_scores_that_do_not_fit():
    good = torch.tensor([1.0])
    with pytest.raises(ValueError, match=r"outside: got a tensor of shape \(0,\)"):
        metrics.auroc(good, good[:0])
    with pytest.raises(ValueError, match=r"inside: got a tensor of shape \(1, 1\)"):
        metrics.auroc(good[None], good)
    with pytest.raises(ValueError, match="inside: got list"):
        metrics.auroc([1.0], good)
    with pytest.raises(ValueError, match="outside: 1 of 2 scores are NaN"):
        metrics.auroc(good, torch.tensor([1.0, math.nan]))


def test_the_metrics_leave_everything_as_it_was(unchanged):
    with unchanged():
        metrics.classification(HAND, HAND_Y)
        metrics.uncertainty(HAND[None])
        metrics.auroc(HAND[:, 0], HAND[:, 1])


def test_importing_the_metrics_brings_no_slow_library():
    look = "import sys, credo.metrics; print(*{'sklearn', 'torchmetrics'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", look], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
