"""Where weights may act on each row with noise of their own, and why not elsewhere."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch import nn
from torch.distributions import constraints
from torch.func import functional_call
from torch.nn import functional

import credo
from credo.inference.estimators.local import local_sites
from credo.inference.pair.pair import Pair
from credo.inference.runtime.sites import latent
from tests.cases.gradients import kl_of

HOW = pytest.mark.parametrize("how", ["local", "flipout"])
N = 9
X, Y = torch.linspace(-2, 2, N * 3).reshape(N, 3).sin(), torch.linspace(-1, 1, N)


@pytest.fixture(autouse=True)
def as_in_a_run():
    with pyro.validation_enabled(False):
        yield


def why(model, guide, how, *data):
    """{site: why not} of the pair."""
    pair = Pair(model, guide, data)
    sites = latent(poutine.trace(guide).get_trace(*data), auxiliary=True)
    with torch.no_grad():
        poutine.trace(poutine.replay(model, trace=poutine.trace(guide).get_trace(*data))).get_trace(*data)
    return local_sites(pair, list(sites), kl_of(pair), how)


def draw(name="w", *shape):
    return pyro.sample(name, dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape)))


def guide(*_):
    loc = pyro.param("loc", torch.tensor([[0.3, -0.2, 0.5]]))
    return pyro.sample("w", dist.Normal(loc, pyro.param("scale", torch.tensor(0.4))).to_event(2))


def likelihood(mean, y=Y):
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def of_output(f):
    """A model whose likelihood has the mean f(the output of a linear layer), shape (N,)."""

    def model(x):
        likelihood(f(functional.linear(x, draw("w", 1, 3)).squeeze(-1)))

    return model


def of_weight(f):
    """A model whose likelihood has the mean f(x, w)."""

    def model(x):
        likelihood(f(x, draw("w", 1, 3)).squeeze(-1))

    return model


class Hidden(torch.autograd.Function):
    """The sum of a weight, where torch's function modes do not see it."""

    @staticmethod
    def forward(context, weight):
        with torch._C.DisableTorchFunction():
            return weight.sum()

    @staticmethod
    def backward(context, gradient):
        raise NotImplementedError


def looking_around(x, w):
    assert w.shape == (1, 3) and w.dim() == 2 and len(w) == 1 and w.dtype == x.dtype and w.device == x.device
    return functional.linear(x.new_tensor(x.tolist()), w)


GROUP = torch.tensor([0, 0, 1, 2, 2, 2, 3, 3, 3])
LEGAL = {
    "a linear layer": of_output(lambda out: out),
    "a function of each row": of_output(lambda out: out.tanh() * Y),
    "rows used again": of_output(lambda out: out[GROUP]),
    "some rows not used": of_output(lambda out: out[:1].expand(N)),
    "rows in another order": of_output(lambda out: out.flip(0)),
    "dropout": of_output(nn.Dropout(0.5)),
    "asked for its shape": of_weight(looking_around),
}


@HOW
@pytest.mark.parametrize("case", LEGAL)
def test_legal(case, how):
    assert why(LEGAL[case], guide, how, X) == {"w": None}


def no_plate(x):
    pyro.sample("y", dist.Normal(functional.linear(x, draw("w", 1, 3)).squeeze(-1), 1.0).to_event(1), obs=Y)


def a_latent_that_reads_two_rows(x):
    """The density of the latent z, not that of the data."""
    out = functional.linear(x, draw("w", 1, 3)).squeeze(-1)
    z = pyro.sample("z", dist.Normal(out[0] + out[1], 1.0))
    likelihood(z.expand(N))


def two_sites(x):
    guide(x)
    pyro.sample("z", dist.Normal(pyro.param("z_loc", torch.tensor(0.3)), 1.0))


def another_prior(fn):
    def model(x):
        likelihood(functional.linear(x, pyro.sample("w", fn().to_event(2))).squeeze(-1))

    return model


def hierarchical(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    likelihood(functional.linear(x, pyro.sample("w", dist.Normal(z.expand(1, 3), 1.0).to_event(2))).squeeze(-1))


def another_guide(fn):
    def other(x):
        loc = pyro.param("loc", torch.tensor([[0.3, 0.2, 0.5]]))
        pyro.sample("w", fn(loc, pyro.param("scale", torch.tensor(0.4), constraint=constraints.positive)).to_event(2))

    return other


def reads_its_own_draw(x):
    w = guide(x)
    pyro.sample("z", dist.Normal(w.sum() + pyro.param("z_loc", torch.tensor(0.3)), 1.0))


def with_z(x):
    likelihood(functional.linear(x, draw("w", 1, 3)).squeeze(-1) + draw("z"))


def sometimes(x):
    w, z = draw("w", 1, 3), draw("z")
    likelihood(functional.linear(x, w)[:, 0] if z > 0 else x[:, 0])


NORM = nn.BatchNorm1d(1, affine=False)
LAYER = torch.ones(3, 1)
NOT_LEGAL = {
    "two layers": (of_weight(lambda x, w: functional.linear(x, w) + functional.linear(x**2, w)), guide, "2 layers"),
    "input and weight": (of_weight(lambda x, w: functional.linear(w, w).expand(N, 1)), guide, "2 layers"),
    "the input": (of_weight(lambda x, w: functional.linear(w, LAYER.T).expand(N, 1)), guide, "linear (its input)"),
    "transposed": (of_weight(lambda x, w: functional.linear(x, w.T.T)), guide, "Tensor.T"),
    "masked": (of_weight(lambda x, w: functional.linear(x, w * torch.tensor([1.0, 0.0, 1.0]))), guide, "Tensor.mul"),
    "a product": (of_weight(lambda x, w: torch.matmul(x, w.t())), guide, "Tensor.t"),
    "einsum": (of_weight(lambda x, w: torch.einsum("ni,ji->nj", x, w)), guide, "einsum"),
    "in a list": (of_weight(lambda x, w: functional.linear(x, torch.cat([w, w]))[:, :1]), guide, "torch.cat"),
    "its size as well": (of_weight(lambda x, w: functional.linear(x, w) + w.square().sum()), guide, "Tensor.square"),
    "out of sight": (of_weight(lambda x, w: functional.linear(x, w) + Hidden.apply(w)), guide, "out of sight"),
    "a layer that torch has transposed": (
        of_weight(lambda x, w: functional.conv_transpose1d(x[:, :1, None], w[..., None])[:, 0]),
        guide,
        "__getitem__",
    ),
    "no layer": (of_weight(lambda x, w: x[:, :1]), guide, "does not take it for the weight"),
    "batch norm": (of_output(lambda out: NORM(out[:, None])[:, 0]), guide, "several rows"),
    "centred": (of_output(lambda out: out - out.mean()), guide, "several rows"),
    "the mean alone": (of_output(lambda out: out.mean().expand(N)), guide, "several rows"),
    "neighbours": (of_output(lambda out: out + out.roll(1)), guide, "several rows"),
    "a sum so far": (of_output(lambda out: out.cumsum(0)), guide, "several rows"),
    "the largest": (of_output(lambda out: out.max().expand(N)), guide, "several rows"),
    "no plate": (no_plate, guide, "no plate over them"),
    "a latent of two rows": (a_latent_that_reads_two_rows, two_sites, "log density of 'z' reads several rows"),
    "an unknown KL": (another_prior(lambda: dist.StudentT(3.0, torch.zeros(1, 3))), guide, "KL from the prior is not"),
    "Laplace": (of_output(lambda out: out), another_guide(dist.Laplace), "distribution is Laplace"),
    "log-normal": (
        another_prior(lambda: dist.LogNormal(torch.zeros(1, 3), 1.0)),
        another_guide(dist.LogNormal),
        "distribution is LogNormal",
    ),
    "the guide reads it": (with_z, reads_its_own_draw, "the guide goes on to read it"),
    "under a vmap of its own": (
        of_weight(lambda x, w: torch.vmap(lambda row: functional.linear(row, w))(x)),
        guide,
        "cannot be run with noise for each row",
    ),
}


@HOW
@pytest.mark.parametrize("case", NOT_LEGAL)
def test_not_legal(case, how):
    model, its_guide, words = NOT_LEGAL[case]
    found = why(model, its_guide, how, X)["w"]
    assert found is not None and words in found


def test_a_layer_that_is_left_out_by_the_value_of_another_draw_is_named():
    found = {why(sometimes, two_sites, "local", X)["w"] for _ in range(20)}
    assert "whether the model reads it depends on the values that it draws" in found


def test_a_prior_that_is_drawn_leaves_other_sites_alone():
    def other(x):
        guide(x)
        pyro.sample("z", dist.Normal(pyro.param("z_loc", torch.tensor(0.3)), 1.0))

    found = why(with_z, other, "local", X)
    assert found["w"] is None and "Tensor.add" in found["z"]


def test_an_automatic_guide_draws_its_weights_under_other_names():
    found = why(of_output(lambda out: out), AutoNormal(of_output(lambda out: out)), "local", X)
    assert set(found) == {"w", "w_unconstrained"} and None not in found.values()


class Net(nn.Module):
    """Layers of a kind each, in series. x: shape (N, 1, 6, 6)."""

    def __init__(self, *more):
        super().__init__()
        self.conv, self.more, self.out = nn.Conv2d(1, 2, 3), nn.Sequential(*more), nn.Linear(2, 2)

    def forward(self, x):
        return self.out(self.more(self.conv(x)).relu().mean((-2, -1)))


def network(net):
    def model(x):
        w = {n: pyro.sample(n, dist.Normal(torch.zeros_like(p), 1.0).to_event(p.dim())) for n, p in PARTS(net)}
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Categorical(logits=functional_call(net, w, (x,))), obs=torch.arange(len(x)) % 2)

    def its_guide(x):
        for n, p in PARTS(net):
            pyro.sample(n, dist.Normal(pyro.param(f"{n}.loc", p.detach().clone()), 0.1).to_event(p.dim()))

    return model, its_guide, torch.randn(5, 1, 6, 6)


def PARTS(net):
    return [(n, p) for n, p in net.named_parameters() if "more" not in n]


def test_a_convolution_keeps_the_places_of_a_row_together():
    model, its_guide, x = network(Net())
    assert set(why(model, its_guide, "flipout", x).values()) == {None}
    found = why(model, its_guide, "local", x)
    assert found["out.weight"] is found["out.bias"] is None
    assert "several places" in found["conv.weight"] and "flipout" in found["conv.bias"]


@HOW
def test_batch_norm_between_the_layers_couples_the_first_alone(how):
    model, its_guide, x = network(Net(nn.BatchNorm2d(2)))
    found = why(model, its_guide, how, x)
    assert found["out.weight"] is None and found["conv.weight"] is not None
    model, its_guide, x = network(Net(nn.GroupNorm(1, 2)))
    assert why(model, its_guide, "flipout", x)["conv.weight"] is None


@HOW
def test_the_pairs_of_the_house(how):
    for name in ("bnn_classifier", "bnn_sparse"):
        pair = credo.load(name)
        net, x, y = pair.data()
        found = why(pair.model, pair.guide, how, net, x[:50], y[:50])
        assert found["0.weight"] is found["2.weight"] is None
        assert (found["0.bias"] is None) == (name == "bnn_classifier")  # points in the other
    pair = credo.load("bnn_dropout")
    found = why(pair.model, pair.guide, how, *pair.data())
    assert found["0.weight"].startswith("its distribution is Delta") and "Bernoulli" in found["0.weight.keep"]


@HOW
def test_legal_under_a_prior_that_is_drawn(how):
    assert why(hierarchical, two_sites, how, X)["w"] is None


def convolution(layer, shape, **options):
    """(model, guide, x): one convolution whose outputs of a row meet in its log density, through a tanh."""

    def model(x):
        out = layer(x, draw("w", *shape), **options).tanh().flatten(1).mean(1)
        likelihood(out, torch.zeros(len(x)))

    def its_guide(x):
        loc = pyro.param("loc", torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape))
        pyro.sample("w", dist.Normal(loc, 0.2).to_event(len(shape)))

    return model, its_guide


CONVOLUTIONS = {  # the layer, its options, the shapes of its weight and of its input; does "local" do, is it a layer
    "an output of one place": (functional.conv2d, {}, (2, 1, 4, 4), (5, 1, 4, 4), True, True),
    "a kernel of one place": (functional.conv1d, {}, (2, 3, 1), (5, 3, 1), True, True),
    "several places": (functional.conv2d, {}, (2, 1, 3, 3), (5, 1, 4, 4), False, True),
    "the same size": (functional.conv2d, {"padding": "same"}, (2, 1, 3, 3), (5, 1, 4, 4), False, True),
    "in groups, dilated": (functional.conv2d, {"groups": 2, "dilation": 2}, (2, 1, 2, 2), (5, 2, 4, 4), False, True),
    "three dimensions": (functional.conv3d, {"stride": 2}, (2, 1, 2, 2, 2), (5, 1, 4, 4, 4), False, True),
    "transposed": (functional.conv_transpose2d, {}, (1, 2, 3, 3), (5, 1, 4, 4), False, False),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_local_is_legal_for_a_convolution_that_is_read_place_by_place_alone(case):
    layer, options, shape, inputs, local, is_layer = CONVOLUTIONS[case]
    model, its_guide = convolution(layer, shape, **options)
    x = torch.randn(inputs)
    found = {how: why(model, its_guide, how, x)["w"] for how in ("local", "flipout")}
    assert (found["local"] is None) == local and (found["flipout"] is None) == is_layer
    if not is_layer:
        assert "conv_transpose2d, not as the weight or bias of one layer" in found["local"]
    elif not local:
        assert "several places" in found["local"] and "force=True" in found["local"]


class Circular(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
        self.out = nn.Linear(2, 2)

    def forward(self, x):
        return self.out(self.conv(x).relu().mean((-2, -1)))


def test_a_padding_that_wraps_around_is_a_layer_and_a_tied_weight_is_refused():
    found = why(*network(Circular())[:2], "flipout", torch.randn(4, 1, 6, 6))
    assert set(found.values()) == {None}
    tied = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 1, 3, padding=1), nn.Flatten())
    tied[2].weight = tied[0].weight
    model, its_guide, _ = network(tied)
    found = why(model, its_guide, "flipout", torch.randn(4, 1, 1, 2))
    assert "2 layers, which share one draw" in found["0.weight"] and found["0.bias"] is found["2.bias"] is None


def test_force_takes_the_published_form_for_a_convolution_with_a_warning_and_nothing_else():
    model, its_guide, x = network(Net())
    with pytest.raises(ValueError, match=r"'conv.weight': 'local' is not legal.*several places.*use 'flipout'"):
        credo.plan(model, its_guide, x, plan={"conv.weight": "local"})
    with pytest.warns(
        UserWarning, match=r"'conv.weight': 'local' was forced, its gradient is biased.*Kingma et al. 2015"
    ):
        fit = credo.fit(
            model, its_guide, x, plan={"conv.weight": "local"}, force=True, steps=2, particles=1, progress=False
        )
    assert fit.plan.frame.estimator[["conv.weight", "conv.bias", "out.weight"]].tolist() == [
        "local",
        "flipout",
        "local",
    ]
    with pytest.raises(ValueError, match="not legal"):
        credo.plan(
            of_weight(lambda x, w: functional.linear(x, w) + w.square().sum()),
            guide,
            X,
            plan={"w": "local"},
            force=True,
        )
