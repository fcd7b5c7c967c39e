"""Plates in full: what is asked of a finished fit is asked of all rows, however few each step took."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch.distributions import constraints

import credo
from credo.inference.runtime.whole_plates import whole_plates

N, SOME = 20, 5
X = torch.linspace(-2.0, 2.0, N)


def model(x, size=None):
    with pyro.plate("N", len(x), subsample_size=size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=pyro.subsample(x, event_dim=0))


def guide(x, size=None):
    with pyro.plate("N", len(x), subsample_size=size):
        loc = pyro.param("loc", lambda: torch.zeros(len(x)), event_dim=0)
        scale = pyro.param("scale", lambda: torch.ones(len(x)), constraint=constraints.positive, event_dim=0)
        pyro.sample("z", dist.Normal(loc, scale))


def by_index(x):
    with pyro.plate("N", N, subsample_size=SOME) as rows:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x[rows])


def guide_by_index(x):
    loc, log_scale = pyro.param("loc", torch.zeros(N)), pyro.param("log_scale", torch.zeros(N))
    with pyro.plate("N", N, subsample_size=SOME) as rows:
        pyro.sample("z", dist.Normal(loc[rows], log_scale[rows].exp()))


def plates(x, size=None):
    return pyro.plate("N", len(x), subsample_size=size, dim=-1)


def indices(program, *data):
    return poutine.trace(program).get_trace(*data).nodes["N"]["value"]


def test_only_inside_all_rows_are_taken_in_order():
    assert len(indices(model, X, SOME)) == SOME
    with whole_plates():
        assert torch.equal(indices(model, X, SOME), torch.arange(N))
        assert torch.equal(indices(model, X), torch.arange(N))
        assert torch.equal(indices(model, X, 2 * N), torch.arange(N))  # more than there are, in a prediction of few
        scale = poutine.trace(model).get_trace(X, SOME).nodes["x"]["scale"]
    assert scale == 1.0
    assert len(indices(model, X, SOME)) == SOME


def test_rows_that_the_program_chooses_itself_stay_chosen():
    def chosen(rows):
        with pyro.plate("N", N, subsample=rows):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    with whole_plates():
        assert indices(chosen, torch.tensor([3, 1])).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("model", "guide", "data"),
    [
        (model, guide, (X, SOME)),
        (model, AutoNormal(model, create_plates=plates), (X, SOME)),
        (model, None, (X, SOME)),
        (by_index, guide_by_index, (X,)),
    ],
    ids=["parameters with event_dim", "AutoNormal with plates", "an automatic guide", "parameters by index"],
)
def test_a_fit_on_subsampled_plates_answers_for_all_rows(model, guide, data):
    """Exact: z_n ~ N(.8 x_n, .2)."""
    fit = credo.fit(model, guide, *data, steps=800, lr=0.05, plan="fast", progress=False)
    draws = fit.sample(1000)["z"]
    assert draws.shape == (1000, N)
    torch.testing.assert_close(draws.mean(0), 0.8 * X, atol=0.15, rtol=0.0)
    assert draws.std(0).mean().item() == pytest.approx(0.2**0.5, rel=0.1)
    assert len(fit.summary(100)) == N
    again = fit.predict(1000)["x"]
    torch.testing.assert_close(again.mean(0), 0.8 * X, atol=0.2, rtol=0.0)
    assert again.std(0).mean().item() == pytest.approx((0.2 + 0.25) ** 0.5, rel=0.1)
