"""Weighted draws as a guide, and the errors of their means."""

import pytest
import torch
from pyro import poutine

from credo.inference.posterior.weighted_guide import WeightedGuide, errors
from credo.inference.runtime.sites import latent
from credo.inference.runtime.vectorise import draw

VALUES = {"a": torch.tensor([1.0, 2.0, 3.0]), "w": torch.arange(6.0).reshape(3, 2)}
LOGS = torch.tensor([0.5, 0.2, 0.3]).log()


def test_each_draw_is_one_of_them_with_its_weight():
    guide = WeightedGuide(VALUES, LOGS)

    def one():
        return {name: site["value"] for name, site in latent(poutine.trace(guide).get_trace(7)).items()}

    drawn = draw(one, 20_000)
    assert drawn.keys() == VALUES.keys() and drawn["w"].shape == (20_000, 2)
    for i in range(3):
        share = (drawn["a"] == VALUES["a"][i]).double().mean().item()
        assert share == pytest.approx(LOGS.exp()[i].item(), abs=0.015)  # 4 standard errors
    assert torch.equal(drawn["w"], VALUES["w"][(drawn["a"] - 1).long()])  # the latents of a draw belong together


def test_errors_are_those_of_repeated_importance_sampling():
    noise = torch.Generator().manual_seed(0)
    means, found = [], []
    for _ in range(200):
        u = 1.3 * torch.randn(500, generator=noise, dtype=torch.float64) + 0.3
        logs = -(u**2) / 2 + ((u - 0.3) / 1.3) ** 2 / 2
        mean, sd, error = errors(u, logs.log_softmax(0))
        means.append(mean)
        found.append(error)
    assert torch.stack(means).std().item() == pytest.approx(torch.stack(found).mean().item(), rel=0.2)
    assert sd.item() == pytest.approx(1.0, abs=0.15)


def test_joint_draws_have_their_weights_and_are_held_as_points():
    guide = WeightedGuide(VALUES, LOGS)
    drawn = guide.joint_draws(20_000)
    for i in range(3):
        share = (drawn["a"] == VALUES["a"][i]).double().mean().item()
        assert share == pytest.approx(LOGS.exp()[i].item(), abs=0.015)  # 4 standard errors
    assert torch.equal(drawn["w"], VALUES["w"][(drawn["a"] - 1).long()])
    held = latent(poutine.trace(guide.holding({name: v[0] for name, v in drawn.items()})).get_trace(7))
    assert torch.equal(held["w"]["value"], drawn["w"][0]) and held.keys() == VALUES.keys()
