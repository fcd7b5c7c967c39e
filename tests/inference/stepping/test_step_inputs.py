"""What a step reads."""

import torch

import credo
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered
from credo.inference.stepping.step_inputs import on_batch
from tests.cases import row_latents


def test_a_batch_has_its_rows_of_tables_as_parameters_of_their_own():
    y = row_latents.data(20)
    svi = credo.SVI(row_latents.model, row_latents.guide, batch_size=4, seed=1, compile=False, progress=False)
    pair, prepared, _ = svi._begin((y,))
    steps = svi._steps
    with entered(prepared.state):
        assert list(unconstrained()) == ["mu.loc", "mu.scale"]
        (index,) = [steps.batches.epoch[-1]] if steps.batches.epoch else [None]
        with on_batch(steps, pair) as part:
            assert unconstrained()["loc"].shape == (4,) and len(part.data[0]) == 4
            if index is not None:
                assert torch.equal(part.data[0], y[index])
        assert list(unconstrained()) == ["mu.loc", "mu.scale"] and list(steps.parameters)[2:] == ["loc", "scale"]
