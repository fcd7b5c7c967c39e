"""Single indices that stay tensors. Oracle: torch's own indexing, and its gradient."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.capture.gather import GatherIndices
from credo.inference.capture.record import record
from tests.cases.elbo.expectations import observe, param

K, L = torch.tensor(1), torch.tensor(-2)
WAYS = {
    "one": lambda x: x[K],
    "from the end": lambda x: x[L],
    "two": lambda x: x[K, L],
    "behind a slice": lambda x: x[:, K],
    "behind an ellipsis": lambda x: x[..., K],
    "before an ellipsis": lambda x: x[K, ..., 0],
    "after a new dimension": lambda x: x[None, K],
    "between new dimensions": lambda x: x[:, None, L, None],
    "beside several": lambda x: x[K, torch.tensor([0, 1, 1])],
    "after several": lambda x: x[torch.tensor([0, 1, 1]), K],
    "several, a slice, one": lambda x: x[torch.tensor([0, 1]), :, K],
    "of 32 bits": lambda x: x[K.int()],
    "beside a mask": lambda x: x[K, torch.tensor([True, False, True])],
    "none": lambda x: x[1:, 0],
}


@pytest.mark.parametrize("way", WAYS)
def test_values_shapes_and_gradients_are_those_of_torch(way):
    found = []
    for mode in (True, False):
        x = torch.arange(24.0).reshape(2, 3, 4).requires_grad_()
        if mode:
            with GatherIndices():
                value = WAYS[way](x)
        else:
            value = WAYS[way](x)
        (value**2).sum().backward()
        found.append((value.detach(), x.grad))
    assert found[0][0].shape == found[1][0].shape
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_a_recorded_index_is_another_in_each_run():
    k = torch.tensor(0)
    x = torch.tensor([3.0, 4.0, 5.0])
    graph = record(lambda: [x[k] * 2, x[k, None]], [k])
    for i in range(-3, 3):
        assert graph.run(torch.tensor(i), *graph.constants)[0] == 2 * x[i]
    with pytest.raises((RuntimeError, IndexError)):
        graph.run(torch.tensor(3), *graph.constants)


def test_a_model_that_indexes_by_a_drawn_latent_is_replayed_and_right():
    """y ~ N(loc[k], 1), k ~ Categorical: by the score function, against the posterior by Bayes' rule."""
    loc, y = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.7, 1.2])

    def model(y):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
        observe(y, loc[k])

    def guide(y):
        pyro.sample("k", dist.Categorical(logits=param("q", [0.0] * 3)))

    svi = credo.SVI(model, guide, plan={"k": "score"}, particles=4, progress=False)
    fit = svi.run(y, steps=3000)
    assert fit.plan.compiled.startswith("captured")
    joint = torch.tensor([0.2, 0.5, 0.3]).log() + dist.Normal(loc[:, None], 1.0).log_prob(y).sum(1)
    assert torch.allclose(fit.params["q"].softmax(0), joint.softmax(0), atol=0.03)
