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
    data = tuple(t[:50] if isinstance(t, torch.Tensor) else t for t in pair.data())
    fit = credo.fit(pair.model, pair.guide, *data, steps=3, device=device)
    tensors = [v for v in fit.data if isinstance(v, torch.Tensor)]
    assert {p.device.type for p in (*fit.params.values(), *tensors)} == {device}
    assert all(draws.device.type == device for draws in fit.sample(2).values())
    assert all(draws.device.type == device for draws in fit.predict(2).values())
    for net in (v for v in data if isinstance(v, nn.Module)):
        assert {p.device.type for p in net.parameters()} == {"cpu"}
        assert {p.device.type for p in fit.trained(net).parameters()} == {device}
    if pair.posterior is not None:
        assert torch.isfinite(torch.tensor(credo.compare(fit).iloc[:, :6].to_numpy())).all()
    log_lik = credo.log_likelihood(fit, 2)
    assert log_lik.values.shape == (50,)
    assert torch.isfinite(log_lik.values).all()


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
