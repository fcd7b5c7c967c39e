"""The command line in the processes of a job: the first one speaks, and files are written once."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from credo.cli import job as module
from credo.cli import main
from credo.cli.job import is_first, one_voice, rank, refuse_in_job
from tests.cases.job import in_job
from tests.cases.pair_file import OWN


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def of_rank(monkeypatch, number):
    for name, value in {"RANK": number, "WORLD_SIZE": 3, "LOCAL_RANK": number}.items():
        monkeypatch.setenv(name, str(value))


def test_a_program_of_its_own_speaks(capsys):
    assert is_first() and rank() == 0
    with one_voice():
        print("said")
    assert capsys.readouterr().out == "said\n"


def test_others_than_the_first_are_silent_but_for_an_error_of_their_own(monkeypatch, capsys):
    of_rank(monkeypatch, 2)
    monkeypatch.setattr(module, "WAIT", 0.0)
    assert not is_first()
    with pytest.raises(SystemExit) as ended, one_voice():
        print("said")
        raise click.ClickException("no such file")
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", "rank 2: Error: no such file\n")


def test_a_command_of_one_process_is_refused(monkeypatch):
    refuse_in_job("demo")
    of_rank(monkeypatch, 0)
    refuse_in_job("fit")
    found = CliRunner().invoke(main, ["demo"])
    assert found.exit_code == 2 and "start it without torchrun" in found.output


def test_a_folder_that_only_the_first_writes_is_not_asked_of_the_others(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    wanted = ["fit", "coin_toss", "--steps", "-1", "--out", str(tmp_path / "file" / "out")]
    assert "is a file, wanted a folder" in CliRunner().invoke(main, wanted).output
    of_rank(monkeypatch, 1)
    monkeypatch.setattr("credo.inference.runtime.workers.joined", lambda: False)
    assert "wanted a folder" not in CliRunner().invoke(main, wanted).output


@pytest.mark.slow
def test_two_processes_fit_and_one_prints_and_writes(tmp_path: Path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "x.csv").write_text("x\n1.0\n2.5\n3.0\n0.5\n")
    (tmp_path / "empty.csv").touch()

    def work(rank):
        saved = tmp_path / f"rank{rank}" / "fit.credo"
        options = ["--steps", 20, "--device", "cpu", "--save", saved]
        both = [tmp_path / "x.csv", tmp_path / ("empty.csv" if rank else "x.csv")]
        runs = [
            CliRunner().invoke(main, ["fit", *map(str, [tmp_path / "own.py", *options, "--data", d])]) for d in both
        ]
        return [(run.exit_code, run.output) for run in runs]

    (done, failed), (other, its_own) = in_job(work)
    assert done[0] == other[0] == 0 and other[1] == "" and "loc" in done[1], (done, other)
    assert [path.name for path in tmp_path.glob("*/fit.credo")] == ["fit.credo"] and (tmp_path / "rank0").is_dir()
    assert failed[0] == its_own[0] == 2
    assert "process 1 of 2 ended with ValueError" in failed[1] and "empty.csv" in failed[1]
    assert its_own[1].startswith("rank 1: Error: ") and "empty.csv" in its_own[1]
