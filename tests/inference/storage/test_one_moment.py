"""A file that is written in one moment: whole, or as before; nothing is left beside it."""

import os

import pytest

from credo.inference.storage.one_moment import write_at_once


def test_it_replaces_a_file_and_keeps_its_permissions(tmp_path):
    place = tmp_path / "a"
    write_at_once(place, b"one")
    place.chmod(0o600)
    write_at_once(place, b"two")
    assert place.read_bytes() == b"two" and place.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("links", [True, False])
def test_anew_leaves_a_file_that_is_there_where_the_disk_has_links(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", _refused)
    place = tmp_path / "a"
    write_at_once(place, b"one", anew=True)
    write_at_once(place, b"two", anew=True)
    assert place.read_bytes() == (b"one" if links else b"two") and list(tmp_path.iterdir()) == [place]


def test_a_failure_leaves_the_file_of_before(tmp_path, monkeypatch):
    place = tmp_path / "a"
    write_at_once(place, b"one")
    monkeypatch.setattr(os, "fsync", _refused)
    with pytest.raises(OSError, match="refused"):
        write_at_once(place, b"two")
    assert place.read_bytes() == b"one" and list(tmp_path.iterdir()) == [place]


def _refused(*_):
    raise OSError("refused")
