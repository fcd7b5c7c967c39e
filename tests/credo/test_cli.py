"""The command line: what it prints and writes, and what it says to bad input."""

import io
import os
import zipfile
from functools import partial
from pathlib import Path

import pandas as pd
import pyro
import pytest
import torch
from click.testing import CliRunner, Result

import credo
from credo.cli import main
from credo.inference.capture.aot import MARK
from credo.report.analysis import arguments
from credo.report.tables import quoted
from tests.cases.pair_file import OWN

POSTERIOR = """
def posterior(x):
    from types import SimpleNamespace
    x = x.double()
    v = 1 / (0.01 + len(x))
    p = dist.MultivariateNormal(torch.zeros(len(x)).double(), torch.eye(len(x)).double() + 100)
    marginals = {"loc": dist.Normal(v * x.sum(), torch.tensor(v).sqrt())}
    return SimpleNamespace(marginals=marginals, log_evidence=p.log_prob(x).item())
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def write(folder: Path, name: str, text: str | bytes) -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def test_list_names_every_pair_with_its_title() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert "coin_toss" in result.output and "how probable is heads" in result.output


def test_plan_shows_the_estimator_and_the_reason() -> None:
    result = run("plan", "coin_toss", "--seed", 1)
    assert result.exit_code == 0
    assert "pathwise" in result.output and "implicit" in result.output


def test_fit_of_a_users_own_file_writes_table_and_pictures(tmp_path: Path) -> None:
    pair, data = write(tmp_path, "own.py", OWN), write(tmp_path, "x.csv", "x\n1.0\n2.5\n3.0\n")
    result = run("fit", pair, "--data", data, "--steps", 60, "--out", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert list(pd.read_csv(tmp_path / "out" / "summary.csv")["site"]) == ["loc"]
    assert {p.name for p in (tmp_path / "out").glob("*.svg")} == {"loss.svg", "belief.svg", "predictive.svg"}


def test_compare_finds_the_posterior_beside_the_model(tmp_path: Path) -> None:
    pair, data = write(tmp_path, "mine.py", OWN + POSTERIOR), write(tmp_path, "x.csv", "x\n1.0\n2.5\n3.0\n")
    result = run("compare", pair, "--data", data, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    row = pd.read_csv(tmp_path / "out" / "compare.csv").iloc[0]
    assert abs(row["error in sds"]) < 0.05 and abs(row["sd ratio"] - 1) < 0.03
    assert row["exact mean"] == pytest.approx(6.5 / 3.01)


BAD = [
    (("fit", "coin_toss"), "flips\n1\n0\n2\n", ["flips", "2.0", "0 or 1"]),
    (("fit", "coin_toss"), "heads\n1\n0\n", ["no column 'flips'", "heads"]),
    (("fit", "coin_toss"), "flips\n", ["no rows"]),
    (("fit", "coin_toss"), "", ["cannot be read"]),
    (("fit", "coin_toss"), "flips\n1\nnan\n0\n", ["flips", "1 of 3", "not finite"]),
    (("fit", "linear_regression"), "a,y\n1,2\n1,3\n1,4\n", ["'a'", "constant"]),
    (("fit", "linear_regression"), "a,b\n1,2\n2,3\n", ["'y'", "['a', 'b']"]),
    (("fit", "linear_regression"), "a,y\n1,2\n2,inf\n3,4\n", ["'y'", "1 missing or infinite"]),
    (("fit", "linear_regression"), "a,y\nu,2\nv,3\n", ["'a'", "numbers"]),
    (("fit", "nosuch"), None, ["'nosuch'", "coin_toss"]),
    (("plan", "nosuch.py"), None, ["nosuch.py"]),
    (("fit", "coin_toss", "--steps", -1), None, ["steps", "-1"]),
    (("fit", "coin_toss", "--device", "nodevice"), None, ["device", "nodevice"]),
    (("fit", "coin_toss", "--data", "nowhere.csv"), None, ["nowhere.csv"]),
    (("fit", "coin_toss"), "flips;weight\n1;2\n", ["bad.csv", "separated by ';', wanted commas"]),
    (("fit", "coin_toss"), "flips\nheads\ntails\n", ["flips", "wanted numbers"]),
    (("fit", "coin_toss"), "flips,flips\n1,0\n0,0\n", ["bad.csv", "two columns are called 'flips'"]),
    (("fit", "coin_toss"), "flips,weight\n1,0,\n0,0,\n", ["bad.csv", "more values than its header line has names"]),
    (("fit", "coin_toss"), b"PK\x03\x04\x80\xff", ["bad.csv", "cannot be read as a CSV file"]),
    (("fit", "coin_toss", "--data", "."), None, ["'--data'", "'.' is a directory"]),
    (("fit", "coin_tos"), None, ["'coin_tos'", "did you mean 'coin_toss'?"]),
    (("fit", "coin_toss", "--seed", 2**32), None, ["seed", "at most 4294967295"]),
    (("fit", "coin_toss", "--device", "meta"), None, ["device", "'meta'", "try 'cpu'"]),
    (("fit", "coin_toss", "--out", __file__), None, ["--out", "test_cli.py"]),
    (("fit", "coin_toss", "--out", f"{__file__}/out"), None, ["--out", "test_cli.py is a file, wanted a folder"]),
    (("fit", "tests.py"), None, ["no file 'tests.py'"]),
    (("fitt",), None, ["'fitt'", "id you mean 'fit'?"]),
    (("fit", "coin_toss", "--step", 3), None, ["--step", "id you mean", "--steps"]),
    (("fit", "coin_toss", "--guide", "full_rang"), None, ["guide: got 'full_rang'", "'full_rank'"]),
    (("fit", "coin_toss", "--lr", 0), None, ["lr: got 0", "wanted a positive"]),
    (("fit", "coin_toss", "--batch-size", 0), None, ["batch_size: got 0"]),
    (("fit", "coin_toss", "--seeds", 0), None, ["seeds: got 0"]),
    (("fit", "coin_toss", "--set", "alfa=3"), None, ["no setting of this name", "did you mean 'alpha'?"]),
    (("fit", "coin_toss", "--set", "flips=3"), None, ["--set flips", "['alpha', 'beta']"]),
    (("fit", "coin_toss", "--set", "alpha"), None, ["got 'alpha', wanted name=value"]),
    (("fit", "coin_toss", "--set", "alpha=none"), None, ["did you mean alpha=None?"]),
    (("fit", "coin_toss", "--set", "alpha=Nonne"), None, ["did you mean alpha=None?"]),
    (("fit", "coin_toss", "--set", "alpha=abc"), None, ["text keeps its quotes, --set 'alpha=\"abc\"'"]),
    (("fit", "coin_toss", "--set", "alpha=__import__('os')"), None, ["alpha: got", "wanted a number"]),
    (("fit", "coin_toss", "--set", "alpha=1", "--set", "alpha=2"), None, ["alpha is set twice"]),
    (("fit", "coin_toss", "--save", "."), None, ["--save", "directory"]),
    (("fit", "coin_toss", "--save", f"{__file__}/fit"), None, ["--save", "test_cli.py"]),
    (("fit", "coin_toss", "--predict", "nowhere.csv"), None, ["--predict", "'nowhere.csv' is no file"]),
    (("fit", "coin_toss", "--predict", __file__), None, ["--predict", "the built-in data have no columns"]),
    (("fit", "coin_toss", "--out", "/proc/nowhere"), None, ["--out", "/proc/nowhere: no file can be written there"]),
    (("compare", "vae"), None, ["vae: no exact posterior is known", "--reference", "posterior(*data)"]),
]


@pytest.mark.parametrize(("arguments", "csv", "words"), BAD, ids=lambda v: str(v)[:40])
def test_bad_input_is_named_without_a_traceback(
    arguments: tuple, csv: str | bytes | None, words: list[str], tmp_path: Path
) -> None:
    before = torch.get_rng_state(), dict(pyro.get_param_store().named_parameters())
    if csv is not None:
        arguments += ("--data", write(tmp_path, "bad.csv", csv))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output
    assert torch.equal(torch.get_rng_state(), before[0])
    assert dict(pyro.get_param_store().named_parameters()) == before[1]


def test_credo_alone_shows_what_there_is_and_is_no_mistake() -> None:
    result = run()
    assert result.exit_code == 0 and all(word in result.output for word in ("Usage:", "compare", "cache"))


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    for option in ("--data", "--predict"):
        result = run("fit", "coin_toss", option, tmp_path / "pipe")
        assert result.exit_code == 2 and "is a pipe or a device, wanted a CSV file" in result.output


def test_out_is_refused_before_anything_is_computed_and_leaves_no_folder(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(credo, "fit", lambda *_, **__: pytest.fail("computed"))
    sealed = write(tmp_path, "file", "")
    for option in ("--out", "--save"):
        result = run("fit", "coin_toss", option, sealed / "deep" / "x")
        assert result.exit_code == 2 and "file is a file, wanted a folder" in result.output
    result = run("fit", "nosuch", "--out", tmp_path / "new" / "deep")
    assert result.exit_code == 2 and not (tmp_path / "new").exists()


COUNTIES = """
import pyro, torch, pyro.distributions as dist

def model(county, x, y=None):
    with pyro.plate("G", 2):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(a[county] + x, 1.0), obs=y)
"""


@pytest.mark.filterwarnings("default:column county")
def test_a_fit_is_saved_and_predicts_new_rows_quietly(tmp_path: Path) -> None:
    """Exact: a[v] ~ N(sum(y - x) / (n + .01), 1 / (n + .01)), y* ~ N(a[v] + x*, 1 + 1 / (n + .01))."""
    pair = write(tmp_path, "counties.py", COUNTIES)
    data = write(tmp_path, "x.csv", "county,x,y\nu,1,4\nv,2,-4\nu,0,4\nv,1,-3\n")
    new = write(tmp_path, "new.csv", "x,county\n3,v\n0,u\n")
    result = run("fit", pair, "--data", data, "--predict", new, "--save", tmp_path / "f", "--quiet")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(io.StringIO(result.stdout), index_col=0)  # and nothing else
    assert abs(table["mean"][0] - (3 - 10 / 2.01)) < 0.15 and abs(table["mean"][1] - 7 / 2.01) < 0.15
    assert ((table["high"] - table["low"]) / (2 * 1.645 * (1 + 1 / 2.01) ** 0.5) - 1).abs().max() < 0.1
    loaded = credo.load_fit(tmp_path / "f", credo.pairs.load_alone(pair).model)
    assert loaded.exact is not None and abs(loaded.exact.marginals["a"].mean[1] + 10 / 2.01) < 1e-4
    result = run("fit", pair, "--data", data, "--predict", new, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 0 and not result.stdout
    assert list(pd.read_csv(tmp_path / "out" / "predictions.csv").columns)[1:] == ["mean", "sd", "low", "high"]
    result = run("fit", pair, "--data", data, "--predict", write(tmp_path, "new.csv", "x,county\n3,w\n"))
    assert result.exit_code == 2 and "has not seen the label 'w'" in result.output


def test_a_command_goes_on_from_its_checkpoint_and_refuses_that_of_another(tmp_path: Path) -> None:
    pair, data = write(tmp_path, "own.py", OWN), write(tmp_path, "x.csv", "x\n1.0\n2.5\n3.0\n")
    command = ("fit", pair, "--data", data, "--steps", 20, "--particles", 2, "--checkpoint", tmp_path / "run.credo")
    first, again = run(*command), run(*command)
    assert first.exit_code == again.exit_code == 0
    rows = [[line for line in r.output.splitlines() if line.startswith(("Fit", "loc"))] for r in (first, again)]
    assert rows[0] == rows[1] and len(rows[0]) == 2  # what it says of trust depends on the time of the run
    assert (tmp_path / "run.credo").is_file()
    other = run(*command, "--seed", 1)
    assert other.exit_code == 2 and "of another run: seed" in other.output


ALONE = OWN[: OWN.index("def guide")]


def test_a_file_with_a_model_alone_is_fitted_planned_and_compared(tmp_path: Path) -> None:
    """The guide is chosen, and credo.exact finds the posterior: N(sum x / (n + .01), 1 / (n + .01))."""
    pair, data = write(tmp_path, "alone.py", ALONE), write(tmp_path, "x.csv", "x\n1.0\n2.5\n3.0\n")
    result = run("fit", pair, "--data", data)
    assert result.exit_code == 0, result.output
    assert "Fit by closed form" in result.output and "trust: yes" in result.output
    row = next(line.split() for line in result.output.splitlines() if line.startswith("loc "))
    assert row[1:3] == [f"{6.5 / 3.01:.4g}", f"{3.01**-0.5:.4g}"]
    assert run("plan", pair, "--data", data).exit_code == 0
    result = run("compare", pair, "--data", data, "--guide", "mean-field", "--seeds", 2, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "2 of 2 seeds found this" in result.output and list(pd.read_csv(tmp_path / "seeds.csv")["seed"]) == [0, 1]
    assert abs(pd.read_csv(tmp_path / "compare.csv")["exact mean"].item() - 6.5 / 3.01) < 1e-5


@pytest.mark.slow
def test_compare_asks_nuts_where_no_posterior_is_known(tmp_path: Path) -> None:
    pair = write(tmp_path, "cauchy.py", ALONE.replace("dist.Normal(loc, 1.0), obs", "dist.Cauchy(loc, 1.0), obs"))
    arguments = ("compare", pair, "--data", write(tmp_path, "x.csv", "x\n1.0\n2.5\n3.0\n"))
    result = run(*arguments)
    assert result.exit_code == 2 and "cauchy: no exact posterior is known: site 'loc'" in result.output
    result = run(*arguments, "--reference", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    row = pd.read_csv(tmp_path / "compare.csv").iloc[0]
    assert abs(row["error in sds"]) < 0.3 and "mc error in sds" in row and "NUTS" in result.output


def test_settings_go_to_model_guide_and_posterior(tmp_path: Path) -> None:
    data = write(tmp_path, "x.csv", "a,y\n1,2\n2,5\n3,4\n5,9\n")
    arguments = ("compare", "linear_regression", "--data", data, "--steps", 5)
    for settings, there in (((), False), (("--set", "sigma=None"), True), (("--set", "sigma=0.5"), False)):
        result = run(*arguments, *settings)
        assert result.exit_code == 0, result.output
        assert ("sigma2" in result.output) == there and "log evidence" in result.output


def test_the_options_reach_the_fit(monkeypatch, tmp_path: Path) -> None:
    seen: dict = {}

    def fit(model, guide, *data, **options):
        seen.update(options, guide=guide)
        raise ValueError("seen")

    monkeypatch.setattr(credo, "fit", fit)
    options = (
        "--steps",
        7,
        "--lr",
        0.5,
        "--batch-size",
        3,
        "--seed",
        4,
        "--seeds",
        2,
        "--guide",
        "low-rank",
        "--quiet",
    )
    assert run("fit", "coin_toss", *options).exit_code == 2
    assert seen == {
        **{"steps": 7, "lr": 0.5, "batch_size": 3, "seed": 4, "seeds": 2, "guide": "low_rank", "progress": False}
    }
    assert run("fit", "coin_toss", "--guide", "none").exit_code == 2 and seen["guide"] is None


def test_a_sweep_takes_lists_and_gather_shows_what_there_is(tmp_path: Path) -> None:
    pair, data = write(tmp_path, "own.py", OWN), write(tmp_path, "x.csv", "x\n1.0\n2.5\n3.0\n")
    arguments = ("sweep", pair, "--data", data, "--folder", tmp_path / "all", "--guide", "none,full-rank")
    result = run(*arguments, "--index", 0)
    assert result.exit_code == 0 and "1 settings in" in result.output, result.output
    assert run(*arguments, "--quiet").output == ""
    result = run("gather", tmp_path / "all", "--out", tmp_path / "out")
    assert result.exit_code == 0 and "2 settings in" in result.output, result.output
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    # log N(x; 0, I + 100), and both ways find the posterior
    prior = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3) + 100)
    assert (table["ELBO"] - prior.log_prob(torch.tensor([1.0, 2.5, 3.0])).item()).abs().max() < 1e-3
    for wrong, words in (
        (("--seed", "0,a"), "got '0,a', wanted whole numbers"),
        (("--index", 7), "index: got 7, wanted 0 to 1"),
        (("--set", "mu=[1, 2]"), "no setting of this name"),
    ):
        result = run(*arguments, *wrong)
        assert result.exit_code == 2 and words in result.output, result.output
    assert "holds no sweep" in run("gather", tmp_path / "out").output


def test_text_that_a_spreadsheet_would_run_is_quoted() -> None:
    """Numbers stay numbers, also negative ones; a name that only holds the sign is as it was."""
    index = pd.Index(["=cmd()", "-b", "a=b", "-", "@x", "+1"], name="=site")
    table = quoted(pd.DataFrame({"=mean": -1.5, "words": ["=1+1", "plain", "\tx", "-2", "-", ""]}, index=index))
    assert list(table.index) == ["'=cmd()", "'-b", "a=b", "-", "'@x", "'+1"]
    assert list(table.columns) == ["'=mean", "words"] and table.index.name == "'=site"
    assert list(table["words"]) == ["'=1+1", "plain", "'\tx", "'-2", "-", ""] and (table["'=mean"] == -1.5).all()


def test_a_site_that_is_a_formula_is_quoted_in_the_summary(tmp_path: Path) -> None:
    pair = write(tmp_path, "evil.py", ALONE.replace('sample("loc"', "sample('=HYPERLINK(\"http://a\")'"))
    result = run("fit", pair, "--data", write(tmp_path, "x.csv", "x\n1.0\n2.5\n"), "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(tmp_path / "summary.csv")["site"].item() == '\'=HYPERLINK("http://a")'


def test_a_plan_is_read_down_the_page(tmp_path: Path) -> None:
    lines = run("plan", "coin_toss", "--data", write(tmp_path, "x.csv", "flips\n1\n0\n")).output.splitlines()
    assert lines[0].split() == ["site", "p"] and max(map(len, lines)) <= 100
    assert [line.split()[1] for line in lines if line.startswith("distribution")] == ["Beta"]
    lines = run(
        "plan", "linear_regression", "--data", write(tmp_path, "x.csv", "a,y\n1,2\n2,5\n4,4\n")
    ).output.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("site")] == ["theta", "b"]
    assert max(map(len, lines)) <= 100 and lines.count("") == 1


def test_the_cache_is_shown_and_cleared(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDO_CACHE", str(tmp_path))
    step = tmp_path / "2.13.0-a"
    step.mkdir()
    (step / MARK).touch()
    (step / "library").write_bytes(bytes(2_000_000))
    (tmp_path / "mine").mkdir()
    assert "1 compiled steps, 2.0 MB" in run("cache").output and step.exists()
    assert "deleted 1 compiled steps, 2.0 MB" in run("cache", "--clear").output
    assert not step.exists() and (tmp_path / "mine").exists()
    assert "0 compiled steps" in run("cache").output


GROUPS = """
import pyro, torch, pyro.distributions as dist

def model(g, y):
    with pyro.plate("G", 2):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)

def guide(g, y):
    m = pyro.param("m", torch.zeros(2))
    with pyro.plate("G", 2):
        pyro.sample("a", dist.Normal(m, 0.5))
"""


@pytest.mark.filterwarnings("default:column g")
@pytest.mark.parametrize(
    "table", [",g,y\n1,u,4\n2,v,-4\n3,u,4\n", "g,y\n1,u,4\n2,v,-4\n3,u,4\n", "g,y\nu,4\nv,-4\nu,4\n"]
)
def test_labels_in_a_file_become_codes_that_are_printed(table: str, tmp_path: Path) -> None:
    """With row numbers as R writes them, in a column without a name or without a column, and without them."""
    pair, data = write(tmp_path, "groups.py", GROUPS), write(tmp_path, "g.csv", table)
    result = run("fit", pair, "--data", data, "--steps", 300, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "codes of g: 0 (u), 1 (v)" in result.stdout
    assert result.stderr == "Warning: column g: 2 labels became the codes 0 (u), 1 (v)\n"
    means = pd.read_csv(tmp_path / "summary.csv").set_index("site")["mean"]
    assert means["a[u]"] > 2 and means["a[v]"] < -2


@pytest.mark.parametrize(("old", "new", "words"), [
    ('sample("loc", dist.Normal(m', 'sample("lok", dist.Normal(m', ["'lok'", "did you mean 'loc'"]),
    ("def guide", "def guides", ["did you mean 'guides' to be it?"]),
    ('    pyro.sample("loc", dist.Normal(m, s))\n', "", ["no site 'loc'", "Add pyro.sample('loc', ...)"]),
    ("def guide", "def gide", ["no function 'guide'"]),
])  # fmt: skip
def test_a_guide_that_does_not_match_is_refused(old: str, new: str, words: list[str], tmp_path: Path) -> None:
    assert old in OWN
    pair = write(tmp_path, "wrong.py", OWN.replace(old, new))
    result = run("fit", pair, "--data", write(tmp_path, "x.csv", "x\n1.0\n2.0\n"))
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.output


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def model(x:\n", ["own.py, line 1: cannot be loaded", "SyntaxError"]),
        ("import nosuchpackage\n", ["own.py, line 1: cannot be loaded", "nosuchpackage"]),
        ("x = 1\nx / 0\n", ["own.py, line 2: cannot be loaded: ZeroDivisionError: division by zero"]),
        ("import sys\nsys.exit(3)\n", ["own.py, line 2: cannot be loaded: SystemExit"]),
        (b"x = 1\x00\n", ["own.py", "cannot be loaded"]),
        ("model = guide = 3\n", ["own.py", "no function 'model'"]),
        (OWN + "data = 5\n", ["own.py", "'data' is a int, wanted a function"]),
        (OWN + "def data(table):\n    return table['q']\n", ["own.py, line 14: KeyError: 'q'"]),
        (OWN + "def data(table):\n    return 5\n", ["data() returned a int, wanted a tuple"]),
        (OWN + "def data(table):\n    return {}\n", ["data() returned a dict, wanted a tuple"]),
        (
            OWN.replace("    loc =", "    raise TypeError('mine')\n    loc ="),
            ["TypeError: mine", "while the model ran once"],
        ),
    ],
)
def test_a_users_file_that_fails_is_named_without_a_traceback(
    code: str | bytes, words: list[str], tmp_path: Path
) -> None:
    result = run("fit", write(tmp_path, "own.py", code), "--data", write(tmp_path, "x.csv", "x\n1.0\n2.0\n"))
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.output


def test_a_posterior_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    data = write(tmp_path, "x.csv", "x\n1.0\n2.0\n")
    for code, words in (
        ("def posterior(x):\n    return {}['b']\n", "own.py, line 14: KeyError: 'b'"),
        ("def posterior(x):\n    return 5\n", "a int without .marginals, wanted a posterior"),
    ):
        result = run("compare", write(tmp_path, "own.py", OWN + code), "--data", data, "--steps", 1)
        assert result.exit_code == 2 and words in result.output, result.output


def test_a_path_from_here_is_the_file_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "own.py", OWN.replace("    loc =", "    1 / 0\n    loc ="))
    result = run("fit", "own.py", "--data", write(tmp_path, "x.csv", "x\n1.0\n2.0\n"))
    assert result.exit_code == 2 and "own.py, line 5: ZeroDivisionError" in result.output, result.output


def test_packed_files_and_blanks_in_a_header_line_are_named(tmp_path: Path) -> None:
    pair, packed = write(tmp_path, "own.py", OWN), tmp_path / "x.zip"
    with zipfile.ZipFile(packed, "w") as files:
        files.writestr("one.csv", "x\n1.0\n2.0\n")
    assert run("fit", pair, "--data", packed, "--steps", 2).exit_code == 0
    with zipfile.ZipFile(packed, "a") as files:
        files.writestr("two.csv", "x\n1.0\n")
    for data, words in (
        (packed, "x.zip: cannot be read as a CSV file (Multiple files found in ZIP file."),
        (packed, "wanted one CSV file, unpack it first"),
        (write(tmp_path, "x.csv.gz", b"x\n1.0\n"), "x.csv.gz: cannot be read as a CSV file"),
    ):
        result = run("fit", pair, "--data", data)
        assert result.exit_code == 2 and words in result.output, result.output


BUILT_IN = """
def data():
    return (torch.tensor([1.0, 2.5, 3.0]),)
"""
WIDE = """
import pyro, torch, pandas as pd, pyro.distributions as dist

def model(x):
    w = pyro.sample("w", dist.Normal(torch.zeros(5, 10), 1.0).to_event(2))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(w.sum(), 1.0), obs=x)

def guide(x):
    m = pyro.param("m", torch.full((5, 10), -2.0))
    pyro.sample("w", dist.Normal(m, 0.25).to_event(2))

def data():
    return (torch.ones(3),)

def lesson(x):
    return pd.DataFrame({"rows": [len(x)]})

def report(params):
    return pd.DataFrame({"m": [params["m"].mean().item()]}, index=pd.Index(["w"], name="layer"))
"""


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credo, "fit", partial(credo.fit, steps=5))


@pytest.mark.usefixtures("few_steps")
def test_demo_of_one_pair_writes_tables_pictures_and_the_page(tmp_path: Path) -> None:
    pair, out = write(tmp_path, "own.py", OWN + POSTERIOR + BUILT_IN), tmp_path / "out"
    result = run("demo", "--only", pair, "--out", out, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.*")} == {
        "index.html",
        "own/compare.csv",
        "own/belief.svg",
        "own/predictive.svg",
        "own/loss.svg",
    }
    page = (out / "index.html").read_text(encoding="utf-8")
    for text in ("own/belief.svg", "own/loss.svg", "seed 3", "nats from the exact posterior", f"--out {out}/own"):
        assert text in page
    (said,) = [line for line in result.output.splitlines() if line.startswith("log evidence")]
    assert said.split(",")[0].replace("-", "−") in page
    assert "coin_toss" not in result.output and str(out / "index.html") in result.output


@pytest.mark.usefixtures("few_steps")
def test_demo_shows_what_there_is_after_a_failure_and_raises_it(tmp_path: Path) -> None:
    late = OWN + POSTERIOR.replace("x = x.double()", "raise ValueError('<late>')") + BUILT_IN
    bad = OWN.replace("    loc =", "    raise OSError('early')\n    loc =") + BUILT_IN
    only = [write(tmp_path, n, t) for n, t in (("a.py", late), ("b.py", bad), ("c.py", OWN + BUILT_IN))]
    result = run("demo", *(v for pair in only for v in ("--only", pair)), "--out", tmp_path / "out")
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert result.output.rstrip().endswith("Error: <late>")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "ValueError: &lt;late&gt;" in page and "OSError: early" in page
    first, second, third = page.split("<section")[1:]
    assert "after the 5 steps asked for" in first and "img" not in first  # it was fitted, and then failed
    assert "steps" not in second and "c/loss.svg" in third


def test_demo_refuses_what_it_cannot_show_before_it_begins(tmp_path: Path) -> None:
    result = run("demo", "--only", "coin_toss", "--only", "nosuch", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "no pair named 'nosuch'" in result.output
    result = run("demo", "--only", write(tmp_path, "own.py", OWN), "--out", tmp_path / "out")
    assert result.exit_code == 2 and "has no built-in data" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("few_steps")
def test_many_scalars_are_summed_up_and_tables_of_the_pair_are_kept(tmp_path: Path) -> None:
    pair, out = write(tmp_path, "wide.py", WIDE), tmp_path / "out"
    result = run("fit", pair, "--steps", 0, "--out", out)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out / "summary.csv").set_index("site")
    assert table.loc["w"].to_dict() == {"numbers": 50, "mean |mean|": 2, "mean sd": 0.25}
    assert pd.read_csv(out / "lesson.csv")["rows"].tolist() == [3]
    assert pd.read_csv(out / "report.csv").to_dict("list") == {"layer": ["w"], "m": [-2]}
    assert (out / "loss.svg").exists()


def test_fit_of_a_classifier_says_what_it_is_worth_on_rows_held_out() -> None:
    result = run("fit", "bnn_classifier", "--steps", 2)
    assert result.exit_code == 0, result.output
    assert "360 held-out rows: accuracy 0." in result.output and "nll" in result.output


NETWORK = """
import pyro, torch, pyro.distributions as dist
from types import SimpleNamespace

def model(net, x):
    pyro.module("net", net)
    pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(net(x.new_ones(1)), 1.0), obs=x)

def guide(net, x):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))

def posterior(net, x):
    return SimpleNamespace(marginals={"z": dist.Normal(net.bias.detach().double().sum(), 1.0)}, log_evidence=0.0)

lesson = lambda net, x: __import__("pandas").DataFrame({"bias": [net.bias.item()]})

def data():
    net = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(net.bias)
    return net, torch.full((9,), 50.0)
"""


def test_posterior_and_lesson_see_the_network_that_was_trained(tmp_path: Path) -> None:
    result = run("compare", write(tmp_path, "net.py", NETWORK), "--steps", 40, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(tmp_path / "compare.csv")["exact mean"].item() > 0.1
    assert pd.read_csv(tmp_path / "lesson.csv")["bias"].item() > 0.1


def test_a_file_goes_to_data_only_where_it_takes_a_table(tmp_path: Path) -> None:
    """`data(n=3)` has settings of its own: a table is none of them, and goes to the model by its columns."""
    csv = Path(write(tmp_path, "x.csv", "x\n1.0\n2.0\n"))
    for signature, kind in (("n=3", pd.DataFrame), ("table=None", torch.Tensor)):
        code = WIDE + f"\ndef data({signature}):\n    return (torch.ones(3),)\n"
        (found,) = arguments(credo.load(str(write(tmp_path, f"{kind.__name__}.py", code))), csv)
        assert isinstance(found, kind)


@pytest.mark.slow
def test_a_large_file_is_read_by_windows(tmp_path, monkeypatch):
    from credo.inference.streaming import csv_file, sizes
    from credo.report import analysis

    for place, name, value in ((sizes, "WINDOW", 4000), (analysis, "WINDOW", 1000), (csv_file, "BYTES", 2000)):
        monkeypatch.setattr(place, name, value)
    (tmp_path / "pair.py").write_text(
        "import pyro, pyro.distributions as dist\n"
        "def model(x):\n"
        "    loc = pyro.sample('loc', dist.Normal(0.0, 10.0))\n"
        "    with pyro.plate('rows', len(x)):\n"
        "        pyro.sample('x', dist.Normal(loc, 1.0), obs=x)\n"
    )
    (tmp_path / "rows.csv").write_text("x\n" + "".join(f"{i % 7}.5\n" for i in range(3000)))
    files = [str(tmp_path / "pair.py"), "--data", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out")]
    options = ["--guide", "mean_field", "--batch-size", "100", "--steps", "60"]
    found = CliRunner().invoke(main, ["fit", *files, *options])
    assert found.exit_code == 0, found.output
    assert "scores and pictures are left out" in found.output and (tmp_path / "out" / "summary.csv").exists()
