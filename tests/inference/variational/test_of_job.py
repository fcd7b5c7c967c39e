"""All processes of a job get what the first of them saw of a fit."""

import dataclasses

import torch

import credo
from credo.inference.posterior.verdict import Verdict
from credo.inference.runtime.workers import Workers
from credo.inference.variational import of_job
from credo.inference.variational.of_job import SEEN, seen_by_first


def test_the_first_process_looks_and_the_others_get_what_it_saw(monkeypatch):
    pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    fit = credo.fit(pair.model, pair.guide, flips, steps=5, compile=False, progress=False, plan="fast")
    wanted = dataclasses.replace(fit, verdict=Verdict("no", 0.9, ("of rank 0",), ""), stopped="there", importance=None)
    looks, sent = [], []

    def look(found):
        looks.append(found)
        return wanted

    assert seen_by_first(fit, None, look) is wanted

    def agreed(workers, compute):
        sent[:] = [compute()] if workers.rank == 0 else sent
        return sent[0]

    monkeypatch.setattr(of_job, "agreed", agreed)
    for rank in range(2):
        found = seen_by_first(fit, Workers(rank, 2, rank), look)
        assert all(getattr(found, name) is getattr(wanted, name) for name in SEEN) and found.params is fit.params
    assert len(looks) == 2  # by the process alone, and by the first of two
