"""Random files and options of the command line: a table or one message that names what is wrong, never a traceback."""

import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from credo.cli import main
from tests.cases.fuzz_files import csv, pair_files
from tests.conftest import unchanged

QUICK = settings(
    max_examples=20, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
OPTIONS = st.one_of(
    st.just([]),
    st.tuples(
        st.sampled_from(["--seed", "--steps", "--device", "--out", "--nope"]),
        st.one_of(st.integers(-1, 2).map(str), st.sampled_from(["a", "", "cpu", "1e3", "9" * 30, "x.csv/out"])),
    )
    .filter(lambda option: option != ("--steps", "9" * 30))
    .map(list),
)


def holds(folder: Path, table: bytes, pair: bytes, options: list[str]) -> None:
    (folder / "x.csv").write_bytes(table)
    (folder / "own.py").write_bytes(pair)
    arguments = ["plan", str(folder / "own.py"), "--data", str(folder / "x.csv"), *options]
    with unchanged(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (0, 2) and "Traceback" not in result.output
    assert result.exit_code == 0 or "Error: " in result.output


@QUICK
@given(csv(), pair_files(), OPTIONS)
def test_random_files_give_a_plan_or_one_message(tmp_path, monkeypatch, table, pair, options):
    monkeypatch.chdir(tmp_path)  # --out makes folders
    holds(tmp_path, table, pair, options)


@pytest.mark.slow
@settings(QUICK, max_examples=1000, derandomize=False)
@given(csv(), pair_files(), OPTIONS)
def test_a_thousand_random_files_give_a_plan_or_one_message(tmp_path, monkeypatch, table, pair, options):
    monkeypatch.chdir(tmp_path)
    holds(tmp_path, table, pair, options)
