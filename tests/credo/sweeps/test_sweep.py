"""A sweep: every setting once, whatever worker does it; failures are rows; a folder belongs to one sweep."""

import dataclasses
import functools
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

import credo
from tests.cases.pair_file import OWN

X = torch.tensor([1.0, 0.0, 1.0, 1.0])
PAIR = credo.load("coin_toss")
FAST = {"steps": 2, "compile": False, "plan": "fast"}
swept = partial(credo.sweep, PAIR.model, PAIR.guide, X)


@pytest.fixture(scope="module")
def one() -> credo.Fit:
    return credo.fit(PAIR.model, PAIR.guide, X, progress=False, **FAST)


@pytest.fixture
def calls(one, monkeypatch):
    """The options of each fit, which is that of the fixture but for its seed; lr=9 fails."""
    found = []

    def fit(model, guide, *data, **options):
        found.append(options)
        if options.get("lr") == 9:
            raise credo.Diverged("no", one)
        return dataclasses.replace(one, seed=options.get("seed", 0))

    monkeypatch.setattr(credo, "fit", functools.update_wrapper(fit, credo.fit))  # its signature, too
    return found


def test_a_row_is_the_fit_of_its_setting(tmp_path: Path) -> None:
    table = swept(folder=tmp_path / "new" / "deep", seed=[1], lr=[0.1], settings={"alpha": [3.0]}, **FAST)
    bound = partial(PAIR.model, alpha=3.0), partial(PAIR.guide, alpha=3.0)
    alone = credo.fit(*bound, X, seed=1, lr=0.1, progress=False, **FAST)
    (row,) = table.to_dict("records")
    loaded = credo.load_fit(row["path"], *bound, X)
    assert all(torch.equal(v, alone.params[k]) for k, v in loaded.params.items())
    # log p(x) of a Beta-Bernoulli in closed form, and q as it was fitted: ELBO = log p(x) - KL(q | posterior)
    mean, concentration = loaded.params["mean"], loaded.params["concentration"]
    q = torch.distributions.Beta(mean * concentration, (1 - mean) * concentration)
    posterior = torch.distributions.Beta(torch.tensor(6.0), torch.tensor(3.0))
    evidence = torch.distributions.Beta(torch.tensor(3.0), torch.tensor(2.0))

    def log_beta(d):
        return d.concentration1.lgamma() + d.concentration0.lgamma() - (d.concentration1 + d.concentration0).lgamma()

    wanted = log_beta(posterior) - log_beta(evidence) - torch.distributions.kl_divergence(q, posterior)
    assert abs(row["ELBO"] - wanted.item()) < 5 * row["error"] + 1e-4
    assert (row["seed"], row["lr"], row["alpha"], row["steps taken"]) == (1, 0.1, 3.0, 2)
    assert not list((tmp_path / "new" / "deep").glob("*.run")) + list((tmp_path / "new" / "deep").glob("*.begun"))


def test_every_combination_is_fitted_once_by_workers_of_any_kind(calls, tmp_path, monkeypatch) -> None:
    grid = {"folder": tmp_path, "seed": [0, 1], "lr": [0.1, 0.2]}
    assert list(swept(**grid, index=1)["lr"]) == [0.2]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert [(row.seed, row.lr) for row in swept(**grid).itertuples()] == [(0, 0.2), (1, 0.1)]
    with pytest.raises(ValueError, match=r"index: got 4, wanted 0 to 3: the sweep has 4 settings"):
        swept(**grid, index=4)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    table = swept(**grid)
    assert len(table) == len(calls) == 4 and table.attrs["best"] is not None
    assert len({(c["seed"], c["lr"]) for c in calls}) == 4
    assert len(swept(folder=tmp_path, seed=range(3), lr=[0.1, 0.2])) == 6 and len(calls) == 6  # it may grow
    assert credo.gather(tmp_path).equals(swept(**grid)) and len(calls) == 6


def test_a_failure_is_a_row_and_the_next_call_tries_it_again(calls, tmp_path) -> None:
    table = swept(folder=tmp_path, lr=[9, 0.1])
    failed = table[table["lr"] == 9].iloc[0]
    assert failed["stopped"].startswith("Diverged: no") and failed["trust"] == "no" and failed["path"] == ""
    assert failed["ELBO"] != failed["ELBO"] and table.attrs["best"] == table.index[table["lr"] == 0.1].item()
    assert len(swept(folder=tmp_path, lr=[9, 0.1])) == 2 and [c["lr"] for c in calls] == [9, 0.1, 9]


def test_ctrl_c_ends_a_sweep_and_leaves_its_setting_undone(calls, one, tmp_path, monkeypatch) -> None:
    stopped = dataclasses.replace(one, stopped="interrupted at step 2")
    then = functools.update_wrapper(lambda *_, seed, **__: one if seed == 0 else stopped, credo.fit)
    monkeypatch.setattr(credo, "fit", then)
    assert list(swept(folder=tmp_path, seed=[0, 1, 2])["seed"]) == [0]


def test_another_model_other_data_and_lists_that_are_no_grid_are_refused(calls, tmp_path, monkeypatch) -> None:
    swept(folder=tmp_path, seed=[0])

    def other(flips):
        raise AssertionError

    wrong = [
        (lambda: credo.sweep(other, PAIR.guide, X, folder=tmp_path), "holds another sweep: the model is .*other"),
        (lambda: credo.sweep(PAIR.model, PAIR.guide, 1 - X, folder=tmp_path), "argument 'flips' .* has other values"),
        (lambda: swept(folder=tmp_path, seed=[0, 1, 0]), "seed: 0 occurs twice"),
        (lambda: swept(folder=tmp_path, lr=[]), "lr: got an empty list"),
        (lambda: swept(folder=tmp_path, lr=lambda step: 0.1), "lr: got a lambda"),
        (lambda: swept(folder=tmp_path, seeds=[0, 1]), r"seeds: a sweep over seeds is seed="),
        (lambda: swept(folder=tmp_path, settings={"lr": [1.0]}), "lr is an option of credo.fit"),
        (lambda: swept(folder=tmp_path, settings={"alfa": [1.0]}), "did you mean 'alpha'"),
        (lambda: swept(folder=""), "folder: got ''"),
        (lambda: swept(folder=__file__), "is a file, wanted a folder"),
        (lambda: credo.gather(tmp_path / "nowhere"), "holds no sweep"),
    ]
    for call, words in wrong:
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="did you mean 'seed'"):
        swept(folder=tmp_path, sed=[0])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="started by torchrun with 2 processes"):
        swept(folder=tmp_path)
    assert len(calls) == 1


def test_a_guide_that_was_changed_is_another_setting(calls, tmp_path) -> None:
    def guide(flips):
        PAIR.guide(flips)

    first = guide

    def guide(flips):
        PAIR.guide(flips + 1)

    for each in (first, first, guide):
        table = credo.sweep(PAIR.model, [each, "mean_field"], X, folder=tmp_path)
    assert len(calls) == len(table) == 3 and set(table["guide"].str.rpartition(".")[2]) == {"guide", "mean_field"}


@pytest.mark.slow
def test_workers_that_share_a_folder_and_one_that_is_killed_make_each_setting_once(tmp_path: Path) -> None:
    """The table of three workers, of which one is killed, is that of one worker alone."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "x.csv").write_text("x\n1.0\n2.5\n3.0\n")
    command = [
        sys.executable,
        "-m",
        "credo",
        "sweep",
        "own.py",
        "--data",
        "x.csv",
        "--seed",
        "0,1,2,3",
        "--steps",
        "200",
    ]
    workers = [subprocess.Popen([*command, "--folder", "many", "--quiet"], cwd=tmp_path) for _ in range(3)]
    until = time.monotonic() + 120
    while not list(tmp_path.glob("many/*.begun")) and time.monotonic() < until:
        time.sleep(0.05)
    workers[0].kill()
    assert [w.wait(300) for w in workers][1:] == [0, 0]
    subprocess.run([*command, "--folder", "one", "--quiet"], cwd=tmp_path, check=True, timeout=300)
    subprocess.run([*command, "--folder", "many", "--quiet"], cwd=tmp_path, check=True, timeout=300)
    many, alone = (credo.gather(tmp_path / name).drop(columns=["path", "seconds"]) for name in ("many", "one"))
    assert list(many["seed"]) == [0, 1, 2, 3]
    assert (many["ELBO"] - alone["ELBO"]).abs().max() < 1e-4
