"""`credo demo`: the page after each pair, the order of the pairs, --quick, Ctrl-C, and a pair that fails."""

import dataclasses
import html
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import credo
from credo.cli import main
from credo.cli.demo import QUICK, ROWS, SMALL, _work_of, first_rows, work
from credo.report.tables import show_plan
from tests.cases.pair_file import OWN

PAIR = (
    OWN
    + """
def data():
    return (torch.tensor([1.0, 2.5, 3.0]),)
"""
)
REFRESH = '<meta http-equiv="refresh"'


def write(folder: Path, name: str, first_line: str = "pass", code: str = PAIR) -> Path:
    """A pair whose `data()` begins with this line."""
    path = folder / f"{name}.py"
    path.write_text(code.replace("def data():\n", f"def data():\n    {first_line}\n"), encoding="utf-8")
    return path


def demo(out: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["demo", "--out", str(out), *map(str, arguments)])


def only(*pairs: Path) -> list[object]:
    return [argument for pair in pairs for argument in ("--only", pair)]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Fits of 3 steps; returns the settings that each was called with, and its data."""
    asked: list[dict] = []
    fit = credo.fit

    def short(model, guide, *data, **settings):
        asked.append({**settings, "data": data})
        return fit(model, guide, *data, **(settings | {"steps": 3, "progress": False, "compile": False}))

    monkeypatch.setattr(credo, "fit", short)
    return asked


def test_the_page_is_there_after_each_pair_and_says_what_is_to_come(few_steps, tmp_path: Path) -> None:
    """The second pair copies the page when its turn comes, and the picture that the page shows."""
    out, copies = tmp_path / "out", tmp_path / "copies"
    copy = f"import shutil; shutil.copytree({str(out)!r}, {str(copies)!r})"
    first, second, third = write(tmp_path, "a"), write(tmp_path, "b", copy), write(tmp_path, "c")
    result = demo(out, *only(first, second, third))
    assert result.exit_code == 0, result.output
    page = (copies / "index.html").read_text(encoding="utf-8")
    assert page.count("<section") == 1 and '<section id="a">' in page and REFRESH in page
    assert page.index("being fitted") < page.index("to come") and "reloads itself" in page
    assert '<img src="a/loss.svg"' in page and (copies / "a" / "loss.svg").is_file()
    last = (out / "index.html").read_text(encoding="utf-8")
    assert last.count("<section") == 3 and "3 of 3 pairs" in last
    for word in (REFRESH, "being fitted", "to come", "reloads", "quick look"):
        assert word not in last
    assert not list(out.glob("*.part")) and not list(out.glob(".*"))
    lines = result.output.splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[1/3] a", "[2/3] b", "[3/3] c"]
    assert sum(line.startswith(("a: fitted in", "b: fitted in", "c: fitted in")) for line in lines) == 3


def test_the_pair_with_the_least_work_comes_first(few_steps, monkeypatch, tmp_path: Path) -> None:
    """Also one of the user's own; one whose data cannot be made comes last, and its error is shown."""
    large, bad = PAIR.replace("[1.0, 2.5, 3.0]", "[1.0] * 9"), "raise OSError('no disk')"
    pairs = [write(tmp_path, "a", code=large), write(tmp_path, "b", bad), write(tmp_path, "c")]
    monkeypatch.setattr(credo, "names", lambda: [str(pair) for pair in pairs])
    result = demo(tmp_path / "out")
    assert result.exit_code == 2 and result.output.rstrip().endswith("Error: no disk")
    assert [line[6:] for line in result.output.splitlines() if line.startswith("[")] == ["c", "a", "b"]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "OSError: no disk" in page and REFRESH not in page and page.count("<section") == 3


def test_work_is_rows_times_one_and_the_numbers_of_the_networks() -> None:
    assert work(()) == 1 and work((torch.zeros(9), 2)) == 9
    assert work((nn.Linear(3, 2), torch.zeros(10, 3), torch.zeros(10))) == 10 * (1 + 3 * 2 + 2)
    assert work((pd.DataFrame({"a": range(7)}), torch.zeros(7))) == 7
    order = sorted(map(credo.load, credo.names()), key=_work_of)
    assert order[0].name == "linear_regression" and order[-1].name == "vae"
    assert work(credo.load("linear_regression").data()) < SMALL < work(credo.load("bnn_regression").data())


def test_first_rows_are_cut_from_what_has_a_row_for_each_observation() -> None:
    net, table = nn.Linear(1, 1), pd.DataFrame({"a": range(5)})
    x, y, other = torch.arange(5.0), torch.ones(5, 2), torch.zeros(2)
    cut = first_rows((net, x, y, table, other, 3.0), 3)
    assert cut[0] is net and cut[4] is other and cut[5] == 3.0
    assert cut[1].tolist() == [0, 1, 2] and cut[2].shape == (3, 2) and list(cut[3]["a"]) == [0, 1, 2]
    assert first_rows((x, y), 5)[0] is x


def test_quick_takes_fewer_rows_or_steps_and_says_so(few_steps, monkeypatch, tmp_path: Path) -> None:
    """Of 30 rows 20 are taken, and the fit runs until it stops; a network of 100 numbers on 15 rows takes 300 steps."""
    monkeypatch.setattr("credo.cli.demo.ROWS", 20)
    monkeypatch.setattr("credo.cli.demo.SMALL", 15 * 100)
    long = PAIR.replace("[1.0, 2.5, 3.0]", "[1.0, 2.0] * 15")
    network = PAIR.replace("model(x)", "model(net, x)").replace("guide(x)", "guide(net, x)")
    network = network.replace("(torch.tensor([1.0, 2.5, 3.0]),)", "torch.nn.Linear(9, 10), torch.ones(15)")
    out = tmp_path / "out"
    result = demo(out, "--quick", *only(write(tmp_path, "a", code=long), write(tmp_path, "b", code=network)))
    assert result.exit_code == 0, result.output
    assert [(len(asked["data"][-1]), asked.get("steps")) for asked in few_steps] == [(20, None), (15, QUICK)]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "A quick look" in page and f"after {QUICK} steps" in page and f"first {ROWS:,} rows" in page
    assert page.count("after the 3 steps asked for") == 2 and "trust: yes" not in page  # what the fits themselves say


@pytest.mark.parametrize("when", ["during a fit", "elsewhere"])
def test_ctrl_c_leaves_the_page_with_what_is_done(when: str, few_steps, monkeypatch, tmp_path: Path) -> None:
    fit = credo.fit

    def interrupted(model, guide, *data, **settings):
        found = fit(model, guide, *data, **settings)
        return (
            found if len(few_steps) == 1 else dataclasses.replace(found, stopped="interrupted after 3 steps (Ctrl-C)")
        )

    if when == "during a fit":
        monkeypatch.setattr(credo, "fit", interrupted)
    second = write(tmp_path, "b", "raise KeyboardInterrupt" if when == "elsewhere" else "pass")
    result = demo(tmp_path / "out", *only(write(tmp_path, "a"), second, write(tmp_path, "c")))
    assert result.exit_code == 130 and "Ended by Ctrl-C; 1 of 3 pairs" in result.output
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<section") == 1 and '<section id="a">' in page and '<img src="a/loss.svg"' in page
    assert page.count("not fitted") == 2 and "1 of 3 pairs" in page
    assert REFRESH not in page and "to come" not in page


def test_no_line_is_wider_than_the_terminal(few_steps, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a")
    result = demo(Path("out"), "--only", "a.py")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert "trust: " in result.output and "\ngradients:\n  loc ~ Normal: pathwise, " in result.output


def test_latents_with_the_same_answer_are_told_together(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [("a", "why not"), ("b", "for another reason, " * 6 + "that is long"), ("c", "why not")]
    answers = [{"site": s, "distribution": "N", "estimator": "e", "term": "-", "reason": r} for s, r in rows]
    show_plan(pd.DataFrame(answers).set_index("site"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["gradients:", "  a, c ~ N: e", "    because why not", "  b ~ N: e"]
    assert max(map(len, lines)) <= 80 and all(line.startswith("    ") for line in lines[4:])
    assert " ".join(" ".join(lines[4:]).split()) == "because " + rows[1][1]
    show_plan(pd.DataFrame(answers).set_index("site").head(0))
    assert not capsys.readouterr().out


def test_the_command_below_a_pair_of_ones_own_names_its_file(few_steps, tmp_path: Path) -> None:
    folder = tmp_path / "my pairs"
    folder.mkdir()
    path = write(folder, "a")
    assert demo(tmp_path / "out", "--only", path).exit_code == 0
    page = html.unescape((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert f"credo fit '{path}' --seed 0 --out {tmp_path}/out/a" in page
