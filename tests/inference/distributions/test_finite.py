"""Values of finite distributions, their indices and one-flip neighbours."""

import pyro.distributions as dist
import pytest
import torch

from credo.inference.distributions.finite import Finite, index_of, indicator, one_flip_neighbours, support


@pytest.mark.parametrize(
    "fn",
    [
        dist.Bernoulli(torch.full((2, 3), 0.4)),
        dist.OneHotCategorical(torch.ones(2, 4)),
        dist.Categorical(torch.ones(5)),
    ],
    ids=lambda fn: type(fn).__name__,
)
def test_each_draw_is_the_value_at_its_index(fn):
    z, values = fn.sample((7,)), support(fn)
    index = index_of(z, values)
    assert index.shape == z.shape[: z.dim() - len(fn.event_shape)]
    assert torch.equal(values[index], z)
    same = indicator(z, values)
    assert (same.sum(0) == 1).all() and torch.equal(same.int().argmax(0), index)
    assert torch.equal(torch.vmap(lambda each: index_of(each, values))(z), index)


def test_a_finite_distribution_has_its_moments_and_no_mass_elsewhere():
    q = Finite(torch.tensor([-1.0, 2.0, 5.0]), torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]))
    torch.testing.assert_close(q.mean, torch.tensor([1.25, 3.5]))
    torch.testing.assert_close(q.variance, torch.tensor([0.5 * 2.25**2 + 0.25 * 0.75**2 + 0.25 * 3.75**2, 2.25]))
    torch.testing.assert_close(q.log_prob(torch.tensor([2.0, 2.0])).exp(), torch.tensor([0.25, 0.5]))
    assert (q.log_prob(torch.tensor([0.0, 0.0])) == -torch.inf).all()


FINITE = {
    "bernoulli": (dist.Bernoulli(torch.tensor([0.2, 0.7, 0.5])).to_event(1), torch.tensor([1.0, 0.0, 1.0])),
    "bernoulli rows": (
        dist.Bernoulli(torch.tensor([[0.2, 0.7], [0.4, 0.9]])).to_event(1),
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
    ),
    "categorical": (
        dist.Categorical(torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])).to_event(1),
        torch.tensor([2, 0]),
    ),
    "no event": (dist.Bernoulli(torch.tensor([0.2, 0.7])), torch.tensor([1.0, 0.0])),
    "a scalar": (dist.Categorical(torch.tensor([0.2, 0.3, 0.5])), torch.tensor(1)),
    "expanded": (dist.Bernoulli(torch.tensor(0.2)).expand([2, 2]).to_event(1), torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
    "binomial": (dist.Binomial(3, torch.tensor([0.2, 0.6])).to_event(1), torch.tensor([3.0, 1.0])),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", FINITE)
def test_the_neighbours_differ_in_one_unit_and_come_with_its_probability(name):
    fn, value = FINITE[name]
    values, probability = one_flip_neighbours(fn, value)
    base = fn.base_dist if fn.event_shape else fn
    support = base.enumerate_support(expand=False).flatten().tolist()
    units = fn.event_shape.numel()
    assert values.shape == (units * (len(support) - 1), *value.shape)
    assert probability.shape == (len(values), *fn.batch_shape)
    rows = value.reshape(fn.batch_shape.numel(), -1)
    seen = set()
    for new, p in zip(values.reshape(len(values), *rows.shape), probability.reshape(len(values), -1), strict=True):
        for row, (one, two) in enumerate(zip(rows, new, strict=True)):
            (unit,) = (one != two).nonzero().flatten().tolist()
            seen.add((row, unit, two[unit].item()))
            full = base.log_prob(new.reshape(value.shape)).exp().reshape(rows.shape)
            assert p[row].item() == pytest.approx(full[row, unit].item())
    assert len(seen) == len(rows) * units * (len(support) - 1)  # every other value of every unit, once


def test_numbers_expand_and_know_their_support():
    q = Finite(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.5, 0.25, 0.25]))
    wide = q.expand([4])
    assert wide.sample().shape == (4,) and torch.equal(wide.log_prob(torch.tensor(1.0)), torch.full((4,), 0.25).log())
    assert wide.support.is_discrete and wide.support.check(torch.tensor([2.0, 3.0])).tolist() == [True, False]
    assert Finite(torch.tensor([0.0, 0.5]), torch.tensor([0.5, 0.5])).support.check(torch.tensor(0.5))
