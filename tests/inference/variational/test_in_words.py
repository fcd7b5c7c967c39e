"""What a fit prints."""

import torch

import credo
from credo.inference.variational.in_words import last_tenth


def test_a_fit_says_its_loss_its_steps_and_why_it_stopped():
    pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    words = repr(credo.fit(pair.model, pair.guide, flips, steps=30, compile=False, progress=False))
    assert words.startswith("Fit: -ELBO ") and "30 steps; stopped: after the 30 steps asked for; latents: p" in words


def test_the_last_tenth_has_a_step():
    assert [last_tenth(range(n)) for n in (0, 9, 20, 1000)] == [1, 1, 2, 100]
