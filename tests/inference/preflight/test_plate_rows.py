"""Observed values must have the rows of their plates; broadcasting that is plainly meant stays allowed."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from tests.cases.checked import X, belief, look, warned, world

ONE, T = torch.tensor([2.0]), torch.linspace(-1, 1, 50)


def constant(x, y):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def line(x, y):
    mu, slope = (pyro.sample(name, dist.Normal(0.0, 10.0)) for name in ("mu", "slope"))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(mu + slope * x, 1.0), obs=y)


def event_of_rows(x, y):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    pyro.sample("y", dist.Normal(mu * x, 1.0).to_event(1), obs=y)


def column_of_rows(x, y):
    """An event of shape (50, 1) and 50 numbers: 50 x 50 pairs of the two."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    pyro.sample("y", dist.Normal((mu * x)[:, None], 1.0).to_event(2), obs=y)


def one_row_of_numbers(x, y):
    """An event of shape (1, 50): the one row is the data."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    pyro.sample("y", dist.Normal((mu * x)[None], 1.0).to_event(2), obs=y)


def measured_often(x, y):
    """Rows of 3 measurements with one mean: the event of shape (1,) is that of each of them."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal((mu * x)[:, None], 1.0).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "y", "right"),
    [
        (column_of_rows, 2 * T[:, None], 2 * T),
        (one_row_of_numbers, 2 * T, 2 * T),
        (measured_often, (2 * T[:, None]).expand(50, 3), 6 * T),
        (event_of_rows, torch.tensor(0.0), 0 * T),
    ],
)
def test_a_value_that_fits_its_event_without_pairs_is_fine(model, y, right):
    """right: what the rows sum to; the posterior of mu is normal, in closed form."""
    rows = 3 if model is measured_often else 1
    precision = rows * (T**2).sum().item() + 0.01
    assert warned(model, lambda x, y: belief(x), T, y) == ""
    exact = credo.exact(model, T, y).marginals["mu"]
    assert exact.mean.item() == pytest.approx((T * right).sum().item() / precision, abs=1e-5)
    assert exact.variance.item() == pytest.approx(1 / precision, rel=1e-5)


@pytest.mark.parametrize("model", [constant, line])
@pytest.mark.parametrize("y", [ONE, torch.tensor(2.0)], ids=["shape (1,)", "a number"])
def test_one_row_in_a_plate_of_many_is_refused(model, y):
    """It would count 50 times: sd 1 / sqrt(50) for about 1."""
    with pytest.raises(ValueError, match=r"site 'y': the observed value \(y\).*plate 'rows' of size 50.*50 times"):
        credo.fit(model, None, T, y)


def test_data_that_does_not_vary_over_a_second_plate_is_refused():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("copies", 3, dim=-2), pyro.plate("rows", len(x), dim=-1):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    with pytest.raises(ValueError, match=r"site 'x'.*plate 'copies' of size 3, and would count 3 times"):
        look(model, belief, X)


@pytest.mark.parametrize(
    ("model", "y", "words"),
    [
        (column_of_rows, T, r"shape \(50,\).*inside the event.*\(50, 1\)"),
        (column_of_rows, T[None], r"shape \(1, 50\).*inside the event.*\(50, 1\)"),
        (event_of_rows, T[:, None], r"shape \(50, 1\).*inside the event.*\(50,\)"),
        (constant, X, r"shape \(40,\).*batch shape \(50,\).*rows \(50\)"),
        (lambda x, y: constant(x[:20], y), X, r"shape \(40,\).*batch shape \(20,\)"),
    ],
)
def test_shapes_that_fit_by_accident_or_not_at_all_are_refused(model, y, words):
    with pytest.raises(ValueError, match=words):
        look(model, lambda x, y: belief(x), T, y)


def ensemble(x):
    """Four models in a plate share the data: each has its own mean, so that nothing counts twice."""
    with pyro.plate("models", 4, dim=-2):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x), dim=-1):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def ones(x):
    """The event happened in each row: Bernoulli observed at the constant 1."""
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("happened", dist.Bernoulli(logits=slope * x), obs=torch.tensor(1.0))


def matrix(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("columns", 2), pyro.plate("rows", len(x) // 2):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x.reshape(-1, 2))


def no_plate(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    pyro.sample("x", dist.Normal(mu, 1.0).expand([len(x)]).to_event(1), obs=x)


@pytest.mark.parametrize("model", [world, ensemble, ones, matrix, no_plate])
def test_broadcasting_that_is_meant_is_fine(model):
    assert warned(model, None, X) == ""


def test_one_row_in_a_plate_of_one_is_fine():
    assert warned(constant, None, ONE, ONE) == ""


def given_part(x, size, index=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", size, subsample=torch.arange(len(x))), poutine.scale(scale=1.0):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def part_by_size(x, size):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", size, subsample_size=40):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


@pytest.mark.parametrize("model", [given_part, part_by_size])
def test_a_plate_larger_than_all_rows_is_refused_in_a_run_and_allowed_in_a_step(model):
    """`svi.step(batch)` with the size of the whole is Pyro's way to scale a batch; a run sees no other rows."""

    def pair(x):
        model(x, 400)

    with pytest.raises(ValueError, match=r"plate 'rows': its size is 400, but x has 40 rows.*10 times.*len\(x\)"):
        credo.fit(pair, belief, X, steps=5)
    runner = credo.SVI(pair, belief)
    assert runner.step(X) > 0 and runner.step(X + 0.1) > 0


def test_own_minibatches_of_the_data_are_fine_in_a_run():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        index = torch.randperm(len(x))[:10]
        with pyro.plate("rows", len(x), subsample=index):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x[index])

    found = look(model, belief, X)
    assert found.fixed_part is None and found.warnings == []


def takes(observe, **how):
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x), **how) as index:
            pyro.sample("x", dist.Normal(mu, 1.0), obs=observe(x, index))

    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (takes(lambda x, index: x[:10], subsample_size=10), "draws its index, but site 'x' observes the same rows"),
        (takes(lambda x, index: x[index], subsample=torch.arange(10)), "takes the same rows in each step, 10 of 40"),
    ],
)
def test_rows_that_never_count_are_refused_in_a_run(model, words):
    assert words in look(model, belief, X).fixed_part
    with pytest.raises(ValueError, match=words):
        credo.fit(model, belief, X, steps=5)


@pytest.mark.parametrize("observe", [lambda x, index: x[index], lambda x, index: torch.ones(10)])
def test_a_random_index_that_is_used_or_equal_rows_are_fine(observe):
    assert look(takes(observe, subsample_size=10), belief, X).fixed_part is None


def test_a_row_that_is_repeated_by_a_view_counts_too_often():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("copies", 3), pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x[:, None].expand(-1, 3))

    with pytest.raises(ValueError, match="plate 'copies' of size 3, and would count 3 times"):
        look(model, belief, X)


@pytest.mark.parametrize(
    "fn",
    [
        lambda m: dist.Normal(m.expand(12), 1.0).to_event(1),
        lambda m: dist.MultivariateNormal(m.expand(12), torch.eye(12)),
        lambda m: dist.Normal(m.expand(12, 2), 1.0).to_event(2),
    ],
    ids=["independent", "joint", "matrix"],
)
def test_a_value_of_another_size_than_the_event_is_refused(fn):
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.sample("y", fn(m), obs=y)

    event = tuple(fn(torch.zeros(())).event_shape)
    with pytest.raises(ValueError, match=r"site 'y': the observed value has shape \(9.*one event .* has shape \(12"):
        credo.fit(model, None, torch.zeros(9, *event[1:]), steps=2, progress=False)
    fit = credo.fit(model, None, torch.zeros(event), steps=2, progress=False, compile=False)
    assert len(fit.losses) == 2


def test_a_chain_of_any_length_is_taken():
    """A homogeneous GaussianHMM has an event of one step, whatever the length of the series."""

    def model(y):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        one, eye = dist.Normal(torch.zeros(1), torch.ones(1)).to_event(1), torch.eye(1)
        steps = dist.Normal(torch.zeros(1), scale.reshape(1)).to_event(1)
        pyro.sample("y", dist.GaussianHMM(one, eye, steps, eye, one), obs=y)

    fit = credo.fit(model, None, torch.randn(9, 1), steps=2, progress=False, compile=False)
    assert len(fit.losses) == 2
