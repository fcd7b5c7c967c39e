"""The scores of a treatment beside scikit-learn's and scipy's, piece by piece."""

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from credo import metrics
from credo.treatments import scores as module
from credo.treatments.scores import mixture, pieces, probabilities, scores
from credo.treatments.treatment import Trained

N, S, C = 300, 7, 4
GENERATOR = torch.Generator().manual_seed(0)
DRAWS = torch.randn(S, N, C, generator=GENERATOR).mul(2).softmax(-1)
Y = torch.randint(C, (N,), generator=GENERATOR)
ROWS = torch.arange(N)[:, None].float()


def looked_up(table: torch.Tensor, seen: list[int] | None = None) -> Trained:
    """A treatment whose predictions are in a table: x is the number of the row."""

    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        if seen is not None:
            seen.append(len(x))
        return table[:, x[:, 0].long()]

    return Trained(predict, 0, "")


def test_scores_of_classes_are_scikit_learns(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 64)
    got = scores(looked_up(DRAWS), ROWS, Y, S, ood=ROWS[:50])
    p = DRAWS.double().mean(0)
    p = (p / p.sum(-1, keepdim=True)).numpy()
    assert got["error"] == pytest.approx((p.argmax(1) != Y.numpy()).mean())
    assert got["nll"] == pytest.approx(log_loss(Y, p, labels=range(C)), rel=1e-6)
    assert got["brier"] == pytest.approx(brier_score_loss(Y, p, labels=range(C), scale_by_half=False), rel=1e-6)
    assert got["ece"] == pytest.approx(metrics.classification(DRAWS, Y)["ece"], abs=1e-6)
    entropy = stats.entropy(p, axis=1)
    truth = np.arange(N + 50) >= N
    assert got["ood_auroc"] == pytest.approx(roc_auc_score(truth, np.r_[entropy, entropy[:50]]), abs=1e-4)


def test_scores_of_numbers_are_those_of_the_mixture(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 64)
    mean = torch.randn(S, N, generator=GENERATOR).double() * 3
    sd = torch.rand(S, N, generator=GENERATOR).double() + 0.2
    y = torch.randn(N, generator=GENERATOR).double() * 4
    got = scores(looked_up(torch.stack([mean, sd], -1)), ROWS, y, S)
    assert got["rmse"] == pytest.approx((mean.mean(0) - y).square().mean().sqrt().item())
    logs = special.logsumexp(stats.norm(mean, sd).logpdf(y), axis=0, b=1 / S)
    assert got["nll"] == pytest.approx(-logs.mean())
    below = stats.norm(mean, sd).cdf(y).mean(0)
    assert got["coverage"] == pytest.approx(((below >= 0.05) & (below <= 0.95)).mean())


def test_a_far_y_costs_its_nats_and_not_infinity():
    total = mixture(torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]]).double(), torch.tensor([100.0]).double())
    assert total[1].item() == pytest.approx(-stats.norm.logpdf(100))


@pytest.mark.parametrize("draws", [1, 32, 1000])
def test_the_memory_of_a_piece_does_not_grow_with_rows_or_draws(draws):
    sizes = [len(part) for part, _ in pieces(torch.zeros(5000, 2), draws)]
    assert sum(sizes) == 5000 and max(sizes) * draws <= 2**15 and max(sizes) <= 1024
    seen: list[int] = []
    table = DRAWS[:, torch.arange(5000) % N]
    assert torch.allclose(
        probabilities(looked_up(table, seen), torch.arange(5000)[:, None], draws), table.mean(0), atol=1e-6
    )
    assert seen == sizes


@pytest.mark.parametrize(
    ("table", "y", "words"),
    [
        (DRAWS[0], Y, "shape"),
        (DRAWS * torch.nan, Y, "finite"),
        (DRAWS[..., :2] - 5, Y.float(), "positive sds"),
        (DRAWS, Y.float(), "positive sds"),
        (DRAWS[..., :1], Y, "shape"),
    ],
)
def test_what_is_no_prediction_is_refused(table, y, words):
    trained = Trained(lambda x, draws: table, 0, "")
    with pytest.raises(ValueError, match=words):
        scores(trained, ROWS, y, S)
