"""Minibatches: the mean over all batches is the whole, every row has its turn, and what would be scaled wrongly is
refused by name."""

from functools import partial
from itertools import combinations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import constraints as c

import credo
from credo.inference.objective.elbo import differentiable_loss
from credo.inference.objective.gradients import gradients
from credo.inference.pair.batches import Rows, Shuffled, batch
from credo.inference.pair.pair import Pair
from credo.inference.runtime.state import entered
from tests.cases.repeats import seeds

X = torch.tensor([0.5, -1.2, 0.9, 2.0, -0.3])
Y = torch.tensor([1.3, 0.2, 2.0, 3.1, -0.4])


def line(x, y, z=None):
    """One slope, a point; the noise is a parameter of the model."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    noise = pyro.param("noise", torch.tensor(0.8), constraint=c.positive)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, noise), obs=y)


def point(x, y, z=None):
    pyro.sample("w", dist.Delta(pyro.param("w_hat", torch.tensor(0.7))))


def normal(x, y, z=None):
    scale = pyro.param("scale", torch.tensor(0.4), constraint=c.positive)
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(0.7)), scale))


def local_line(x, y):
    """A latent for each row."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(w * x, 0.5))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def local_point(x, y):
    """What the guide says of a row is a function of that row."""
    point(x, y)
    a, s = pyro.param("a", torch.tensor(0.6)), pyro.param("s", torch.tensor(0.3), constraint=c.positive)
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Normal(a * y, s))


def local_elbo(p):
    """By hand: z ~ N(a y, s^2) for each row, w a point."""
    a, s, w = p["a"], p["s"].exp(), p["w_hat"]
    x, y = X.double(), Y.double()
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(a * y, s), normal(w * x, 0.5))
    fits = normal(a * y, 1.0).log_prob(y) - s**2 / 2
    return (fits - kl).sum() + normal(0.0, 1.0).log_prob(w)


def all_batches(runner, pair, size):
    return [batch(pair, runner._prepared.rows, torch.tensor(index)) for index in combinations(range(len(X)), size)]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("guide", [point, normal])
def test_the_mean_over_all_batches_is_the_loss_on_all_rows(guide, size):
    """Each batch sees the same draw, so that nothing but the rows differs."""
    runner, pair = credo.SVI(line, guide, batch_size=size), Pair(line, guide, (X, Y))
    plan = runner.prepare(X, Y)
    rows = runner._prepared.rows
    assert (rows.arguments, rows.n, rows.size, rows.plates) == ((0, 1), 5, size, {"N"})

    def at(part):
        torch.manual_seed(3)
        loss, surrogate = differentiable_loss(plan.recipe, part, 2, False)
        return loss, gradients(lambda: surrogate)

    with entered(runner._prepared.state):
        loss, slopes = at(pair)
        parts = [at(part) for part in all_batches(runner, pair, size)]
    assert len({value for value, _ in parts}) == len(parts)
    assert sum(value for value, _ in parts) / len(parts) == pytest.approx(loss, rel=1e-5)
    for name, slope in slopes.items():
        mean = sum(found[name] for _, found in parts) / len(parts)
        assert slope.item() != 0 and mean.item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("term", ["log q", "analytic KL", "sticking the landing"])
def test_local_latents_are_scaled_in_the_model_and_in_the_guide(term):
    runner, pair = credo.SVI(local_line, local_point, batch_size=2), Pair(local_line, local_point, (X, Y))
    plan = runner.prepare(X, Y)
    assert runner._prepared.latents == 1 + 5  # numbers, for all rows
    with entered(runner._prepared.state):
        parts = all_batches(runner, pair, 2)
        if term not in plan.terms:
            raise AssertionError(plan.terms)
        found = []
        for _ in range(60):
            losses = [differentiable_loss(plan.with_term(term).recipe, part, 50, True) for part in parts]
            slopes = gradients(lambda losses=losses: sum(s for _, s in losses) / len(losses))
            loss = sum(value for value, _ in losses) / len(losses)
            found.append(torch.stack([torch.tensor(loss), *slopes.values()]).double())
        start = {"w_hat": 0.7, "a": 0.6, "s": torch.tensor(0.3).log()}
    start = {name: torch.as_tensor(start[name]).double().requires_grad_() for name in slopes}
    loss = -local_elbo(start)
    exact = torch.stack([loss.detach(), *torch.autograd.grad(loss, list(start.values()))])
    found = torch.stack(found)
    z = (found.mean(0) - exact) / ((found.std(0) + 1e-6) / 60**0.5)
    assert z.abs().max() < 4.5, z


@pytest.mark.parametrize("estimator", ["enumerate", "score"])
def test_a_coin_for_each_row_is_scaled_once(estimator):
    """q enters as weight and as log q: only the second is scaled."""

    def model(x, y):
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.3))
            pyro.sample("y", dist.Normal(k * x, 1.0), obs=y)

    def guide(x, y):
        with pyro.plate("N", len(x)):
            pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(0.4)) + 0.5 * y))

    runner = credo.SVI(model, guide, batch_size=2, particles=20, plan={"k": estimator})
    slopes = torch.stack([runner.gradients(X, Y)["u"] for _ in range(400)]).double()
    u = torch.tensor(0.4).double().requires_grad_()
    q, normal = torch.sigmoid(u + 0.5 * Y.double()), torch.distributions.Normal
    costs = q * (q / 0.3).log() + (1 - q) * ((1 - q) / 0.7).log()
    costs = costs - q * normal(X.double(), 1.0).log_prob(Y) - (1 - q) * normal(0.0, 1.0).log_prob(Y.double())
    exact = torch.autograd.grad(costs.sum(), u)[0].item()
    assert slopes.mean().item() == pytest.approx(exact, abs=4.5 * slopes.std().item() / 20)


@pytest.mark.parametrize(("n", "size"), [(6, 2), (7, 3), (5, 1), (4, 4)])
def test_every_row_comes_once_an_epoch(n, size):
    data = torch.arange(float(n)) + 1
    runner = credo.SVI(line, normal, batch_size=size if size < n else size - 1)
    runner.prepare(data, data)
    rows = runner._prepared.rows._replace(size=size)
    batches = Shuffled(rows)
    epochs = []
    for _ in range(40):
        index = [next(batches) for _ in range(n // size)]
        assert all(len(i) == size for i in index)
        seen = torch.cat(index).tolist()
        assert len(set(seen)) == len(seen) == n // size * size
        epochs.append(tuple(seen))
    if size < n:
        assert len(set(epochs)) > 10  # another order each time
    else:
        assert set(epochs) == {tuple(range(n))}  # of all rows every order is the same batch
    assert {row for epoch in epochs for row in epoch} == set(range(n))  # nobody is dropped for good


def test_a_batch_that_is_put_back_comes_again_also_where_processes_share_it():
    rows = Rows((0,), 10, 4, frozenset())
    batches = Shuffled(rows, first=1, of=2)
    next(batches)
    one = next(batches)
    batches.put_back(one)
    assert torch.equal(next(batches), one) and len(one) == 2


def test_the_rows_that_a_step_sees_are_one_batch_and_the_fit_has_them_all():
    seen = []

    def model(x, y):
        seen.append(y.tolist())
        line(x, y)

    runner = credo.SVI(model, normal, batch_size=2, particles=1)
    runner.prepare(X, Y)
    seen.clear()
    for _ in range(4):
        runner.step(X, Y)
    flat = [sorted(y for one in seen[2 * e : 2 * e + 2] for y in one) for e in range(2)]
    assert all(len(one) == 2 for one in seen) and all(len(set(one)) == 4 for one in flat)
    fit = runner.run(X, Y, steps=3)
    assert torch.equal(fit.data[1], Y) and fit.predict(2)["y"].shape == (2, 5)


def test_other_arguments_go_along_or_stay_whole():
    seen = set()

    def model(x, y, z):
        seen.add((len(x), len(y), tuple(z.shape)))
        line(x, y)

    credo.fit(model, normal, X, Y, torch.zeros(3), batch_size=2, steps=2)
    assert {s for s in seen if s[0] == 2} == {(2, 2, (3,))}


def test_a_batch_of_all_rows_is_the_full_fit():
    whole, none = (credo.fit(line, normal, X, Y, batch_size=size, steps=30) for size in (5, None))
    assert whole.params.keys() == none.params.keys()
    runner = credo.SVI(line, normal, batch_size=5)
    runner.prepare(X, Y)
    assert runner._prepared.rows is None
    assert whole.losses == none.losses


def test_one_row_in_batches_of_one_is_no_mistake():
    assert len(credo.fit(line, normal, X[:1], Y[:1], batch_size=1, steps=3).losses) == 3


@pytest.mark.parametrize(("size", "words"), [(0, "at least 1"), (-2, "at least 1"), (2.5, "whole number")])
def test_a_size_that_is_none_is_refused(size, words):
    with pytest.raises(ValueError, match=f"batch_size: got {size}.*{words}"):
        credo.fit(line, normal, X, Y, batch_size=size)


def test_another_number_of_rows_later_is_refused():
    runner = credo.SVI(line, normal, batch_size=2)
    runner.step(X, Y)
    for call in (runner.step, runner.gradients, runner.evaluate_loss, partial(runner.run, steps=2)):
        with pytest.raises(ValueError, match=r"batch_size: got 4 rows where the run began with 5"):
            call(X[:4], Y[:4])
    assert len(runner.losses) == 1


def test_a_weight_for_each_row_is_scaled_with_it():
    """poutine.scale takes a tensor: a weight for each row."""

    def model(x, y, weight):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)), poutine.scale(scale=weight):
            pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)

    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    runner = credo.SVI(model, lambda x, y, weight: point(x, y), batch_size=2, particles=1)
    slopes = torch.stack([runner.gradients(X, Y, weight)["w_hat"] for _ in range(500)]).double()
    exact = (0.7 - (weight * X * (Y - 0.7 * X)).sum()).item()
    assert slopes.mean().item() == pytest.approx(exact, abs=4.5 * slopes.std().item() / 500**0.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("size", [50, None])
def test_a_fit_in_batches_finds_the_exact_posterior_as_the_full_one_does(size, seed):
    regression = credo.load("linear_regression")
    table = credo.compare(credo.fit(regression.model, regression.guide, *regression.data(), batch_size=size, seed=seed))
    assert table["error in sds"].abs().max() <= 0.1
    assert (table["sd ratio"] - 1).abs().max() <= 0.05
