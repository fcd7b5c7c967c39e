"""The optimisers that a run takes."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases.elbo.expectations import observe, param

X = torch.tensor([1.0, 2.0, 3.0])


def test_the_learning_rate_of_a_partial_goes_first():
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


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("optim", [None, partial(torch.optim.SGD, lr=0.05)], ids=["Adam", "SGD"])
def test_a_clipped_run_is_a_loop_of_torch_that_clips(compile, optim):
    """At a point the loss has no noise: two parameters of very different gradients, clipped as one vector."""

    def model(y):
        a, b = pyro.sample("a", dist.Normal(0.0, 1.0)), pyro.sample("b", dist.Normal(0.0, 0.1))
        observe(y, a + b)

    def guide(y):
        pyro.sample("a", dist.Delta(param("loc_a", 3.0)))
        pyro.sample("b", dist.Delta(param("loc_b", 1.0)))

    svi = credo.SVI(model, guide, optim, lr=0.05, clip=2.0, particles=1, plan="fast", compile=compile)
    path = []
    for _ in range(40):
        svi.step(X)
        path.append([svi.params["loc_a"].item(), svi.params["loc_b"].item()])
    leaves = [torch.tensor(3.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)]
    optimiser = torch.optim.SGD(leaves, lr=0.05) if optim else torch.optim.Adam(leaves, lr=0.05, betas=(0.9, 0.99))
    expected, norms = [], []
    for _ in range(40):
        optimiser.zero_grad()
        (leaves[0] ** 2 / 2 + leaves[1] ** 2 / 0.02 + ((X - sum(leaves)) ** 2).sum() / 2).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(leaves, 2.0).item())
        optimiser.step()
        expected.append([leaf.item() for leaf in leaves])
    assert max(norms) > 50 and torch.tensor(path).allclose(torch.tensor(expected), atol=2e-5)


@pytest.mark.parametrize("clip", [0, -1.0, float("inf"), True, "no"])
def test_what_is_no_norm_is_refused(clip):
    with pytest.raises(ValueError, match=r"clip: got .* wanted a positive number"):
        credo.SVI(lambda: None, lambda: None, clip=clip)
