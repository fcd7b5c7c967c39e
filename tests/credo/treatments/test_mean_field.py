"""The mean field of a comparison: which prior and which rate it asks the fit for."""

import pytest
import torch
from pyro import poutine
from torch import nn

from credo.treatments import mean_field as file
from credo.treatments.mean_field import faster, mean_field, prior_in_words
from credo.treatments.treatment import Budget

X, LABELS = torch.randn(12, 4), torch.arange(12) % 3
BUDGET = Budget(steps=10, batch_size=12, lr=1e-3)


@pytest.mark.parametrize(
    ("y", "outputs", "prior_sd", "sd"),
    [(LABELS, 3, None, 10.0), (LABELS, 3, 2.0, 2.0), (X[:, 0], 1, None, 1.0), (X[:, 0], 1, 5.0, 5.0)],
)
def test_the_prior_sd_is_that_many_times_one_over_the_root_of_the_fan_in(monkeypatch, y, outputs, prior_sd, sd):
    asked = []

    def fit_within(budget, model, guide, net, x, y, **options):
        asked.append(poutine.trace(model).get_trace(net, x, y).nodes)
        assert options == {"lr": pytest.approx(0.01 if prior_sd is None else 0.5)}
        raise KeyboardInterrupt  # nothing is fitted

    monkeypatch.setattr(file, "fit_within", fit_within)
    with pytest.raises(KeyboardInterrupt):
        given = {} if prior_sd is None else {"prior_sd": prior_sd, "lr": 0.5}
        mean_field(nn.Linear(4, outputs), X, y, BUDGET, **given)
    (sites,) = asked
    assert torch.as_tensor(sites["weight"]["fn"].base_dist.scale).unique().item() == pytest.approx(sd / 2)
    assert torch.as_tensor(sites["bias"]["fn"].base_dist.scale).unique().item() == pytest.approx(sd)


def test_the_rate_is_ten_times_that_of_the_budget_and_at_most_credos_own_or_the_budgets():
    assert [faster(BUDGET._replace(lr=lr)) for lr in (1e-4, 1e-3, 5e-3, 0.1)] == pytest.approx([1e-3, 0.01, 0.02, 0.1])


def test_the_words_of_a_prior_have_its_units():
    found = [prior_in_words(prior_sd) for prior_sd in (None, 30.0, 3, "ard")]
    assert found == ["prior of the pair", "prior sd 30 / sqrt(fan-in)", "prior sd 3 / sqrt(fan-in)", "prior sd ard"]
