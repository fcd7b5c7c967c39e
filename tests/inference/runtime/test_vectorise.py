"""A program run n times: whatever it samples, all at once, follows its distribution, and draws are independent."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from scipy.stats import kstest

from credo.inference.runtime import vectorise
from credo.inference.runtime.vectorise import at_once, can_vectorise, draw, draw_each, each

t = torch.tensor
DISTRIBUTIONS = [  # what a guide or a model may draw from, with a distribution function to hold it against
    dist.Normal(t(1.0), t(2.0)),
    dist.LogNormal(t(0.3), t(0.5)),
    dist.HalfNormal(t(2.0)),
    dist.Laplace(t(1.0), t(2.0)),
    dist.Cauchy(t(1.0), t(2.0)),
    dist.Exponential(t(2.0)),
    dist.Gamma(t(2.5), t(0.7)),
    dist.InverseGamma(t(3.0), t(2.0)),
    dist.Beta(t(0.6), t(2.5)),
    dist.Kumaraswamy(t(1.5), t(2.5)),
    dist.Gumbel(t(0.5), t(2.0)),
    dist.Weibull(t(1.2), t(2.0)),
    dist.Uniform(t(-1.0), t(2.0)),
    dist.Logistic(t(0.5), t(2.0)),
]
VECTORISED = {
    *(dist.Normal, dist.LogNormal, dist.HalfNormal, dist.Exponential, dist.Uniform, dist.Kumaraswamy),
    *(dist.Weibull, dist.Gumbel, dist.Gamma, dist.InverseGamma),
}


@pytest.mark.parametrize("fn", DISTRIBUTIONS, ids=lambda fn: type(fn).__name__)
def test_draws_follow_the_distribution_and_are_independent(fn):
    """Whether they come all at once (see `VECTORISED`) or one by one."""

    def program():
        return pyro.sample("z", fn.expand([2]))

    assert can_vectorise(program) or type(fn) not in VECTORISED
    draws = draw(program, 2000)
    assert draws.shape == (2000, 2)
    assert len(draws.unique()) > 3900
    cdf = gamma_cdf(fn) if isinstance(fn, (dist.Gamma, dist.InverseGamma, dist.Beta)) else fn.cdf
    uniform = cdf(draws.double())
    assert kstest(uniform.flatten().numpy(), "uniform").pvalue > 1e-3
    for one, other in ((uniform[:, 0], uniform[:, 1]), (uniform[1:, 0], uniform[:-1, 0])):
        assert torch.corrcoef(torch.stack([one, other]))[0, 1].abs() < 5 / 2000**0.5


def gamma_cdf(fn):
    """The distribution functions that torch lacks, from scipy."""
    if isinstance(fn, dist.Beta):
        known = stats.beta(fn.concentration1.item(), fn.concentration0.item())
    elif isinstance(fn, dist.Gamma):
        known = stats.gamma(fn.concentration.item(), scale=1 / fn.rate.item())
    else:
        known = stats.invgamma(fn.concentration.item(), scale=fn.rate.item())
    return lambda x: torch.from_numpy(known.cdf(x.numpy()))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_draws_in_chunks_are_as_many_as_asked_for(n, monkeypatch):
    monkeypatch.setattr("credo.inference.runtime.vectorise._ELEMENTS", 9)  # three draws of three numbers a chunk
    found = draw(lambda: {"z": pyro.sample("z", dist.Normal(torch.zeros(3), 1.0))}, n)["z"]
    assert found.shape == (n, 3)
    assert len(found.unique()) == 3 * n


def test_each_run_sees_its_own_slice():
    z = {"a": torch.arange(6.0).reshape(3, 2), "b": torch.arange(3.0)}
    found = [each(lambda one: one["a"].sum() * one["b"], z, vectorised) for vectorised in (True, False)]
    assert found[0].tolist() == found[1].tolist() == [0.0, 5.0, 18.0]


def by_value():
    return torch.ones(()) if torch.rand(()) > 0.5 else torch.zeros(())


def counting():
    return pyro.sample("k", dist.Poisson(torch.tensor(3.0)))


@pytest.mark.parametrize("program", [by_value, counting])
def test_a_program_that_cannot_run_at_once_runs_one_by_one(program):
    draws = draw(program, 400)
    assert draws.shape == (400,)
    mean = {by_value: 0.5, counting: 3.0}[program]
    assert draws.mean().item() == pytest.approx(mean, abs=5 * (mean / 400) ** 0.5)
    assert not can_vectorise(by_value)


def test_a_program_that_writes_into_its_own_tensors_runs_at_once():
    """`vmap` refuses to write values of one run into a tensor that all runs share; new tensors are made one a run."""
    calls = []

    def program(one):
        calls.append(1)
        total, flags, copied = torch.zeros(3), torch.ones(2, dtype=torch.bool), torch.arange(2.0).clone()
        for k in range(3):
            total[k] = one * k
        flags[0], copied[1] = one > 1, one
        return total, flags, copied

    runs = torch.arange(50.0)
    total, flags, copied = draw_each(program, runs)
    assert torch.equal(total, runs[:, None] * torch.arange(3.0))
    assert torch.equal(flags, torch.stack([runs > 1, runs == runs], 1))
    assert torch.equal(copied, torch.stack([runs * 0, runs], 1))
    assert len(calls) < 10


@pytest.mark.parametrize("inner", [10, 2**20, 2**30])
def test_as_many_runs_at_once_as_the_largest_tensor_allows(inner):
    """2^22 numbers: what is computed on the way counts too, not the output alone. (meta: nothing is allocated.)"""

    def program():
        return torch.empty(inner, device="meta").mul(2.0).sum()

    assert at_once(program) == max(1, 2**22 // inner)


def test_chunks_are_halved_until_they_fit_into_memory(monkeypatch):
    def small(program, runs, vectorised):
        if len(runs) > 3:
            raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")
        return each(program, runs, vectorised)

    monkeypatch.setattr(vectorise, "each", small)
    runs = torch.arange(10.0)
    assert torch.equal(draw_each(lambda run: run * 2, runs), 2 * runs)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), RuntimeError("[enforce] DefaultCPUAllocator: can't")])
def test_draws_of_which_one_does_not_fit_say_so(error):
    def program(run):
        raise error

    with pytest.raises(MemoryError, match="draws: 5 do not fit into memory; ask for fewer draws"):
        draw_each(program, torch.zeros(5))


def test_other_errors_of_a_program_stay_as_they_are():
    def program(run):
        raise RuntimeError("The size of tensor a (2) must match")

    with pytest.raises(RuntimeError, match="must match"):
        draw_each(program, torch.zeros(5))


@pytest.mark.parametrize("n", [1, 2, 50])
def test_draws_that_are_a_parameter_itself_have_no_gradient(n):
    point = torch.tensor([1.0, 2.0], requires_grad=True)
    found = draw(lambda: {"point": point, "noise": point + torch.randn(2)}, n)
    assert found["point"].shape == (n, 2) and not any(v.requires_grad for v in found.values())
