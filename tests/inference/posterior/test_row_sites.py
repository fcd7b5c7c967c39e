"""Which sites belong to rows, compared with what the models were written to have."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from credo.inference.pair.pair import Pair
from credo.inference.posterior.row_sites import find_row_sites, is_joint, refuse_fixed

X = torch.arange(5.0)


def model(x):
    pyro.sample("shared", dist.Normal(torch.zeros(5), 1.0).to_event(1))  # as many as rows, but not of rows
    with pyro.plate("G", 5, dim=-2):
        pyro.sample("group", dist.Normal(0.0, 1.0))
    pyro.sample("series", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
    pyro.sample("process", dist.MultivariateNormal(torch.zeros(len(x)), torch.eye(len(x))))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(pyro.sample("row", dist.Normal(0.0, 1.0)), 1.0), obs=x)


def by_name(x):
    for i in range(len(x)):
        pyro.sample(f"z{i}", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(x, 1.0).to_event(1), obs=x)


def one_after_another(x):
    for i in pyro.plate("N", len(x)):
        pyro.sample(f"x{i}", dist.Normal(pyro.sample(f"z{i}", dist.Normal(0.0, 1.0)), 1.0), obs=x[i])


def by_heart(x):
    pyro.sample("shared", dist.Normal(0.0, 1.0))
    with pyro.plate("N", 5):
        pyro.sample("x", dist.Normal(pyro.sample("row", dist.Normal(0.0, 1.0)) + torch.ones(5), 1.0), obs=x)


def found(program, x=X):
    trace = poutine.trace(program).get_trace(x)
    return find_row_sites(Pair(program, program, (x,)), trace, trace)


def test_the_sites_of_rows_are_those_whose_size_follows():
    sites = found(model)
    assert sites.inside == {"series", "process", "row"} and sites.along == {"series", "process"}
    assert sites.joint == {"process"} and not sites.by_name and not sites.fixed


def test_sites_in_a_python_loop_go_by_plate_or_by_name():
    assert found(by_name).by_name == ("z5",)
    sites = found(one_after_another)
    assert sites.inside == {f"z{i}" for i in range(5)} and not sites.by_name


def test_a_plate_of_a_fixed_size_holds_the_rows_that_it_observes():
    sites = found(by_heart)
    assert sites.inside == {"row"} and sites.fixed == {"N"}
    pair = Pair(by_heart, by_heart, (X,))
    refuse_fixed(pair, sites.fixed, (X + 1,))
    with pytest.raises(ValueError, match=r"x: got 1 rows, but plate 'N' has size 5 .*pyro.plate\('N', len\(x\)\)"):
        refuse_fixed(pair, sites.fixed, (X[:1],))


@pytest.mark.parametrize(
    ("fn", "joint"),
    [
        (dist.MultivariateNormal(torch.zeros(3), torch.eye(3)), True),
        (dist.MultivariateNormal(torch.zeros(3), torch.eye(3)).expand([2]).to_event(1), True),
        (dist.Normal(torch.zeros(3), 1.0).to_event(1), False),
        (dist.Dirichlet(torch.ones(3)), False),
        (dist.Multinomial(3, torch.ones(3)), False),
        (dist.Normal(0.0, 1.0), False),
    ],
)
def test_joint_draws_are_dependent_numbers(fn, joint):
    assert is_joint({"fn": fn}) is joint
