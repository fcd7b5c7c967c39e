"""Steps of a loop of one's own that are taken again: none where nothing was compiled, as in eager runs."""

import torch

import credo
from credo.inference.capture.same_form import Call
from credo.inference.stepping.kept_steps import keep, take_again


def test_an_eager_step_is_not_kept_and_none_is_taken_again():
    pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0])
    svi = credo.SVI(pair.model, pair.guide, compile=False)
    svi.step(flips)
    call, losses = Call((flips,), {}, None), list(svi.losses)
    keep(svi._steps, call, None, ())
    assert svi._steps.kept == [] and not take_again(svi._steps, call, losses) and losses == svi.losses
