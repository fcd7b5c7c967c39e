"""Values of finite distributions and their indices."""

import pyro.distributions as dist
import pytest
import torch

from credo.inference.distributions.finite import Finite, index_of, indicator, support


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
