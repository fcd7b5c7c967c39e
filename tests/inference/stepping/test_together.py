"""Steps that several processes take together: those of one process, and one block for all whatever happens in one."""

import math
import os
import signal
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import transform_to

import credo
from credo.inference.capture import native
from credo.inference.pair.identity import digest
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered
from credo.inference.runtime.workers import ProcessFailed, agreed, gathered, workers
from tests.cases.job import in_job

N, B, STEPS = 101, 10, 200
DRAWS = 300


def rows_of(n):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return x, x @ torch.tensor([1.0, -1.0, 0.5]).double() + 0.3 * torch.randn(n, generator=generator).double()


def linear(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("n", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.3), obs=y)


def of_rows(x, y):  # a latent for each row
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("n", len(x)):
        z = pyro.sample("z", dist.Normal(x @ w, 0.3))
        pyro.sample("y", dist.Normal(z, 0.3), obs=y)


def guide_of_rows(x, y):
    loc = pyro.param("loc", torch.zeros(3))
    pyro.sample("w", dist.Normal(loc, 0.1).to_event(1))
    with pyro.plate("n", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.5)) * y, 0.2))


def layer(x, y):  # w: the weight of a layer, which may act on each row with noise of its own
    w = pyro.sample("w", dist.Normal(torch.zeros(1, 3).double(), 1.0).to_event(2))
    with pyro.plate("n", len(x)):
        pyro.sample("y", dist.Normal(torch.nn.functional.linear(x, w)[:, 0], 0.3), obs=y)


def losses_of(n, model=linear, guide="mean_field", steps=STEPS, **options):
    options = {"batch_size": B, "seed": 1, "plan": "fast", "progress": False, **options}
    svi = credo.SVI(model, guide, **options)
    svi.run(*rows_of(n), steps=steps)
    return svi


def close(found, wanted):
    """Whether losses are within 1e-5: of each, or of a nat where terms of hundreds of nats cancel to nearly none."""
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, wanted, strict=True)) < 1e-5


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one():
    cases = [
        {"compile": False, "steps": 60},
        {},
        {"batch_size": 7, "steps": 40},  # of which one process takes 4 rows, and the other 3
        {"batch_size": None, "steps": 40, "particles": 4},
    ]

    def work(rank):
        every = []
        for case in cases:
            svi = losses_of(N, **case)
            every.append((svi.losses, digest(svi.params.values()), svi._steps.own_noise))
        return every

    one, two = in_job(work, seconds=300.0)
    assert one == two
    for case, (losses, _, own) in zip(cases, one, strict=True):
        assert close(losses, losses_of(N, **case).losses) and not own, case


def of_two_lines(x, y):  # which of them a row belongs to is summed out
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("n", len(x)):
        other = pyro.sample("other", dist.Bernoulli(0.2))
        pyro.sample("y", dist.Normal(x @ w + other, 0.3), obs=y)


@pytest.mark.parametrize("batch", [B, None])
def test_they_do_so_where_a_latent_of_each_row_is_summed_out(batch):
    how = {"model": of_two_lines, "steps": 20, "batch_size": batch, "particles": 2, "compile": False}
    for found in in_job(lambda rank: losses_of(N, **how).losses):
        assert close(found, losses_of(N, **how).losses)


@pytest.mark.slow
def test_two_processes_take_the_compiled_steps_of_one(monkeypatch):
    monkeypatch.setattr(native, "PATIENCE", 0.0)
    monkeypatch.setattr(native, "LOOK", 0.0)

    def work(rank):
        svi = credo.SVI(linear, "mean_field", batch_size=B, seed=1, plan="fast", progress=False)
        compiled = False
        while not compiled:  # one of them opens the library sooner, and both take as many runs
            words = gathered(svi._settings.workers, svi.run(*rows_of(N), steps=STEPS).plan.compiled)
            compiled = all("compiled" in said.split(", ")[-1:] for said in words)
            assert len(svi.losses) < 100_000, words
        svi.run(*rows_of(N), steps=STEPS)
        return svi.losses, digest(svi.params.values())

    one, two = in_job(work, seconds=900.0)  # a compiler takes a minute, and longer on a busy machine
    assert one is not None and one == two
    alone = credo.SVI(linear, "mean_field", batch_size=B, seed=1, plan="fast", progress=False, compile=False)
    for _ in range(len(one[0]) // STEPS):
        alone.run(*rows_of(N), steps=STEPS)
    assert close(one[0][:STEPS], alone.losses[:STEPS]) and close(one[0][-STEPS:], alone.losses[-STEPS:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"model": of_rows, "guide": guide_of_rows},
        {"model": layer, "plan": {"w": "local"}, "batch_size": None},
        {"model": layer, "plan": {"w": "flipout"}, "batch_size": None},
    ],
)
def test_rows_get_noise_of_each_process_and_the_mean_gradient_is_that_of_all_rows(options):
    options = {**options, "steps": 5, "compile": False}

    def work(rank):
        svi = losses_of(N, **options)
        draws = [svi.gradients(*rows_of(N)) for _ in range(DRAWS)]
        return svi._steps.own_noise, svi.params, {name: torch.stack([d[name] for d in draws]) for name in draws[0]}

    one, two = in_job(work, seconds=300.0)
    assert one[0] and two[0]
    assert all(torch.equal(one[1][name], two[1][name]) and torch.equal(one[2][name], two[2][name]) for name in one[1])
    svi = losses_of(N, **options)
    constraints = svi._prepared.state.store["constraints"]
    with entered(svi._prepared.state), torch.no_grad():
        for name, value in unconstrained().items():
            value.copy_(transform_to(constraints[name]).inv(one[1][name]))
    assert all(torch.allclose(svi.params[name], one[1][name]) for name in one[1])
    alone = [svi.gradients(*rows_of(N)) for _ in range(DRAWS)]
    for name, draws in one[2].items():
        other = torch.stack([d[name] for d in alone])
        error = (draws.var(0) / len(draws) + other.var(0) / len(other)).sqrt()
        assert ((draws.mean(0) - other.mean(0)).abs() < 5 * error).all()


class Bad:
    """A model that fails in one process, at its k-th call there."""

    def __init__(self, calls, why, rank):
        self.left, self.why, self.rank = calls, why, rank

    def __call__(self, x, y):
        linear(x, y)
        me = workers()
        if me is not None and me.rank == self.rank:
            self.left -= 1
            if self.left == 0:
                if self.why == "nan":
                    pyro.factor("bad", torch.tensor(math.nan))
                elif self.why == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                else:
                    raise self.why


@pytest.mark.slow
def test_a_bad_step_of_one_process_is_one_of_all():
    def work(rank):
        found = []
        for why in ("nan", ValueError("a bad draw")):
            with pytest.warns(UserWarning, match="1 of 41 steps were skipped") if rank == 0 else nullcontext():
                svi = losses_of(N, Bad(60, why, 1), steps=40, compile=False)
            found.append((len(svi.losses), digest(svi.params.values()), torch.equal(*_noise(svi))))
        return found

    one, two = in_job(work, seconds=300.0)
    assert one == two and [n for n, _, _ in one] == [40, 40]


def _noise(svi):
    state = svi._prepared.state.generators["cpu"]["torch"]
    return state, agreed(svi._settings.workers, lambda: state)


@pytest.mark.slow
def test_an_error_of_one_process_ends_all():
    def work(rank):
        with pytest.raises((KeyError, ProcessFailed)) as raised:
            losses_of(N, Bad(60, KeyError("no such thing"), 1), steps=40, compile=False)
        return type(raised.value).__name__, str(raised.value), len(raised.value.fit.losses)

    (_, said, steps), two = in_job(work, seconds=300.0)
    assert said == "process 1 of 2 ended with KeyError: 'no such thing'"
    assert two == ("KeyError", "'no such thing'", steps)


@pytest.mark.slow
def test_ctrl_c_of_one_process_ends_all_after_the_same_step():
    def work(rank):
        svi = losses_of(N, Bad(60, "interrupt", 1), steps=4000, compile=False)
        return svi.fit().params["AutoNormal.locs.w"].tolist(), len(svi.losses)

    one, two = in_job(work, seconds=300.0)
    assert one == two and 10 < one[1] < 100


@pytest.mark.slow
def test_processes_share_the_particles():
    def work(rank):
        svi = losses_of(N, shard="particles", particles=4, steps=300, batch_size=None)
        return svi._steps.particles, digest(svi.params.values()), svi.losses, svi.fit().params["AutoNormal.locs.w"]

    one, two = in_job(work, seconds=300.0)
    assert one[:3] == two[:3] and one[0] == 2
    x, y = rows_of(N)
    precision = torch.eye(3) + x.T @ x / 0.09
    assert ((one[3] - torch.linalg.solve(precision, x.T @ y / 0.09)).abs() < 0.05).all()


def test_what_cannot_be_shared_is_refused():
    def whole(x, y):  # no plate over rows
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x @ w, 0.3).to_event(1), obs=y)

    def refused(*args, **options):
        with pytest.raises(ValueError) as raised:
            losses_of(*args, **options)
        return str(raised.value)

    def work(rank):
        return [
            refused(N, whole, batch_size=None),
            refused(N, batch_size=1),
            refused(N, particles=3, shard="particles"),
        ]

    for rows, batch, particles in in_job(work, seconds=300.0):
        assert rows.startswith("shard: 2 processes cannot share the rows of a step") and "shard='particles'" in rows
        assert batch.startswith("batch_size: got 1 for 2 processes")
        assert particles.startswith("particles: got 3 for 2 processes")
    with pytest.raises(ValueError, match="shard: got 'columns', wanted 'rows' or 'particles'"):
        credo.SVI(linear, "mean_field", shard="columns")
