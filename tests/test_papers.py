"""benchmarks/papers.py: which results count as done on which kind of device, and what its tables and errors say."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import _papers_mnist
import papers
from _papers_task import Task

ANYWHERE, ON_CPU = Task("steps/a", dict), Task("uci/a/0", dict, on="CPU")
ROW = {"nll": 0.1, "ece": 0.01, "brier": 0.02, "auroc": 0.9, "held nll": 0.1, "epochs": 1.0, "train seconds": 1.0}


def test_a_result_is_of_the_device_on_which_its_task_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(papers, "machine", lambda: "cuda")
    monkeypatch.setattr(papers.torch.cuda, "get_device_name", lambda: "a card")
    for task in (ANYWHERE, ON_CPU):
        result = papers.result_of(task, None)
        papers.file_of(task.name, tmp_path, result["machine"]).write_text(json.dumps(result))
    assert papers.results(ANYWHERE, tmp_path)["cuda"]["device"] == "a card"
    assert papers.results(ON_CPU, tmp_path)["CPU"]["device"] != "a card"
    assert {papers.kind_of(task) for task in (ANYWHERE, ON_CPU)} == {"cuda", "CPU"}
    monkeypatch.setattr(papers, "machine", lambda: "CPU")
    done = [papers.kind_of(task) in papers.results(task, tmp_path) for task in (ANYWHERE, ON_CPU)]
    assert done == [False, True]  # what ran on a GPU is not done on a CPU


@pytest.mark.parametrize("text", ["", "[]", '{"seconds": 1}'])
def test_a_file_that_is_no_result_is_named_with_the_remedy(text, tmp_path):
    (tmp_path / "steps__a.json").write_text(text)
    with pytest.raises(SystemExit, match=r"steps__a.json is no result .*; remove it, and its task"):
        papers.results(ANYWHERE, tmp_path)


def test_no_processes_or_threads_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["papers.py", "--jobs", "0"])
    with pytest.raises(SystemExit):
        papers.parsed()
    assert "--jobs: got 0, wanted at least 1" in capsys.readouterr().err


def test_a_table_of_two_devices_says_which_row_is_of_which_and_which_are_rehearsals(capsys):
    whole, brief = (
        {**ROW, "error": 2.0, "rows": n, "machine": m, "megabytes": 1.0} for n, m in ((50_000, "cuda"), (200, "CPU"))
    )
    _papers_mnist.tables({"mnist/lenet5/points": whole, "mnist/lenet5/swag": brief})
    told = capsys.readouterr().out
    assert "(a rehearsal of swag: too few rows" in told
    assert [line.split()[-2:] for line in told.splitlines() if line.startswith("swag")] == [["200", "CPU"]]
