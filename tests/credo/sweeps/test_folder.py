"""The folder of a sweep: written in one moment, by whoever comes first, and read with a name for what is damaged."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

import credo
from credo.sweeps.folder import SWEEP, is_done, opened, read, row, write


def test_of_many_workers_that_open_a_folder_at_once_one_says_what_it_is(tmp_path):
    def begin(k):
        try:
            return opened(tmp_path / "f", {"argument 'x'": [f"float32 of shape ({k % 2},)", None]})
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(begin, range(16)))
    refused = [each for each in found if isinstance(each, str)]
    assert len(refused) == 8 and all("holds another sweep: argument 'x' is float32" in words for words in refused)
    assert [path.name for path in (tmp_path / "f").iterdir()] == [SWEEP]


def test_a_file_that_is_damaged_is_named_and_numbers_that_are_not_finite_are_kept(tmp_path):
    place = opened(tmp_path, {})
    write(place / "a.json", row({"lr": 1}, {"ELBO": -math.inf, "steps taken": 3, "trust": "no"}))
    write(place / "b.json", row({"seed": 1}, {"failed": True, "stopped": "ValueError: x"}))
    table = credo.gather(place)
    assert table["ELBO"].isna().all() and table.attrs["best"] is None
    assert set(table["seed"]) == {0, 1} and set(table["path"]) == {""}  # the default of a row that does not say
    assert is_done(place / "a.json") and not is_done(place / "b.json") and not is_done(place / "c.json")
    (place / "b.json").write_text("{")
    with pytest.raises(ValueError, match=r"b\.json: the file is damaged"):
        credo.gather(place)
    (place / "b.json").write_text("[]")
    with pytest.raises(ValueError, match=r"b\.json: this is no file of a sweep"):
        read(place / "b.json")


def test_where_the_file_of_the_sweep_itself_is_damaged_no_setting_is_to_be_fitted_again(tmp_path):
    place = opened(tmp_path, {})
    (place / SWEEP).write_text("{")
    with pytest.raises(ValueError, match=r"sweep\.json: the file is damaged .*; delete it, and the next credo.sweep"):
        opened(tmp_path, {})
    (place / SWEEP).unlink()
    assert opened(tmp_path, {}) == place and credo.gather(place).empty
