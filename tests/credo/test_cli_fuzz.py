"""Random files and options of the command line: a table or one message that names what is wrong, never a traceback."""

import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from credo.cli import main
from tests.cases.fuzz_files import PAIR, csv, pair_files
from tests.conftest import unchanged

QUICK = settings(
    max_examples=20, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
VALUES = st.one_of(
    st.integers(-1, 2).map(str),
    st.sampled_from(["a", "", "cpu", "1e3", "9" * 30, "x.csv/out", "x.csv", "full_rank", "none", "é=1", "x=1"]),
    st.sampled_from(["noise=1.0", "noise=None", "noise=", "=", "noise=[1", "noise=" + "(" * 300, "out", "new.csv"]),
)
NAMES = ["--seed", "--device", "--out", "--nope", "--guide", "--set", "--data"]
OF_FITS = [*NAMES, "--lr", "--batch-size", "--seeds", "--save", "--predict"]


def options(names: list[str]) -> st.SearchStrategy:
    """Up to two options with any value; of steps few."""
    named = st.tuples(st.sampled_from(names), VALUES)
    one = st.one_of(named, st.tuples(st.just("--steps"), st.sampled_from(["-1", "0", "2", "a", ""])))
    return st.lists(one, max_size=2).map(lambda pairs: [word for pair in pairs for word in pair])


def holds(folder: Path, table: bytes, pair: bytes, command: str, options: list[str]) -> None:
    (folder / "x.csv").write_bytes(table)
    (folder / "new.csv").write_bytes(table)
    (folder / "own.py").write_bytes(pair)
    few = ["--steps", "1", "--quiet"] if command == "fit" else []
    arguments = [command, str(folder / "own.py"), "--data", str(folder / "x.csv"), *few, *options]
    with unchanged(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (0, 2) and "Traceback" not in result.output
    assert result.exit_code == 0 or "Error: " in result.output


@QUICK
@given(csv(), pair_files(), options(NAMES))
def test_random_files_give_a_plan_or_one_message(tmp_path, monkeypatch, table, pair, options):
    monkeypatch.chdir(tmp_path)  # --out makes folders
    holds(tmp_path, table, pair, "plan", options)


@QUICK
@given(st.just(b"x\n1.0\n2.0\n"), st.just(PAIR.encode()), options(OF_FITS))
def test_random_options_give_a_fit_or_one_message(tmp_path, monkeypatch, table, pair, options):
    monkeypatch.chdir(tmp_path)
    holds(tmp_path, table, pair, "fit", options)


@pytest.mark.slow
@settings(QUICK, max_examples=1000, derandomize=False)
@given(csv(), pair_files(), st.sampled_from(["plan", "fit"]), options(OF_FITS))
def test_a_thousand_random_files_give_a_table_or_one_message(tmp_path, monkeypatch, table, pair, command, options):
    monkeypatch.chdir(tmp_path)
    holds(tmp_path, table, pair, command, options)
