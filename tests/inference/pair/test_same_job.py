"""Processes of a job that differ: an error on all of them, which names the rank and the difference."""

import functools
import types

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.pair import same_job
from credo.inference.pair.identity import settings_identity
from credo.inference.pair.same_job import (
    code_identity,
    refuse_other_options,
    refuse_other_pair,
    refuse_other_sites,
    start_from_first,
)
from credo.inference.runtime.state import entered, new_state
from credo.inference.runtime.workers import Workers, workers
from tests.cases.job import in_job

X = torch.arange(6.0)


def model(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))


def guide(x):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def told(monkeypatch, others):
    """Lets `refuse_...` hear what the other ranks say: others(what rank 0 says, rank) of ranks 1 and 2."""
    heard = lambda workers, mine: [mine, others(dict(mine), 1), others(dict(mine), 2)]  # noqa: E731
    monkeypatch.setattr(same_job, "gathered", heard)
    return Workers(0, 3, 0)


def test_one_process_has_nobody_to_differ_from():
    refuse_other_options(None, "credo.fit", {})
    refuse_other_pair(None, model, guide, (X,), ["x"])
    refuse_other_sites(None, {})
    start_from_first(None, new_state((), 0, torch.device("cpu")))


def test_equal_processes_are_taken(monkeypatch):
    job = told(monkeypatch, lambda mine, rank: mine)
    refuse_other_options(job, "credo.fit", settings_identity({"seed": 1, "lr": 0.01}))
    refuse_other_pair(job, model, guide, (X, torch.nn.Linear(2, 1)), ["x", "net"])


def test_another_seed_is_named(monkeypatch):
    job = told(monkeypatch, lambda mine, rank: {**mine, **settings_identity({"seed": rank + 4})})
    with pytest.raises(ValueError, match=r"rank 1: seed= is 5, and rank 0 has 4; rank 2: seed= is 6.*same options"):
        refuse_other_options(job, "credo.fit", settings_identity({"seed": 4, "lr": 0.1}))


def test_a_shard_given_by_hand_is_other_data(monkeypatch):
    of_rank = {rank: same_job.data_identity((X[rank::3],), ["x"]) for rank in range(3)}
    job = told(monkeypatch, lambda mine, rank: of_rank[rank] if "argument 'x'" in mine else mine)
    with pytest.raises(ValueError, match=r"rank 1: argument 'x' .* has other values.*Every process gets all rows"):
        refuse_other_pair(job, model, guide, (X[0::3],), ["x"])
    of_rank[2] = same_job.data_identity((X[:1],), ["x"])
    with pytest.raises(ValueError, match=r"rank 2: argument 'x' is float32 of shape \(1,\), and rank 0 has"):
        refuse_other_pair(job, model, guide, (X[0::3],), ["x"])


@pytest.mark.parametrize("what", ["Python", "torch", "credo", "model", "guide"])
def test_other_code_is_named(monkeypatch, what):
    other = {"Python": ["3.9.1", None], "torch": ["2.0", None]}.get(what, [code_identity(model, guide)[what][0], "0"])
    job = told(monkeypatch, lambda mine, rank: {**mine, what: other} if what in mine and rank == 2 else mine)
    with pytest.raises(ValueError, match=rf"the code differs.* rank 2: {what} .*same program, with the same versions"):
        refuse_other_pair(job, model, functools.partial(guide), (X,), ["x"])


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


def test_other_densities_are_other_code(monkeypatch):
    sites = lambda number: {"site 'z' of the model": ["Normal of shape ()", number, number, abs(number)]}  # noqa: E731
    job = told(monkeypatch, lambda mine, rank: sites(-float(rank)))
    with pytest.raises(ValueError, match=r"rank 2: site 'z' .* has log density -2 where rank 0 has -1"):
        refuse_other_sites(job, sites(-1.0))


def test_all_processes_raise_the_same_error_and_start_from_the_network_of_the_first():
    def work(rank):
        job = workers()
        with pytest.raises(ValueError, match=r"rank 1: argument 'x' .* has other values") as error:
            refuse_other_pair(job, model, guide, (X[rank::2],), ["x"])
        refuse_other_pair(job, model, guide, (X,), ["x"])
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
