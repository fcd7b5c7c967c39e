"""What becomes of draws piece by piece: compared with the draws in one tensor."""

import numpy as np
import pytest
import torch

from credo.inference.predictive.reduced import Mean, Place, Reduced, Whole
from credo.inference.runtime.vectorise import Differing

DRAWS = {
    "y": torch.randn(5, 2, 7, generator=torch.Generator().manual_seed(0)),  # rows last
    "k": torch.arange(35).reshape(5, 7),
    "w": torch.linspace(0.0, 1.0, 5),  # no rows
}
DIMS = {"y": 1, "k": 0}


def fed(result):
    """The draws in pieces of two, batches of three rows."""
    for begin in range(0, 7, 3):
        rows = slice(begin, min(begin + 3, 7))
        place = Place(rows, 7, DIMS)
        for first in (0, 2, 4):
            piece = {"y": DRAWS["y"][..., rows], "k": DRAWS["k"][:, rows], "w": DRAWS["w"]}
            result.add({name: value[first : first + 2] for name, value in piece.items()}, first, place)
        result.end_batch(place)
    return result.result


def test_all_draws_are_in_their_place():
    assert all(torch.equal(value, DRAWS[name]) for name, value in fed(Whole(5)).items())


def test_the_mean_of_whole_numbers_is_none():
    found = fed(Mean(5))
    for name, value in DRAWS.items():
        torch.testing.assert_close(found[name], value.float().mean(0))
    assert found["k"].dtype == torch.float32


def test_a_function_gets_the_rows_first_and_returns_them_first():
    found = fed(Reduced(5, lambda draws: draws.float().std(0)))
    torch.testing.assert_close(found["y"], DRAWS["y"].std(0).T)
    torch.testing.assert_close(found["k"], DRAWS["k"].float().std(0))
    torch.testing.assert_close(found["w"], DRAWS["w"].std())


def test_a_function_may_return_arrays():
    found = fed(Reduced(5, lambda draws: np.quantile(draws.numpy(), 0.5, axis=0)))
    np.testing.assert_allclose(found["k"], np.quantile(DRAWS["k"].numpy(), 0.5, axis=0))


def test_other_sites_in_one_piece_are_refused():
    whole = Whole(4)
    whole.add({"z": torch.zeros(2)}, 0, Place(slice(0, 0), 0, {}))
    with pytest.raises(Differing, match="other sites in one run"):
        whole.add({"z": torch.zeros(2), "more": torch.zeros(2)}, 2, Place(slice(0, 0), 0, {}))
