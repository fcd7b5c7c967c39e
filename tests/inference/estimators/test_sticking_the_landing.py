"""Sticking the landing is legal only where log q is a function of the draws and the parameters."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from torch import nn

import credo
from credo.inference.estimators.sticking_the_landing import log_q, why_not
from credo.inference.pair.pair import Pair
from credo.inference.planning.race import Contest, race
from credo.inference.runtime.state import entered

Y = torch.tensor([1.3, 0.2, 2.0])


class Encoder(PyroModule):
    """A guide at the posterior of `local`, but for a network that draws noise of its own unless in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.loc = PyroParam(torch.tensor(0.0))

    def forward(self, y):
        with pyro.plate("N", len(y)):
            pyro.sample("z", dist.Normal(y / 2 + self.loc + 0.01 * self.net(y[:, None]).squeeze(-1), 0.5**0.5))


def local(y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@pytest.mark.parametrize("vectorised", [True, False])
def test_the_landing_is_not_stuck_to_where_log_q_is_no_function_of_the_draw(vectorised):
    """A second look at log q(z) would see another mask: E[d log q] is then not zero."""
    for encoder, legal in ((Encoder(), False), (Encoder().eval(), True)):
        runner, pair = credo.SVI(local, encoder), Pair(local, encoder, (Y,))
        plan = runner.prepare(Y)
        assert plan.terms == ["log q", "analytic KL", "sticking the landing"][: 3 if legal else 2]
        with entered(runner._prepared.state):
            assert (why_not(pair) is None) is legal
            for start in plan.terms:
                term = race(Contest(pair, 1, vectorised), plan.with_term(start)).term
                assert term == "sticking the landing" if legal else term in ("log q", "analytic KL")


def test_log_q_is_the_density_of_the_whole_guide():
    def guide():
        z = pyro.sample("z", dist.Normal(1.0, 2.0))
        with pyro.plate("N", 2):
            pyro.sample("w", dist.Normal(z, 0.5))

    z = {"z": torch.tensor(0.3), "w": torch.tensor([0.1, 0.9])}
    wanted = dist.Normal(1.0, 2.0).log_prob(z["z"]) + dist.Normal(0.3, 0.5).log_prob(z["w"]).sum()
    assert log_q(Pair(guide, guide, ()), z).item() == pytest.approx(wanted.item(), rel=1e-6)
