"""A run owns its parameters, its copies of networks and its random state: nothing leaks in, nothing leaks out."""

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import constraints

import credo
from credo.inference.runtime.state import State, reading

Y = torch.tensor([0.3, 1.2, 2.1, -0.4])
X = torch.tensor([[0.5, 1.0], [-1.0, 0.3], [2.0, -0.7], [0.1, 0.1]])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y):
    loc = pyro.param("loc", torch.tensor(0.0))
    scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 1))


def regression(net, x, y):
    """The network's weights are trained in the model and its output is shifted by a latent."""
    pyro.module("net", net)
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(net(x).squeeze(-1) + z, 1.0), obs=y)


def shift(net, x, y):
    guide(y)


def encoder(net, x, y):
    """The network is trained in the guide."""
    pyro.module("net", net)
    pyro.sample("z", dist.Normal(net(x).mean(), 0.3))


def latent(net, x, y):
    model(y)


class Linear(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = PyroModule[nn.Linear](2, 1)
        self.layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))

    def forward(self, x, y):
        mean = self.layer(x).squeeze(-1)
        with pyro.plate("N", len(x)):
            return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


class Learnt(PyroModule):
    """A guide that is a PyroModule: its parameters are its own attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = pyro.nn.PyroParam(torch.tensor(0.0))
        self.scale = pyro.nn.PyroParam(torch.tensor(1.0), constraint=constraints.positive)

    def forward(self, y):
        pyro.sample("z", dist.Normal(self.loc, self.scale))


def closure(net):
    return (lambda x, y: regression(net, x, y)), (lambda x, y: guide(y))


def linear():
    model = Linear()
    return model, AutoNormal(model), X, Y


PAIRS = {  # each call makes new objects: (model, guide, *data)
    "functions": lambda: (model, guide, Y),
    "automatic": lambda: (model, None, Y),
    "autonormal": lambda: (model, AutoNormal(model), Y),
    "autodiagonal": lambda: (model, AutoDiagonalNormal(model), Y),
    "automultivariate": lambda: (model, AutoMultivariateNormal(model), Y),
    "pyromodule guide": lambda: (model, Learnt(), Y),
    "pyromodule model": linear,
    "network in the model": lambda: (regression, shift, network(), X, Y),
    "network in the guide": lambda: (latent, encoder, network(), X, Y),
    "closure": lambda: (*closure(network()), X, Y),
    "score": lambda: (model, guide, Y),
}
AUTOMATIC = ["autonormal", "autodiagonal", "automultivariate", "pyromodule guide"]
pairs = pytest.mark.parametrize("name", PAIRS)


def short(pair, name="", **settings):
    settings = {"steps": 30, "progress": False} | settings
    settings = {"plan": {"z": "score"} if name == "score" else None} | settings
    return credo.fit(*pair, **settings)


def same(one, two) -> bool:
    assert one.params.keys() == two.params.keys()
    return one.losses == two.losses and all(torch.equal(one.params[k], two.params[k]) for k in one.params)


@pairs
def test_the_same_seed_gives_the_same_run_and_another_seed_another(name):
    pair = PAIRS[name]()
    alone = short(PAIRS[name](), name)
    assert len(alone.losses) == 30
    assert same(short(pair, name), alone)
    assert same(short(pair, name), alone)  # the same objects once more: as if for the first time
    assert short(pair, name, seed=1).losses != alone.losses


@pairs
def test_a_fit_after_other_fits_equals_a_fit_alone(name, unchanged):
    alone = short(PAIRS[name](), name)
    for other in PAIRS:
        short(PAIRS[other](), other, steps=1, seed=5)
    torch.rand(3)
    pair = PAIRS[name]()
    with unchanged():
        assert same(short(pair, name), alone)


def test_two_runs_side_by_side_with_the_same_names_do_not_touch_each_other():
    def alone(y):
        runner = credo.SVI(model, guide)
        return [runner.step(y) for _ in range(20)]

    one, two = credo.SVI(model, guide), credo.SVI(model, guide)
    for _ in range(20):
        one.step(Y), two.step(Y + 5)
    assert one.losses == alone(Y)
    assert two.losses == alone(Y + 5) != one.losses


class Stop(Exception):
    pass


def modules(pair) -> list[nn.Module]:
    """All modules of a pair, in their order: given, or closed over."""
    cells = [cell.cell_contents for thing in pair for cell in getattr(thing, "__closure__", None) or ()]
    return [m for thing in (*pair, *cells) if isinstance(thing, nn.Module) for m in thing.modules()]


def look(module: nn.Module) -> dict[str, object]:
    """What a run may not change in a module of the user's."""
    tensors = {**module._parameters, **module._buffers}
    return {
        "attributes": list(module.__dict__),
        "tensors": {k: (id(t), t.tolist(), t.requires_grad, t.grad) for k, t in tensors.items() if t is not None},
        "children": {k: id(m) for k, m in module._modules.items()},
        "training": module.training,
    }


@pytest.mark.parametrize(("error", "after"), [(None, 0), (Stop, 0), (Stop, 2), (Stop, 20), (KeyboardInterrupt, 500)])
@pytest.mark.parametrize("name", ["network in the model", "network in the guide", "closure", *AUTOMATIC])
def test_a_run_leaves_the_process_and_the_modules_as_they_were(name, error, after, unchanged):
    program, belief, *data = pair = PAIRS[name]()
    calls = 0

    def breaking(*args):
        nonlocal calls
        calls += 1
        if error is not None and calls > after:
            raise error
        return program(*args)

    before = [look(m) for m in modules(pair)]
    assert before
    with unchanged():
        if error is Stop:
            with pytest.raises(Stop):
                short((breaking, belief, *data), steps=60)
        else:
            fit = short((breaking, belief, *data), steps=600 if error else 60, plan="fast")
            assert fit.stopped.startswith("interrupted" if error else "after the 60 steps")
    assert [look(m) for m in modules(pair)] == before


@pytest.mark.parametrize("call", ["sample", "predict", "summary", "compare", "gradients", "evaluate_loss", "plan"])
def test_looking_at_a_fit_leaves_the_process_as_it_was(call, unchanged):
    fit = short((model, guide, Y))
    runner, exact = credo.SVI(model, guide), SimpleNamespace(marginals={"z": dist.Normal(0.6, 0.4)}, log_evidence=-6.5)
    calls = {
        "sample": lambda: fit.sample(10),
        "predict": lambda: fit.predict(10),
        "summary": lambda: fit.summary(10),
        "compare": lambda: credo.compare(fit, exact),
        "gradients": lambda: runner.gradients(Y),
        "evaluate_loss": lambda: runner.evaluate_loss(Y),
        "plan": lambda: credo.plan(model, guide, Y),
    }
    with unchanged():
        calls[call]()


@pytest.mark.parametrize("seed", [None, -1, 1.5, "a"])
def test_a_fit_that_is_read_needs_a_seed(seed):
    with pytest.raises(ValueError, match=r"seed: got .*, wanted a whole number"), reading(State(), seed):
        pass
