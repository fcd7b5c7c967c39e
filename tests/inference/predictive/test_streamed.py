"""Programs that share their latents: the same latents for each of them, in pieces that are small."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.predictive import streamed as module
from credo.inference.predictive.reduced import Place, Whole
from credo.inference.predictive.streamed import RUNS, streamed
from credo.inference.runtime.generators import generators_kept


def run(n, seed, elements=2**20, width=3):
    """Two batches of the same program, with noise: (the result, the sizes of the draws asked for)."""
    asked = []

    def latents(begin, n):
        asked.append(n)
        return {"z": torch.randn(n, width)}

    def program(values):
        return {"z": values["z"] + 0.0, "y": pyro.sample("y", dist.Normal(values["z"].sum(), 1.0)).reshape(1)}

    result = Whole(n)
    places = [Place(slice(i, i + 1), 2, {"y": 0}) for i in range(2)]
    with generators_kept():
        streamed(n, seed, latents, [(program, place) for place in places], result, elements)
    return result.result, asked


def test_batches_have_the_same_latents_and_other_noise():
    found, asked = run(50, 0)
    assert found["z"].shape == (50, 3) and found["y"].shape == (50, 2) and asked == [1, 50]
    assert not torch.equal(found["y"][:, 0], found["y"][:, 1])
    assert torch.equal(found["y"], run(50, 0)[0]["y"]) and not torch.equal(found["y"], run(50, 1)[0]["y"])


def test_many_latents_are_drawn_again_for_each_batch_from_the_same_seeds(monkeypatch):
    monkeypatch.setattr(module, "FEW", 60)
    found, asked = run(50, 0)
    assert asked == [1, 20, 20, 10, 20, 20, 10]
    away = found["y"] - found["z"].sum(1, keepdim=True)  # both columns are noise about the same latents
    assert away.std().item() == pytest.approx(1.0, abs=0.2)
    assert len(found["z"].unique(dim=0)) == 50


def test_small_pieces_draw_the_same_latents():
    assert torch.equal(run(50, 0, elements=12)[0]["z"], run(50, 0)[0]["z"])


def test_runs_without_latents_are_counted():
    result = Whole(4)
    with generators_kept():
        streamed(4, 0, lambda begin, n: {}, [(lambda v: {"runs": v[RUNS]}, Place(slice(0, 0), 0, {}))], result, 100)
    assert result.result["runs"].shape == (4,)


def test_draws_that_do_not_fit_are_an_error_of_memory():
    def full(values):
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(MemoryError, match="draws: 4 do not fit"), generators_kept():
        streamed(4, 0, lambda begin, n: {}, [(full, Place(slice(0, 0), 0, {}))], Whole(4), 100)
