"""Connected components: compared with the powers of the matrix of who shares what."""

import pytest
import torch

from credo.inference.runtime.components import connected


@pytest.mark.parametrize("seed", range(10))
def test_components_are_what_powers_of_the_adjacency_reach(seed):
    generator = torch.Generator().manual_seed(seed)
    has = torch.rand(8, 9, generator=generator) < 0.15  # name, letter
    shared = {i: set(row.nonzero().flatten().tolist()) for i, row in enumerate(has)}
    reach = torch.linalg.matrix_power((has.double() @ has.double().T).clamp(max=1.0), 8) > 0
    wanted = {tuple(row.nonzero().flatten().tolist()) for row in reach} - {()}
    found = connected(shared)
    assert {tuple(names) for names in found} == wanted and len(found) == len(wanted)


def test_names_that_share_through_another_are_one_group_in_their_order():
    assert connected({"x": {"a"}, "y": {"b"}, "none": set(), "z": {"a", "b"}}) == [["x", "y", "z"]]
