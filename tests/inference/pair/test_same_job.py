"""Processes of a job that differ: an error on all of them, which names the rank and the difference."""

import functools
import types

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.pair import same_job
from credo.inference.pair.identity import ROWS, data_identity, settings_identity
from credo.inference.pair.pair import Pair
from credo.inference.pair.same_job import code_identity, refuse_other_sites, refuse_others, start_from_first
from credo.inference.runtime.state import entered, new_state
from credo.inference.runtime.workers import Workers, workers
from tests.cases.job import in_job

X = torch.arange(6.0)


def model(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))


def guide(x):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def told(monkeypatch, others):
    """Lets rank 0 hear what ranks 1 and 2 say: others(what rank 0 says, rank)."""
    monkeypatch.setattr(same_job, "gathered", lambda workers, mine: [mine, others(mine, 1), others(mine, 2)])
    return Workers(0, 3, 0)


def with_other(place, changed):
    """What other ranks say: that of rank 0, whose code (0), options (1) or data (2) are changed."""
    return lambda mine, rank: tuple({**each, **changed(rank)} if i == place else each for i, each in enumerate(mine))


def test_one_process_has_nobody_to_differ_from():
    state = new_state((), 0, torch.device("cpu"))
    refuse_others(None, (model, guide), {}, (X,))
    refuse_other_sites(None, Pair(model, guide, (X,)), state, None)
    start_from_first(None, state)


def test_equal_processes_are_taken_each_with_its_own_device_and_progress_bar(monkeypatch):
    asked = []
    job = told(monkeypatch, lambda mine, rank: asked.append(mine[1]) or mine)
    net_model = lambda x, net: None  # noqa: E731
    refuse_others(job, (net_model, guide), {"seed": 1, "device": "cuda:0"}, (X, torch.nn.Linear(2, 1)))
    assert asked[0].keys() == {"seed="}


def test_another_seed_is_named(monkeypatch):
    job = told(monkeypatch, with_other(1, lambda rank: settings_identity({"seed": rank + 4})))
    with pytest.raises(ValueError, match=r"rank 1: seed= is 5, and rank 0 has 4; rank 2: seed= is 6.*same options"):
        refuse_others(job, (model, guide), {"seed": 4, "lr": 0.1}, (X,))


def test_a_shard_given_by_hand_is_other_data(monkeypatch):
    job = told(monkeypatch, with_other(2, lambda rank: data_identity((X[rank::3],), ["x"])))
    with pytest.raises(ValueError, match=r"rank 1: argument 'x' .* has other values.*Every process gets all rows"):
        refuse_others(job, (model, guide), {}, (X[0::3],))
    job = told(monkeypatch, with_other(2, lambda rank: data_identity((X[: rank + 1],), ["x"])))
    with pytest.raises(ValueError, match=r"rank 2: argument 'x' is float32 of shape \(3,\), and rank 0 has"):
        refuse_others(job, (model, guide), {}, (X[:1],))


def test_of_a_large_mapped_file_some_rows_are_compared(monkeypatch, tmp_path):
    monkeypatch.setattr(same_job, "LARGE", 100)
    files = []
    for last in (0.0, 1.0):
        files.append(np.memmap(tmp_path / str(last), "float32", "w+", shape=(5000, 2)))
        files[-1][-1] = last
    asked = [same_job.data_identity([same_job._some(file)], ["x"])["argument 'x'"] for file in files]
    assert asked[0][0] == asked[1][0] and asked[0][1] != asked[1][1]
    assert same_job._some(files[0])[2].shape == (ROWS, 2)


@pytest.mark.parametrize("what", ["Python", "torch", "credo", "model", "guide"])
def test_other_code_is_named(monkeypatch, what):
    other = {"Python": ["3.9.1", None], "torch": ["2.0", None]}.get(what, [code_identity(model, guide)[what][0], "0"])
    job = told(monkeypatch, with_other(0, lambda rank: {what: other} if rank == 2 else {}))
    with pytest.raises(ValueError, match=rf"other code. rank 2: {what} .*same program, with the same versions"):
        refuse_others(job, (model, functools.partial(guide)), {}, (X,))


def test_code_is_known_by_the_file_that_holds_it(tmp_path):
    def written(text):
        (tmp_path / "program.py").write_text(text)
        module = types.ModuleType("program")
        exec(compile(text, str(tmp_path / "program.py"), "exec"), module.__dict__)
        return code_identity(module.model, "mean_field")

    one, two = written("def model():\n    return 1\n"), written("def model():\n    return 2\n")
    assert one["model"][0] == two["model"][0] == "model of program.py" and one["model"][1] != two["model"][1]
    assert one["guide"] == ["str", None] and one["credo"] == two["credo"]
    assert code_identity(torch.nn.Linear(1, 1), eval("lambda: 0"))["guide"] == ["<lambda>", None]


def test_other_densities_are_another_pair(monkeypatch):
    other = {"site 'z' of the model": ["Normal of shape ()", -9.0, -9.0, 9.0]}
    job, state = told(monkeypatch, lambda mine, rank: {**mine, **other} if rank == 2 else mine), None
    state = new_state((), 0, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"another pair. rank 2: site 'z' .* has log density -9 where rank 0 has"):
        refuse_other_sites(job, Pair(model, guide, (X,)), state, None)


def test_all_processes_raise_the_same_error_and_start_from_the_network_of_the_first():
    def work(rank):
        job = workers()
        with pytest.raises(ValueError, match=r"rank 1: argument 'x' .* has other values") as error:
            refuse_others(job, (model, guide), {}, (X[rank::2],))
        refuse_others(job, (model, guide), {}, (X,))
        torch.manual_seed(rank)
        net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
        net[1].running_mean += rank
        state = new_state((net,), 7 + rank, torch.device("cpu"))
        with entered(state):
            pyro.param("loc", torch.randn(()))
        start_from_first(job, state)
        before = net[0].weight.tolist()
        with entered(state):
            found = [t.tolist() for t in (net[0].weight, net[1].running_mean, pyro.param("loc"), torch.rand(()))]
        return str(error.value), before, found

    one, two = in_job(work)
    assert one[0] == two[0] and one[1] != two[1]
    assert one[2][:3] == two[2][:3] and one[2][0] == one[1], "the network of the first, in both"
    assert one[2][3] != two[2][3], "generators stay those of the run"
