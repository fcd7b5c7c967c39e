"""Which masked latents follow the model, compared with what the models were written to have."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch.distributions import constraints

import credo
from credo.inference.pair.followers import find_followers, without_masks
from credo.inference.pair.pair import Pair

X = torch.tensor([1.0, 2.0, 3.0])
M = torch.tensor([True, False, True])


def unread(x, m):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(pyro.sample("v", dist.Normal(mu, 1.0), obs=x, obs_mask=m), 1.0), obs=x)


def read(x, m):
    with pyro.plate("N", len(x)):
        with poutine.mask(mask=m):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def unmasked(x, m):
    pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0).expand([3]).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("model", "names"),
    [(unread, {"v_unobserved"}), (read, set()), (unmasked, set())],
    ids=["unread", "read", "no mask"],
)
@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta])
def test_only_entries_that_nothing_depends_on_follow(model, names, kind):
    guide = kind(model)
    guide(X, M)
    assert find_followers(Pair(model, guide, (X, M))) == names


def test_a_joint_density_of_some_followers_is_refused():
    def model(x, m):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).mask(m).to_event(1))
        with pyro.plate("N", len(x)), poutine.mask(mask=m):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, m):
        L = pyro.param("L", torch.eye(3), constraint=constraints.lower_cholesky)
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(3), scale_tril=L))

    with pytest.raises(ValueError, match=r"'z': some of its entries are masked.*dist\.Normal\(loc, scale\)"):
        credo.fit(model, guide, X, M, steps=2, progress=False)


def test_a_model_alone_keeps_masks_that_mean_something():
    assert without_masks(read, (X, M)) is read and without_masks(unmasked, (X, M)) is unmasked
    trace = poutine.trace(without_masks(unread, (X, M))).get_trace(X, M)
    assert trace.nodes["v_unobserved"]["mask"] is None and trace.nodes["v_observed"]["mask"] is not None
