"""Every pair runs where it is told to; where there is a GPU, there too, and the caller's network stays at home."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", credo.names())
def test_a_pair_runs_on_the_device(name, device):
    pair = credo.load(name)
    data = tuple(t[:50] for t in pair.data())
    fit = credo.fit(pair.model, pair.guide, *data, steps=3, device=device)
    assert {p.device.type for p in (*fit.params.values(), *fit.data)} == {device}
    assert all(draws.device.type == device for draws in fit.sample(2).values())
    assert all(draws.device.type == device for draws in fit.predict(2).values())
    assert torch.isfinite(torch.tensor(credo.compare(fit).to_numpy()[:, :6])).all()


@pytest.mark.parametrize("device", DEVICES)
def test_the_callers_network_stays_where_it_is(device):
    net = nn.Linear(2, 1)
    before = [p.clone() for p in net.parameters()]

    def model(net, x, y):
        pyro.module("net", net)
        z = pyro.sample("z", dist.Normal(torch.zeros((), device=x.device), 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(net(x).squeeze(-1) + z, 1.0), obs=y)

    fit = credo.fit(model, None, net, torch.randn(5, 2), torch.randn(5), steps=3, device=device)
    assert fit.params["net$$$weight"].device.type == device
    assert not torch.equal(fit.params["net$$$weight"].cpu(), before[0])
    assert all(p.device.type == "cpu" and torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))
