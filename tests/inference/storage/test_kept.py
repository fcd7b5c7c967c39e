"""The arguments `checkpoint` and `every`: what they ask for, and what is refused."""

import os
from pathlib import Path

import pytest

from credo.inference.storage.kept import kept_of


def test_no_file_is_no_checkpoint():
    assert kept_of(None, None, {}) is None


def test_a_path_stays_where_it_was_when_the_program_changes_its_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    kept = kept_of(Path("run.credo"), 7, {"seed": 1, "progress": True})
    os.chdir("/")
    assert kept.path == str(tmp_path / "run.credo") and kept.every == 7 and kept.options == {"seed": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((None, 5, {}), "every: got 5 without a file"),
        ((7, None, {}), "checkpoint: got 7, wanted the path of a file"),
        (("", None, {}), "checkpoint: got '', wanted"),
        (("run", 0, {}), "every: got 0"),
        (("run", None, {"seeds": 3}), "cannot keep the runs of several seeds"),
    ],
)
def test_what_is_no_path_or_number_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        kept_of(*arguments)
