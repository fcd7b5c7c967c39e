"""Networks in a run: found however they are handed over, trained as by hand with torch, given back untouched."""

import copy
import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from credo.inference.updates.optimiser import BETAS
from credo.inference.variational.svi import LR

X = torch.tensor([[0.5, 1.0], [-1.0, 0.3], [2.0, -0.7], [0.1, 0.1]])
Y = torch.tensor([0.3, 1.2, 2.1, -0.4])


class Tied(nn.Module):
    """Both layers share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)
        self.two.weight = self.one.weight

    def forward(self, x):
        assert self.one.weight is self.two.weight
        return self.out(torch.tanh(self.two(torch.tanh(self.one(x)))))


class Recurrent(nn.Module):
    """torch's LSTM keeps its weights a second time, in the list _flat_weights."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(1, 3, batch_first=True), nn.Linear(3, 1)

    def forward(self, x):
        return self.out(self.lstm(x[:, :, None])[0][:, -1])


class Buffered(nn.Module):
    """A buffer that the forward pass changes, and one that it only reads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(2), nn.Linear(2, 1)
        self.register_buffer("scale", torch.tensor(0.7))

    def forward(self, x):
        return self.out(self.norm(x)) * self.scale


NETWORKS = {
    "perceptron": lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)),
    "tied weights": Tied,
    "lstm": Recurrent,
    "buffers": Buffered,
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), nn.Tanh(), nn.Linear(3, 1)
    ),
    "a frozen layer": lambda: nn.Sequential(nn.Linear(2, 3).requires_grad_(False), nn.Tanh(), nn.Linear(3, 1)),
    "parameter list": lambda: Listed(),
    "a list of its own": lambda: Shortcut(),
}


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(3, 1))])

    def forward(self, x):
        return torch.tanh(x @ self.weights[0]) @ self.weights[1]


class Shortcut(nn.Module):
    """Uses its weights from a plain list, as torch's LSTM once did, and keeps a diary."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(2, 1), []
        self.weights = [self.layer.weight, self.layer.bias]

    def forward(self, x):
        self.calls.append(len(self.calls))
        return x @ self.weights[0].T + self.weights[1]


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]()


def likelihood(net, x, y):
    assert all(isinstance(p, nn.Parameter) for p in net.parameters())
    net = pyro.module("net", net) if any(p.requires_grad for p in net.parameters()) else net
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(net(x).squeeze(-1), 1.0), obs=y)


def nothing(net, x, y):
    """No latents: -ELBO is -log p(y | x, weights)."""


@pytest.mark.filterwarnings("ignore:.*was not registered in the param store")  # Pyro's, for the frozen layer
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_exactly_as_by_hand_and_the_users_own_stays(name):
    net, hand = make(name), make(name)
    before, leaves = copy.deepcopy(net.state_dict()), [(id(p), p.requires_grad, p.grad) for p in net.parameters()]
    runner = credo.SVI(likelihood, nothing)
    losses = [runner.step(net, X, Y) for _ in range(40)]
    optimiser = torch.optim.Adam([p for p in hand.parameters() if p.requires_grad], lr=LR, betas=BETAS)
    expected = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = -torch.distributions.Normal(hand(X).squeeze(-1), 1.0).log_prob(Y).sum()
        loss.backward()
        optimiser.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, abs=1e-4)
    assert expected[-1] < expected[0] - 0.1
    trained = dict(hand.named_parameters())
    params = {k.removeprefix("net$$$"): v for k, v in runner.params.items()}
    assert params.keys() == {k for k, p in trained.items() if p.requires_grad}
    for k, p in params.items():
        torch.testing.assert_close(p, trained[k].detach(), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert leaves == [(id(p), p.requires_grad, p.grad) for p in net.parameters()]
    assert getattr(net, "calls", []) == []
    assert net(X).shape == (4, 1)  # and it still works


class Holder:
    """No torch module itself, but its methods use one."""

    def __init__(self, net) -> None:
        self.net = net

    def model(self, x, y):
        return likelihood(self.net, x, y)

    def guide(self, x, y):
        pass


class Called(Holder):
    """A callable that is no torch module."""

    def __call__(self, x, y):
        return self.model(x, y)


def default(net):
    def run(x, y, *, net=net):
        return likelihood(net, x, y)

    return run


def closure(net):
    return lambda x, y: likelihood(net, x, y)


def wrapped(net):
    @functools.wraps(closure(net))
    def run(*args):
        return closure(net)(*args)

    return run


def listed(net):
    nets = {"all": [net]}
    return lambda x, y: likelihood(nets["all"][0], x, y)


NET = make("perceptron")  # named by `beside`
NETS = {"one": NET}  # named by `in_a_table`


def beside(x, y):
    return likelihood(NET, x, y)


def in_a_table(x, y):
    return likelihood(NETS["one"], x, y)


WAYS = {
    "a closure": closure,
    "a partial": lambda net: functools.partial(likelihood, net),
    "a method": lambda net: Holder(net).model,
    "a callable object": Called,
    "a default argument": default,
    "a decorated closure": wrapped,
    "a container": listed,
    "a name beside the function": lambda net: beside,
    "a table beside the function": lambda net: in_a_table,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_network_is_found_in(way):
    net = NET if "beside" in way else make("perceptron")
    before = copy.deepcopy(net.state_dict())
    other, one, two = make("perceptron"), credo.SVI(likelihood, nothing), credo.SVI(WAYS[way](net), lambda x, y: None)
    try:
        assert [two.step(X, Y) for _ in range(10)] == [one.step(other, X, Y) for _ in range(10)]
        changed = [name for name, value in net.state_dict().items() if not torch.equal(before[name], value)]
        assert changed == [], "the run trained the user's own network"
    finally:
        net.load_state_dict(before)


def test_a_fit_stays_as_it_is_while_its_run_goes_on():
    net = make("buffers")
    runner = credo.SVI(shifted, shift, progress=False)
    fit = runner.run(net, X, Y, steps=60)
    before = {name: value.clone() for name, value in fit.params.items()}
    draws, losses, repeated = fit.sample(5)["z"], fit.losses, fit.predict(5, net, X)["y"]
    later = runner.run(net, X, Y, steps=60)
    assert len(later.losses) == 120 and fit.losses == losses
    for name, value in before.items():
        assert torch.equal(fit.params[name], value)
        assert not torch.equal(later.params[name], value), name
    assert torch.equal(fit.sample(5)["z"], draws)
    assert torch.equal(fit.predict(5, net, X)["y"], repeated)
    assert not torch.equal(later.predict(5, net, X)["y"], repeated)


def shifted(net, x, y=None):
    pyro.module("net", net)
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(net(x).squeeze(-1) + z, 1.0), obs=y)


def shift(net, x, y=None):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.3))
