"""Fits that were saved, loaded into functions defined anew: the same answers bit for bit, or one clear error."""

import functools
import os
import subprocess
import sys
import textwrap

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide
from pyro.nn import PyroModule, PyroParam
from torch import nn

import credo
from tests.cases.tree import ROOT
from tests.inference.storage.test_container import mutated

X = torch.linspace(-1.0, 1.0, 12)
Y = 2 * X + torch.tensor([0.1, -0.2, 0.3, 0.0, -0.1, 0.2] * 2)
TWO = torch.cat([X - 2.0, X + 2.0])
GROUP = torch.arange(12) % 3


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


def line(x, y=None, sd=2.0):
    b = pyro.sample("b", dist.Normal(0.0, sd))
    s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(b * x, s), obs=y)


def conjugate(x, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 2.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(b * x, 1.0), obs=y)


def groups(g, y=None):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("G", 3):
        a = pyro.sample("a", dist.Normal(m, 0.5))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.StudentT(4.0, a[g], 0.5), obs=y)


def mixture(x):
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 5.0).to_event(1))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(loc[k.long()], 1.0), obs=x)


def by_hand(x, y=None):
    loc = pyro.param("loc", torch.zeros(()))
    scale = pyro.param("scale", torch.ones(()), constraint=dist.constraints.positive)
    pyro.sample("b", dist.Normal(loc, scale))
    pyro.sample("s", dist.LogNormal(pyro.param("t", torch.zeros(())), 0.1))


class Module(PyroModule):
    """A guide that is a module with a parameter and a network of its own."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.scale = PyroParam(torch.ones(()), dist.constraints.softplus_positive)

    def forward(self, x, y=None):
        pyro.sample("b", dist.Normal(self.net(torch.ones(1))[0], self.scale))
        pyro.sample("s", dist.LogNormal(0.0, 1.0))


def guides(model):
    both = autoguide.AutoGuideList(model)
    both.append(autoguide.AutoNormal(pyro.poutine.block(model, expose=["b"])))
    both.append(autoguide.AutoDelta(pyro.poutine.block(model, expose=["s"])))
    return both


def vae():
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(4, 2), nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4))

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("N", len(x)):
            mean, log_sd = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(mean, log_sd.exp()).to_event(1))

    return model, guide, (TWO.reshape(6, 4),)


def bayesian_net():
    pair = credo.load("bnn_classifier")
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    return pair.model, pair.guide, (net, TWO.reshape(12, 2), GROUP % 2)


def of(model, guide, *data):
    """A function that makes the pair and its data anew."""
    return lambda: (model, guide(model) if guide in MADE else guide() if isinstance(guide, type) else guide, data)


MADE = (
    *(autoguide.AutoNormal, autoguide.AutoDiagonalNormal, autoguide.AutoMultivariateNormal, autoguide.AutoDelta),
    *(autoguide.AutoLowRankMultivariateNormal, autoguide.AutoLaplaceApproximation, autoguide.AutoNormalMessenger),
    guides,
)
SHORT = {"steps": 20, "compile": False}
PAIRS = {
    **{f"word-{word}": (of(line, word, X, Y), {}) for word in ("mean_field", "full_rank", "low_rank", "laplace")},
    **{f"svi-{word}": (of(line, word, X, Y), SHORT) for word in ("mean_field", "full_rank", "low_rank", "map", "mle")},
    **{f"svi-{guide.__name__}": (of(line, guide, X, Y), SHORT) for guide in MADE},
    **{f"normal-{guide.__name__}": (of(line, guide, X, Y), {}) for guide in MADE[2:3]},
    "laplace": (of(line, "laplace", X, Y), {"steps": 300, "compile": False}),
    "AutoLaplace": (of(line, autoguide.AutoLaplaceApproximation, X, Y), {"steps": 300, "compile": False}),
    "None-full-rank": (of(line, None, X, Y), {}),
    "None-exact": (of(conjugate, None, X, Y), {}),
    "None-groups": (of(groups, None, GROUP, Y), {}),
    "low-rank-groups": (of(groups, "low_rank", GROUP, Y), {}),
    "None-mixture": (of(mixture, None, TWO), {}),
    "None-mean-field": (bayesian_net, {**SHORT, "none": True}),
    "by-hand": (of(line, by_hand, X, Y), SHORT),
    "partial": (of(functools.partial(line, sd=3.0), by_hand, X, Y), SHORT),
    "module": (of(line, Module, X, Y), SHORT),
    "vae": (vae, SHORT),
    "bnn": (bayesian_net, {**SHORT, "batch_size": 6}),
}


def fitted(make, options):
    (model, guide, data), options = make(), dict(options)
    guide = None if options.pop("none", False) else guide
    return credo.fit(model, guide, *data, seed=1, progress=False, **options)


FAST = ("svi-mean_field", "svi-guides", "None-full-rank", "None-exact", "vae", "bnn")


@pytest.mark.filterwarnings("ignore")  # of short runs
@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in PAIRS])
def test_a_fit_comes_back_bit_for_bit(name, tmp_path):
    make, options = PAIRS[name]
    fit = fitted(make, options)
    fit.save(tmp_path / "fit")
    model, guide, data = make()
    again = credo.load_fit(tmp_path / "fit", model, None if "none" in options else guide, *data)
    assert same(again.sample(4), fit.sample(4)) and same(again.predict(3), fit.predict(3))
    assert again.summary(50).equals(fit.summary(50)) and same(again.params, fit.params)
    for field in ("losses", "stopped", "converged", "method", "why", "codes", "columns", "seed", "batch_size"):
        assert getattr(again, field) == getattr(fit, field), field
    assert repr(again) == repr(fit) and repr(again.plan) == repr(fit.plan) and again.plan.frame.equals(fit.plan.frame)
    assert repr(again.verdict) == repr(fit.verdict)
    if fit.correction is not None and fit.correction.trusted:
        assert same(again.corrected(5), fit.corrected(5))
    again.save(tmp_path / "again")  # and once more
    assert same(
        credo.load_fit(tmp_path / "again", model, None if "none" in options else guide, *data).sample(4), fit.sample(4)
    )


PROGRAM = """
import credo, pyro, torch, sys
import pyro.distributions as dist
from torch import nn

torch.set_num_threads(1)
x, net = torch.linspace(-1.0, 1.0, 12), nn.Linear(1, 1)

def mixed(x):
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 5.0).to_event(1))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(loc[k.long()], 1.0), obs=x)

def trained(x, y=None):
    pyro.module("net", net)
    s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(net(x[:, None])[:, 0], s), obs=y)

pair = credo.load("coin_toss")
cases = [(lambda x: mixed(x), None, (x,), {"steps": 20}), (trained, "mean_field", (x, 2 * x), {"steps": 20}),
         (pair.model, pair.guide, pair.data(), {"steps": 20}), (pair.model, None, pair.data(), {})]
for i, (model, guide, data, options) in enumerate(cases):
    path = f"{sys.argv[1]}/{i}"
    if sys.argv[2] == "save":
        fit = credo.fit(model, guide, *data, progress=False, compile=False, **options)
        fit.save(path)
    else:
        fit = credo.load_fit(path, model, guide, *data)
    drawn = fit.sample(3) | {f"new {k}": v for k, v in fit.predict(3).items()}
    print(i, fit.method, {k: v.tolist() for k, v in sorted(drawn.items())}, fit.verdict, fit.plan.frame.to_dict())
"""


def test_another_process_has_the_same_answers(tmp_path):
    """Functions of __main__, lambdas, a network that is a global, a mixture, a closed form."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    said = [
        subprocess.run(
            [sys.executable, str(tmp_path / "program.py"), str(tmp_path), what],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for what in ("save", "load")
    ]
    assert said[0].count("\n") == 4 and said[0] == said[1]


@pytest.fixture
def fit():
    return credo.fit(line, by_hand, X, Y, seed=1, progress=False, **SHORT)


@pytest.fixture
def path(fit, tmp_path):
    fit.save(tmp_path / "fit.credo")
    return tmp_path / "fit.credo"


def test_data_are_in_the_file_only_if_asked_for(fit, path, tmp_path):
    view = torch.zeros(60_000, 100)[:50, 0]  # of a large tensor
    fit = credo.fit(line, by_hand, view + X.mean(), view, seed=1, progress=False, **SHORT)
    fit.save(tmp_path / "with", with_data=True)
    assert (tmp_path / "with").stat().st_size < 40_000
    again = credo.load_fit(tmp_path / "with", line, by_hand)
    assert torch.equal(again.data[1], view) and same(again.predict(3), fit.predict(3))
    marked = torch.full((12,), 1.2345)
    credo.fit(line, by_hand, marked, Y, seed=1, progress=False, **SHORT).save(tmp_path / "without")
    assert marked[:3].numpy().tobytes() not in (tmp_path / "without").read_bytes()


def test_without_data_a_fit_answers_what_does_not_depend_on_them(fit, path):
    again = credo.load_fit(path, line, by_hand)
    assert same(again.sample(5), fit.sample(5)) and again.summary(50).equals(fit.summary(50))
    assert same(again.predict(3, X[:5]), fit.predict(3, X[:5])) and again.verdict == fit.verdict
    for ask in (lambda: again.predict(3), lambda: credo.log_likelihood(again, 10), lambda: credo.compare(again)):
        with pytest.raises(ValueError, match=r"loaded without its data.*credo\.load_fit\(path, model, guide, \*data\)"):
            ask()
    again.save(path)
    assert same(credo.load_fit(path, line, by_hand, X, Y).predict(3), fit.predict(3))


@pytest.mark.filterwarnings("ignore")
def test_draws_that_depend_on_the_data_are_refused_without_them(tmp_path):
    model, guide, data = vae()
    fit = credo.fit(model, guide, *data, progress=False, **SHORT)
    fit.save(tmp_path / "fit")
    again = credo.load_fit(tmp_path / "fit", model, guide)
    with pytest.raises(ValueError, match="loaded without its data, and draws of its sites depend on them"):
        again.sample(3)
    assert same(again.predict(3, data[0][:2]), fit.predict(3, data[0][:2]))


def renamed(x, y=None):
    pyro.sample("s", dist.LogNormal(0.0, 1.0))
    pyro.sample("c", dist.Normal(0.0, 2.0))


def heavy(x, y=None):
    b = pyro.sample("b", dist.StudentT(3.0, 0.0, 2.0))
    s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(b * x, s), obs=y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False], ids=["guide", "None"])
@pytest.mark.parametrize("name", credo.names())
def test_each_pair_comes_back(name, given, tmp_path):
    pair = credo.load(name)
    guide = pair.guide if given else None
    try:
        fit = credo.fit(pair.model, guide, *pair.data(), steps=6, progress=False, compile=False)
    except ValueError as error:
        pytest.skip(str(error))
    fit.save(tmp_path / "fit")
    pair = credo.load(name)
    again = credo.load_fit(tmp_path / "fit", pair.model, guide, *pair.data())
    assert same(again.sample(2), fit.sample(2)) and same(again.predict(2), fit.predict(2))


@pytest.mark.parametrize("data", [(X, Y), ()], ids=["data", "no-data"])
@pytest.mark.parametrize("model, said", [(renamed, "'b' of the model.*is gone"), (heavy, "StudentT")])
def test_another_model_is_refused_by_its_sites(model, said, data, path):
    with pytest.raises(ValueError, match=rf"fit\.credo: these are not the model and the guide of the fit.*{said}"):
        credo.load_fit(path, model, by_hand, *data)
    with pytest.raises(ValueError, match=r"'b' of the model .* has log density"):
        credo.load_fit(path, functools.partial(line, sd=5.0), by_hand, *data)


def test_other_data_are_refused_by_name(path):
    with pytest.raises(
        ValueError, match=r"fit\.credo: x: got float32 of shape \(5,\), wanted float32 of shape \(12,\)"
    ):
        credo.load_fit(path, line, by_hand, X[:5], Y[:5])
    with pytest.raises(ValueError, match=r"y: got data of the shape \(12,\) of the fit, but with other values"):
        credo.load_fit(path, line, by_hand, X, Y + 1)
    with pytest.raises(
        ValueError, match=r"not the model of the fit: got 2 arguments of data, and the model takes 1: x"
    ):
        credo.load_fit(path, lambda x: line(x), by_hand)


def test_another_guide_is_refused(path, tmp_path):
    with pytest.raises(ValueError, match=r"the fit has a guide of the user's own \(by_hand\); pass it"):
        credo.load_fit(path, line)
    with pytest.raises(ValueError, match=r"a network \(AutoNormal\) that these model and guide use is none of the fit"):
        credo.load_fit(path, line, autoguide.AutoNormal(line), X, Y)
    with pytest.raises(ValueError, match=r"parameter 'other': these model and guide make it"):
        credo.load_fit(path, line, lambda x, y=None: (pyro.param("other", torch.ones(())), by_hand(x, y)), X, Y)
    credo.fit(line, "map", X, Y, progress=False, **SHORT).save(tmp_path / "map")
    with pytest.raises(ValueError, match=r"credo made the guide of this fit \(svi\); leave it out"):
        credo.load_fit(tmp_path / "map", line, by_hand)
    assert (
        credo.load_fit(tmp_path / "map", line, "map").params.keys()
        == credo.load_fit(tmp_path / "map", line).params.keys()
    )


@pytest.mark.filterwarnings("ignore")
def test_a_network_is_passed_and_gets_its_weights(tmp_path):
    model, guide, (net, x, y) = bayesian_net()
    fit = credo.fit(model, guide, net, x, y, seed=1, progress=False, **SHORT)
    fit.save(tmp_path / "fit")
    with pytest.raises(ValueError, match=r"net: no file holds the network \(Sequential\) of the fit; pass one"):
        credo.load_fit(tmp_path / "fit", model, guide)
    other = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"Sequential: its 0.bias has shape \(4,\) here and \(3,\) in the fit"):
        credo.load_fit(tmp_path / "fit", model, guide, other, x, y)
    fresh = bayesian_net()[2][0]
    before = fresh[0].weight.detach().clone()
    again = credo.load_fit(tmp_path / "fit", model, guide, fresh)
    assert same(again.predict(3, fresh, x[:4]), fit.predict(3, net, x[:4]))
    assert torch.equal(again.trained(fresh)[0].weight, fit.trained(net)[0].weight)
    assert torch.equal(fresh[0].weight, before)  # the object keeps its own


def test_a_fit_needs_its_model(path):
    with pytest.raises(ValueError, match=r"fit\.credo: this file needs the model that was fitted"):
        credo.load_fit(path)


def test_a_name_that_is_no_argument_of_the_model_is_refused(path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        credo.load_fit(path, line, by_hand, z=X)
    assert credo.load_fit(path, line, by_hand, x=X, y=Y).data[0].shape == (12,)


@pytest.mark.slow
def test_500_changed_files_are_refused_by_their_path_or_read_as_they_were(fit, path):
    content = path.read_bytes()
    for seed in range(500):
        path.write_bytes(mutated(content, seed))
        try:
            again = credo.load_fit(path, line, by_hand)
        except ValueError as error:
            assert str(path) in str(error), seed
        else:
            assert same(again.sample(3), fit.sample(3)), seed
