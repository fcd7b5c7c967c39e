"""`svi.step(batch, rows=N)` scales a batch to all rows; batches without a scale are warned of where it matters."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases.checked import X, belief, positive, world

MEAN, SD = X.sum().item() / 40.01, 40.01**-0.5  # of N(0, 10) given 40 rows


def shuffled(epochs, size=10):
    for epoch in range(epochs):
        yield from X[torch.randperm(len(X), generator=torch.Generator().manual_seed(epoch))].split(size)


def test_steps_on_batches_find_the_posterior_of_all_rows():
    svi = credo.SVI(world, belief, lr=0.02, progress=False)
    for batch in shuffled(150):
        svi.step(batch, rows=40)
    assert svi.params["s"].item() == pytest.approx(SD, rel=0.15)
    assert svi.params["m"].item() == pytest.approx(MEAN, abs=0.5 * SD)


def test_a_batch_of_all_rows_is_not_scaled_and_the_gradient_of_a_batch_is():
    whole, alone = credo.SVI(world, belief, seed=1), credo.SVI(world, belief, seed=1)
    assert whole.step(X, rows=40) == pytest.approx(alone.step(X), rel=1e-6)
    part = credo.SVI(world, belief, particles=2000, seed=1)
    expected = 40 / 10 * sum(0.5 * (x**2 + 1 + 1.8379) for x in X[:10].tolist()) + 0.5 * (0.01 - 1) + 2.3026
    assert part.step(X[:10], rows=40) == pytest.approx(expected, rel=0.05)  # at m = 0, s = 1


def local(x):
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def amortised(x):
    with pyro.plate("rows", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.1)) * x, positive("s")))


def part_of(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", 40, subsample=x):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def test_batches_without_a_scale_are_warned_of_once():
    svi = credo.SVI(world, belief)
    batches = list(shuffled(2))
    svi.step(batches[0])
    with pytest.warns(UserWarning, match=r"10 rows in plate 'rows'.*site 'mu'.*svi.step\(batch, rows=N\)") as caught:
        svi.step(batches[1])
    assert caught[0].filename == __file__
    svi.step(batches[2])


@pytest.mark.parametrize(("model", "guide"), [(local, amortised), (part_of, belief)])
def test_local_latents_and_a_plate_of_the_whole_need_no_scale(model, guide):
    svi = credo.SVI(model, guide)
    for batch in shuffled(2):
        svi.step(batch)
    assert len(svi.losses) == 8


def test_steps_on_the_same_data_are_fine():
    svi = credo.SVI(world, belief)
    for _ in range(25):
        svi.step(X.clone())
    assert len(svi.losses) == 25


@pytest.mark.parametrize(
    ("rows", "words"), [(5, "rows: got 5 for a batch of 10 rows"), (50, "rows: got 50.*40 as in the steps before")]
)
def test_a_wrong_number_of_rows_is_refused(rows, words):
    svi = credo.SVI(world, belief)
    if rows == 50:
        svi.step(X[:10], rows=40)
    with pytest.raises(ValueError, match=words):
        svi.step(X[:10], rows=rows)


@pytest.mark.parametrize("rows", [40.5, "40", True, -1, 0, torch.tensor([40, 40])])
def test_what_is_no_number_of_rows_is_refused(rows):
    with pytest.raises(ValueError, match=r"^rows: got"):
        credo.SVI(world, belief).step(X[:10], rows=rows)
    assert credo.SVI(world, belief).step(X[:10], rows=np.int64(40)) > 0


def test_the_steps_of_all_batches_add_up_to_a_step_on_all_rows():
    """Of plain gradient descent at a point, where there is no noise: the mean over batches is the whole step."""

    def point(x):
        pyro.sample("mu", dist.Delta(pyro.param("m", torch.tensor(0.5))))

    def moved(batch, rows=None):
        svi = credo.SVI(world, point, torch.optim.SGD, lr=1e-3, particles=1)
        loss = svi.step(batch, rows=rows)
        return loss, svi.params["m"].item() - 0.5

    loss, step = moved(X)
    parts = [moved(batch, 40) for batch in X.split(10)]
    assert sum(part for part, _ in parts) / 4 == pytest.approx(loss, rel=1e-5)
    assert sum(part for _, part in parts) / 4 == pytest.approx(step, rel=1e-4)
