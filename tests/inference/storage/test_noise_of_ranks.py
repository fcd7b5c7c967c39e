"""The generators of a job's processes in its file: kept where they differ, and then for as many processes."""

import pyro
import pytest
import torch

from credo.inference.runtime.plain_state import plain_generators
from credo.inference.runtime.workers import Workers, workers
from credo.inference.storage.noise_of_ranks import generators_of_ranks, put_own_generators, refuse_other_number
from credo.inference.storage.values import described, restored
from tests.cases.job import in_job


def test_processes_with_one_noise_keep_that_of_the_first():
    assert generators_of_ranks(None) is None
    refuse_other_number("run.credo", None, Workers(1, 3, 1))
    before = torch.get_rng_state()
    put_own_generators(None, Workers(1, 3, 1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("here", "said"),
    [(None, "3 processes, .* here is one"), (Workers(0, 2, 0), "3 processes, .* here are 2; .* with 3")],
)
def test_noise_of_each_wants_as_many_processes(here, said):
    generators = [plain_generators()] * 3
    refuse_other_number("run.credo", generators, Workers(0, 3, 0))
    with pytest.raises(ValueError, match=f"checkpoint: run.credo is of a run of {said}"):
        refuse_other_number("run.credo", generators, here)


def test_each_process_gets_its_own_noise_back():
    def work(rank):
        job = workers()
        pyro.set_rng_seed(5)
        assert generators_of_ranks(job) is None
        pyro.set_rng_seed(rank)
        every = generators_of_ranks(job)
        wanted = torch.rand(3)
        tensors = {}
        every = restored(described(every, tensors), tensors)  # as through a file
        put_own_generators(every, job)
        assert torch.equal(torch.rand(3), wanted)
        return wanted.tolist(), len(every)

    one, two = in_job(work)
    assert one[0] != two[0] and one[1] == two[1] == 2
