"""What is recorded of a program, and what is refused. Oracle: the program itself."""

import os
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints
from torch.fx.experimental import proxy_tensor

import credo
from credo.inference.capture.record import NotCaptured, record
from tests.cases.elbo.expectations import observe, param

X = torch.tensor([1.0, 2.0, 3.0])


def test_what_is_private_to_torch_is_there():
    """`capture` leaves out the metadata of nodes through it, `native` draws on the rest; tried with torch 2.13."""
    assert callable(proxy_tensor.set_meta)
    assert callable(torch._C._create_graph_by_tracing) and callable(torch._C._create_function_from_graph)
    assert callable(torch._inductor.aot_compile) if hasattr(torch, "_inductor") else True
    assert callable(torch._foreach_copy_)


def test_the_graph_repeats_the_program_on_other_numbers_and_draws_the_same_noise():
    y = X.clone()
    outside = torch.tensor(2.0)

    def program():
        return [(y * outside + torch.randn(3)).sum(), torch.randn(()) * 0]

    found = record(program, [y])
    for value in (1.0, 5.0):
        outside.fill_(value)
        torch.manual_seed(3)
        wanted = program()[0]
        torch.manual_seed(3)
        assert found.run(y, *found.constants)[0].item() == pytest.approx(wanted.item())
    torch.manual_seed(3)
    other = found.run(y + 1, *found.constants)[0]
    assert other.item() == pytest.approx(wanted.item() + 15.0)


def test_a_draw_that_nothing_uses_moves_the_generator_all_the_same():
    y = X.clone()

    def program():
        torch.randn(7)
        torch.empty(5).normal_()
        return [(y + torch.randn(3)).sum()]

    found = record(program, [y])
    torch.manual_seed(1)
    wanted = program()[0]
    after = torch.get_rng_state()
    torch.manual_seed(1)
    assert found.run(y, *found.constants)[0] == wanted
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y, t: [t.add_(1).sum() + y.sum()], "in place"),
        (lambda y, t: [t[0].add_(1).sum() + y.sum()], "in place"),
        (lambda y, t: [t.view(3, 1).t().mul_(2).sum() + y.sum()], "in place"),
        (lambda y, t: [y.sum() * float(y[0])], "Python looks"),
    ],
)
def test_what_cannot_be_recorded_is_refused(change, words):
    y, t = X.clone(), torch.zeros(3)
    sparse = t
    with pytest.raises(NotCaptured, match=words):
        record(lambda: change(y, sparse), [y])


def runs(model, guide, data, **options):
    found = []
    for compile in (True, False):
        svi = credo.SVI(model, guide, compile=compile, progress=False, **options)
        for _ in range(50):
            svi.step(*data)
        found.append(svi)
    one, two = found
    assert one.losses == pytest.approx(two.losses, rel=1e-5)
    for name, value in two.params.items():
        torch.testing.assert_close(one.params[name], value, rtol=1e-4, atol=1e-5)
    return one


def test_gradients_that_are_laid_out_otherwise_than_their_parameter_update_it_rightly():
    """The gradient of a sum is one number, expanded; of a transposed parameter, transposed. Updates go by memory."""

    def model(y):
        b, c = param("b", torch.zeros(5, 3)), param("c", torch.zeros(2, 3))
        pyro.sample("s", dist.LogNormal(0.0, 1.0))
        observe(y, b.sum() + (c.T * torch.arange(6.0).reshape(3, 2)).sum())

    def guide(y):
        pyro.sample("s", dist.LogNormal(param("m", 0.0), pyro.param("t", torch.tensor(1.0), constraints.positive)))

    svi = runs(model, guide, (X,))
    assert svi.plan.compiled.startswith("captured")
    b = svi.params["b"]
    assert torch.allclose(b, b[0, 0]) and b[0, 0] != 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how else to ask for the memory of a process")
def test_captures_leave_nothing_behind():
    """Forty of a program whose numbers take 8 MB; `torch.jit.trace` kept as much of each."""

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

    def once():
        x = torch.ones(2**20)
        found = record(lambda: [(x.sin() * x.cos()).sum()], [x])
        assert found.run(x)[0].isfinite()

    for _ in range(5):
        once()
    before = resident()
    for _ in range(40):
        once()
    assert resident() - before < 60


def test_a_sparse_tensor_in_the_model_is_borne():
    adjacent = torch.eye(3).to_sparse()

    def model(y):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        observe(y, torch.sparse.mm(adjacent, z[:, None])[:, 0])

    def guide(y):
        pyro.sample("z", dist.Normal(param("loc", [0.0] * 3), 1.0).to_event(1))

    assert runs(model, guide, (X,)).plan.compiled.startswith("eager")


def test_an_argument_that_cannot_be_looked_into_is_not_replayed():
    class Settings:
        heat = 1.0

    settings = Settings()

    def model(y, settings):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        observe(y, z * settings.heat)

    def guide(y, settings):
        pyro.sample("z", dist.Normal(param("loc", 0.0), 1.0))

    assert "Settings, which cannot be looked into" in runs(model, guide, (X, settings)).plan.compiled


def test_handlers_around_a_step_are_part_of_it():
    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        observe(y, z)

    def guide(y):
        pyro.sample("z", dist.Normal(param("loc", 0.0), 1.0))

    losses = []
    for compile in (True, False):
        svi = credo.SVI(model, guide, compile=compile, progress=False)
        for _ in range(40):
            svi.step(X)
        with pyro.poutine.scale(scale=0.1):
            losses.append([svi.step(X) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_loss_that_is_not_finite_leaves_the_baseline_alone():
    def model(y):
        k = pyro.sample("k", dist.Poisson(2.0))
        observe(y, k)

    def guide(y):
        pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(2.0), constraints.positive)))

    for compile in (True, False):
        svi = credo.SVI(model, guide, compile=compile, progress=False, particles=1)
        for step in range(60):
            svi.step(X * 1e30 if step in (5, 45) else X)
        assert svi._steps.baselines["k"].isfinite() and torch.isfinite(svi.params["rate"])


def test_the_learning_rate_of_a_partial_goes_first():
    from functools import partial

    def model(y):
        observe(y, pyro.sample("z", dist.Normal(0.0, 1.0)))

    def guide(y):
        pyro.sample("z", dist.Normal(param("loc", 0.0), 1.0))

    svi = credo.SVI(model, guide, partial(torch.optim.SGD, lr=0.123), progress=False)
    svi.step(X)
    assert svi._steps.optimiser.param_groups[0]["lr"] == 0.123
    with pytest.raises(ValueError, match="LBFGS"):
        credo.fit(model, guide, X, optim=torch.optim.LBFGS)
    with pytest.raises(ValueError, match="'adam'"):
        credo.fit(model, guide, X, optim="adam")
    with pytest.raises(ValueError, match="optim"):
        credo.fit(model, guide, X, optim=pyro.optim.Adam({"lr": 0.1}))
