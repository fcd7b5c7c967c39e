"""Densities that fall and one that does not, beside normals that lie elsewhere."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.importance.chart import Chart
from credo.inference.importance.improper import improper as is_improper
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered
from tests.cases.improper import improper

CPU = torch.device("cpu")


def funnel(y):
    """A proper posterior with a neck, beside which a normal of small sds lies."""
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    with pyro.plate("J", 9):
        pyro.sample("x", dist.Normal(0.0, (v / 2).exp()))
    pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


@pytest.mark.parametrize(("model", "doubt"), [(funnel, ""), (improper, "does not fall along 'a'")])
def test_a_normal_beside_the_mass_of_a_proper_posterior_does_not_make_it_improper(model, doubt):
    density, state, _ = prepared(model, (torch.tensor(1.0),), CPU, 0)
    D = len(density.first)
    with entered(state), default_dtype(torch.float64):
        mean, sds = torch.full((D,), -1.0).double(), torch.full((D,), 0.3).double().diag()
        for seen in (mean[:0], torch.full((1,), torch.nan).double()):  # also with a draw that has no density
            assert doubt in (found := is_improper(Chart(density), mean, sds, seen)) and bool(found) == bool(doubt)
