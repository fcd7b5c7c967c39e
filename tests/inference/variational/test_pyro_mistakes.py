"""Under a Pyro optimiser the checks of a pair are warnings: the program runs on, as under Pyro."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.optim import Adam

import credo
from tests.cases.checked import X, belief, world


def one_row(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", 100):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x[:1])


def shifted(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0)) + torch.randn(())
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


@pytest.mark.parametrize(
    ("model", "guide", "words"),
    [
        (one_row, belief, "has one row in plate 'rows' of size 100"),
        (shifted, belief, r"test_pyro_mistakes.py:\d+.*outside of a sample site"),
    ],
)
@pytest.mark.parametrize("call", [lambda svi: svi.step(X), lambda svi: svi.run(X, steps=2)], ids=["step", "run"])
def test_a_mistake_is_warned_of_once_at_the_line_of_the_call(model, guide, words, call):
    svi = credo.SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
    with pytest.warns(UserWarning, match=words) as caught:
        call(svi)
    assert caught[0].filename == __file__
    before = len(svi.losses)
    svi.step(X)  # without a warning, which would be an error here
    assert len(svi.losses) == before + 1


def test_the_checks_leave_the_program_as_it_is():
    """Their runs create no parameter in Pyro's store and take no random numbers of the program."""
    losses = []
    for kind in (pyro.infer.SVI, credo.SVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        svi = kind(world, belief, Adam({"lr": 0.01}), Trace_ELBO())
        losses.append([svi.step(X) for _ in range(3)])
    assert losses[0] == losses[1]


def test_a_loss_of_ones_own_is_not_checked():
    def loss(model, guide, x):
        return (pyro.param("m", torch.tensor(0.0)) - x.mean()) ** 2

    assert credo.SVI(lambda x: None, lambda x: None, Adam({"lr": 0.01}), loss).step(X) > 0


def subsampled(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(X), subsample=x):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def local(x):
    """All latents stand in the plate: a batch needs no scale."""
    with pyro.plate("rows", len(x)):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def of_each_row(x):
    with pyro.plate("rows", len(x)):
        pyro.sample("mu", dist.Normal(pyro.param("w", torch.tensor(1.0)) * x, 1.0))


def test_batches_without_a_scale_are_warned_of_once_and_the_losses_are_pyros():
    """Ten rows of 40 in a step: the sd would be twice what it is."""
    losses = []
    for kind in (pyro.infer.SVI, credo.SVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        svi = kind(world, belief, Adam({"lr": 0.01}), Trace_ELBO())
        losses.append([svi.step(X[:10])])
        if kind is credo.SVI:
            with pytest.warns(UserWarning, match="different data, and each counts the 10 rows in plate 'rows'.*'mu'"):
                losses[-1].append(svi.step(X[10:20]))
        else:
            losses[-1].append(svi.step(X[10:20]))
        losses[-1] += [svi.step(X[20:30]), svi.step(X[30:])]
    assert losses[0] == losses[1]


def test_batches_by_name_are_warned_of_too():
    pyro.clear_param_store()
    svi = credo.SVI(world, belief, Adam({"lr": 0.01}), Trace_ELBO())
    svi.step(x=X[:10])
    with pytest.warns(UserWarning, match="different data"):
        svi.step(x=X[10:20])


@pytest.mark.parametrize(("model", "guide"), [(subsampled, belief), (local, of_each_row)])
def test_batches_that_count_as_they_should_are_not(model, guide):
    pyro.clear_param_store()
    svi = credo.SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
    assert len([svi.step(X[i : i + 10]) for i in (0, 10, 20, 30)]) == 4
