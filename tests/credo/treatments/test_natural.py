"""Natural gradients of a network's weights: rows that a line tells apart or goes through.

The update itself is compared with its formula and with exact posteriors in `tests/inference/updates/test_natural.py`.
"""

import pytest
import torch
from torch import nn

from credo.treatments import natural as file
from credo.treatments.natural import falling, natural
from credo.treatments.treatment import Budget


@pytest.mark.parametrize("classes", [True, False])
def test_the_treatment_predicts_and_says_what_moved(classes):
    torch.manual_seed(0)
    x = torch.randn(60, 2)
    y = (x[:, 0] > 0).long() if classes else x[:, 0] * 2
    net = nn.Linear(2, 2 if classes else 1)
    trained = natural(net, x, y, Budget(150, 30, 1e-3), plan="fast")
    p = trained.predict(x, 10)
    assert p.shape == (10, 60, 2)
    assert "natural gradients for sites 'weight', 'bias'" in trained.words
    assert ("prior sd ard" if classes else "prior of the pair") in trained.words
    if classes:
        assert (p.mean(0).argmax(-1) == y).float().mean() > 0.9
    else:
        assert (p[..., 0].mean(0) - y).abs().mean() < 0.3


def test_the_rate_falls_from_its_first_value_to_a_hundredth_and_stays_there():
    assert falling(0.02, 100, 0) == pytest.approx(0.02)
    assert falling(0.02, 100, 50) == pytest.approx(0.02 * 1.01 / 2)
    assert falling(0.02, 100, 100) == falling(0.02, 100, 101) == pytest.approx(0.0002)
    assert falling(0.02, 0, 0) == pytest.approx(0.02)


def test_the_fit_is_asked_for_that_rate_a_rising_kl_and_what_else_is_given(monkeypatch):
    asked = {}

    def fitted(net, x, y, budget, **options):
        asked.update(options)
        raise KeyboardInterrupt  # nothing is fitted

    monkeypatch.setattr(file, "fitted", fitted)
    for options in ({}, {"kl_warmup": 7, "prior_sd": 2.0}):
        with pytest.raises(KeyboardInterrupt):
            natural(nn.Linear(2, 2), torch.randn(4, 2), torch.arange(4) % 2, Budget(90, 4, 5e-4), **options)
        assert asked["optim"] == "natural" and asked["kl_warmup"] == options.get("kl_warmup", 30)
        assert asked["prior_sd"] == options.get("prior_sd", "ard")
        assert [asked["lr"](step) for step in (0, 90)] == pytest.approx([0.01, 0.0001])
