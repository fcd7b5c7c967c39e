"""The sparse treatment against the pruned network of the same fit."""

import pytest
import torch
from torch import nn

from credo.guides.bnn_sparse import pruned, report
from credo.treatments import mean_field
from credo.treatments import sparse as module
from credo.treatments.treatment import Budget


def test_it_predicts_by_the_pruned_network_of_the_recipe(monkeypatch):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)), torch.randn(40, 3)
    y, fits, called = (x[:, 0] > 0).long(), [], mean_field.fit

    def kept(*data, **options):
        assert options["steps"] == 60 and options["kl_warmup"] == (2, 6) and options["lr"](0) == 0.02
        fits.append(called(*data, **options))
        return fits[0]

    monkeypatch.setattr(mean_field, "fit", kept)
    budget = Budget(steps=60, batch_size=20, lr=0.002, seed=1, device=torch.device("cpu"))
    found = module.sparse(net, x, y, budget, compile=False, plan="fast")
    (fit,) = fits
    with torch.no_grad():
        wanted = pruned(net, fit.params)(x).softmax(-1)
    torch.testing.assert_close(found.predict(x, 7), wanted[None])
    left = report(fit.params).loc["total", "kept"]
    assert found.numbers == left + 8
    assert found.words.startswith(f"{left:.0f} of 30 weights left at log alpha < 3;")


def test_numbers_are_refused():
    with pytest.raises(ValueError, match="wanted classes as integers"):
        module.sparse(nn.Linear(1, 1), torch.ones(3, 1), torch.ones(3), Budget(steps=1, batch_size=3, lr=0.1))
