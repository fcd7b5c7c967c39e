"""Steps on batches of rows that go on with all rows, beside the exact posterior of all rows."""

import signal

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo


def model(x):
    z = pyro.sample("z", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def rows(n):
    x = 2 + torch.randn(n, generator=torch.Generator().manual_seed(0))
    return x, dist.Normal(x.sum() / (n + 0.01), (n + 0.01) ** -0.5)


def near(fit, exact):
    """The mean within .1 sd, the sd within 5 % of it: ten times the errors of 20,000 draws."""
    z = fit.sample(20_000)["z"]
    assert z.mean().item() == pytest.approx(exact.mean.item(), abs=0.1 * exact.scale.item())
    assert z.std().item() == pytest.approx(exact.scale.item(), rel=0.05)


def fitted(x, **options):
    return credo.fit(model, None, x, **{"batch_size": 50, "compile": False, "progress": False} | options)


@pytest.mark.slow
def test_a_run_on_batches_ends_on_all_rows_at_their_posterior():
    x, exact = rows(2000)
    fit = fitted(x)
    assert fit.converged and "; all rows from step " in fit.stopped
    near(fit, exact)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_regression_by_compiled_batches_ends_at_the_posterior_of_all_rows(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20_000, 5, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]) + 0.5 * torch.randn(20_000, generator=generator)

    def linear(x, y):
        b = pyro.sample("b", dist.Normal(torch.zeros(5), 10.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ b, 0.5), obs=y)

    fit = credo.fit(linear, None, x, y, batch_size=100, seed=seed, progress=False)
    precision = torch.eye(5) / 100 + 4 * x.double().T @ x.double()
    mean = torch.linalg.solve(precision, 4 * x.double().T @ y.double())
    b = fit.sample(20_000)["b"].double()
    sd = precision.diag().rsqrt()  # of the mean field
    assert fit.converged
    assert ((b.mean(0) - mean) / sd).abs().max() < 0.1 and (b.std(0) / sd - 1).abs().max() < 0.05


@pytest.mark.slow
def test_a_run_that_took_all_rows_goes_on_from_its_checkpoint(tmp_path):
    x, exact = rows(2000)
    whole, path = fitted(x), tmp_path / "run.credo"
    number = int(whole.stopped.split("from step ")[1].split(" on")[0].replace(",", "")) + 40

    def stop(svi, step, loss):
        if step >= number:
            signal.raise_signal(signal.SIGINT)

    first = fitted(x, checkpoint=path, callback=stop, callback_every=20)
    assert first.stopped.startswith("interrupted") and number <= len(first.losses) < len(whole.losses)
    later = fitted(x, checkpoint=path)
    assert later.losses == whole.losses and later.stopped == whole.stopped
    near(later, exact)


def test_steps_that_are_asked_for_keep_their_batches():
    x, _ = rows(2000)
    assert "all rows" not in fitted(x, steps=60).stopped
