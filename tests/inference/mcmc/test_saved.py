"""Draws on disk: all of them, with their diagnostics, also where they have no model."""

import pytest
import torch

import credo


def test_draws_without_a_model_come_back(tmp_path):
    torch.manual_seed(0)
    draws = {"z": torch.randn(2, 50), "k": (torch.randn(2, 50, 3) > 0).long()}
    stats = {"energy": torch.randn(2, 50)}
    found = credo.Reference(draws, (1, 0), "all asked for", 3, {"k": 2}, {"f": draws["z"].exp()}, stats)
    found.save(tmp_path / "draws")
    again = credo.load_fit(tmp_path / "draws")
    assert (again.divergences, again.stopped, again.seed, again.finite) == ((1, 0), "all asked for", 3, {"k": 2})
    for one, two in (
        (found.draws, again.draws),
        (found.deterministic, again.deterministic),
        (found.stats, again.stats),
    ):
        assert one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())
    assert again.source is None


def test_a_damaged_file_is_named(tmp_path):
    credo.Reference({"z": torch.randn(2, 50)}, (0, 0), "", 0, {}).save(tmp_path / "draws")
    content = bytearray((tmp_path / "draws").read_bytes())
    content[-5] ^= 1
    (tmp_path / "draws").write_bytes(content)
    with pytest.raises(ValueError, match="draws: the file is damaged: its checksum differs"):
        credo.load_fit(tmp_path / "draws")
