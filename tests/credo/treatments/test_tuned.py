"""Answers chosen on validation rows, with treatments whose NLL is known."""

import pytest
import torch
from torch import nn

import credo
from credo.treatments import tuned as file
from credo.treatments.treatment import Budget, Trained
from credo.treatments.tuned import Answers, is_lower, last_layer, rates, treatment_of, tuned

X, Y = torch.randn(60, 3), torch.randint(0, 2, (60,))
NET = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
BUDGET = Budget(steps=80, batch_size=16, lr=1e-3)


def known(monkeypatch, probability):
    """Replaces the fits: the right class has the probability that a function of the answers gives."""
    seen, rows = [], {tuple(row.tolist()): int(label) for row, label in zip(X, Y, strict=True)}

    def treatment_of(answers):
        def treatment(net, x, y, budget):
            seen.append((answers, len(x), budget.steps))

            def predict(x, draws):
                right = torch.tensor([rows[tuple(row.tolist())] for row in x])
                p = torch.tensor(probability(answers))
                return torch.where(nn.functional.one_hot(right, 2) == 1, p, 1 - p)[None]

            return Trained(predict, 1, "itself")

        return treatment

    monkeypatch.setattr(file, "treatment_of", treatment_of)
    return seen


def test_each_answer_is_tried_with_the_best_before_it_and_the_last_fit_has_all_rows(monkeypatch):
    """A wide prior and fast sds help, a warm start hurts: the answers that are kept are those two."""
    seen = known(monkeypatch, lambda a: 0.5 + 0.2 * (a.prior == 3.0) + 0.1 * (a.sds == 3.0) - 0.1 * (a.warm > 0))
    trained = tuned(NET, X, Y, BUDGET)
    assert [rows for _, rows, _ in seen] == [48] * 9 + [60] and {steps for *_, steps in seen} == {80}
    assert seen[-1][0] == Answers(prior=3.0, sds=3.0) and seen[4][0] == Answers(prior=3.0, warm=0.25)
    assert trained.words == (
        "chosen by the NLL of 12 validation rows, in nats (standard error): 3 times as wide, sds 3 times as fast ("
        "as the pair 0.6931 (0.0000); prior: 3 times as wide 0.3567 (0.0000), 10 times as wide 0.6931 (0.0000), "
        "learnt for each weight 0.6931 (0.0000); start: plain network 0.5108 (0.0000); KL: whole at once 0.3567 "
        "(0.0000), rising over half of the steps 0.3567 (0.0000); rates: sds 3 times as fast 0.2231 (0.0000), last "
        "layer 3 times as fast 0.3567 (0.0000)); itself"
    )


def test_without_a_gain_it_is_the_pair_and_a_net_of_one_layer_has_no_last_one(monkeypatch):
    seen = known(monkeypatch, lambda a: 0.6)
    assert "(standard error): as the pair (as the pair 0.5108" in tuned(nn.Linear(3, 2), X, Y, BUDGET).words
    assert len(seen) == 9 and seen[-1] == (Answers(), 60, 80) and all(answers.last == 1 for answers, *_ in seen)


def test_answers_that_diverge_lose(monkeypatch):
    seen = known(monkeypatch, lambda a: 0.6 if a.prior != "ard" and a.kl is None else float("nan"))
    words = tuned(NET, X, Y, BUDGET).words
    assert "learnt for each weight inf" in words and "KL: candidates: none of" in words and seen[-1][0] == Answers()


def test_a_gain_within_its_standard_error_is_none():
    before = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert not is_lower(before - torch.tensor([0.3, -0.2, 0.3, -0.2]), before)  # .05 with a standard error of .14
    assert is_lower(before - torch.tensor([0.3, 0.2, 0.3, 0.2]), before)
    assert not is_lower(before[:1] - 0.5, before[:1])  # one row has no standard error
    assert is_lower(before, torch.full((4,), torch.inf)) and not is_lower(torch.full((4,), torch.inf), before)


def test_the_answers_are_the_options_of_the_fit(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        file, "mean_field", lambda net, x, y, budget, **options: asked.update(options) or Trained(*"abc")
    )
    treatment_of(Answers(prior=3.0, kl=0.5, sds=3.0))(NET, X, Y, BUDGET)
    assert asked == {"prior_sd": 30.0, "kl_warmup": 40, "lr": pytest.approx({"*.scale": 0.03, "*": 0.01})}
    treatment_of(Answers(prior=3.0))(NET, X, torch.randn(60), BUDGET)
    assert asked["prior_sd"] == 3.0
    assert treatment_of(Answers(warm=0.25)).__name__ == "warm treatment"


def test_rates_by_name_decide_the_rate_of_each_parameter_of_the_guide():
    found = rates(NET, 0.01, sds=3.0, last=2.0)
    svi = credo.SVI(*(credo.load("bnn_classifier")[1:3]), lr=found, compile=False, plan="fast")
    svi.step(NET, X, Y)
    lr = {tuple(p.shape): set() for p in NET.parameters()}
    for group in svi._steps.optimiser.param_groups:
        for p in group["params"]:
            lr[tuple(p.shape)].add(round(group["lr"], 4))
    first, last = {0.01, 0.03}, {0.02, 0.06}
    assert lr == {(4, 3): first, (4,): first, (2, 4): last, (2,): last}
    assert last_layer(NET) == "2" and last_layer(nn.Linear(3, 2)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [False, True])
def test_it_trains_classes_and_numbers_with_the_answers(numbers):
    y = X[:, 0] + 0.1 * torch.randn(60) if numbers else (X[:, 0] > 0).long()
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)) if numbers else NET
    trained = tuned(net, X, y, BUDGET)
    assert trained.predict(X, 5).shape == (5, 60, 2) and "rates: sds 3 times as fast" in trained.words
