"""Networks of one's own: density and output against a plain copy of the network that holds the drawn weights."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import credo
from tests.cases.by_hand import log_normal

ROWS = 6


class Recurrent(nn.Module):
    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.read, self.out = kind(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.read(x)[0][:, -1])


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.vectors, self.out = nn.Embedding(7, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.vectors(x).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.out(torch.tanh(self.two(torch.tanh(self.one(x)))))


def perceptron():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def normed():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 2)).eval()


def last_layer():
    net = perceptron()
    net[0].requires_grad_(False)
    return net


def kept_statistics():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    net[1].running_mean.fill_(0.3)
    net[1].eval()
    return net


NETS = {  # each: a network, inputs, and the sd of each prior by hand
    "perceptron": (perceptron, (3,), {"0.weight": 3**-0.5, "0.bias": 1.0, "2.weight": 0.5, "2.bias": 1.0}),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)),
        (2, 4, 4),
        {"0.weight": 18**-0.5, "0.bias": 1.0, "3.weight": 12**-0.5, "3.bias": 1.0},
    ),
    "transposed convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(54, 2)),
        (4, 1, 1),
        {"0.weight": 18**-0.5, "0.bias": 1.0, "2.weight": 54**-0.5, "2.bias": 1.0},
    ),
    "layer norm and dropout": (
        normed,
        (3,),
        {"0.weight": 3**-0.5, "0.bias": 1.0, "1.weight": 1.0, "1.bias": 1.0, "4.weight": 0.5, "4.bias": 1.0},
    ),
    "batch norm of kept statistics": (
        kept_statistics,
        (3,),
        {"0.weight": 3**-0.5, "0.bias": 1.0, "1.weight": 1.0, "1.bias": 1.0, "3.weight": 0.5, "3.bias": 1.0},
    ),
    "embedding": (Words, None, {"vectors.weight": 1.0, "out.weight": 3**-0.5, "out.bias": 1.0}),
    "GRU": (
        Recurrent,
        (5, 3),
        {
            "read.weight_ih_l0": 3**-0.5,
            "read.weight_hh_l0": 0.5,
            "read.bias_ih_l0": 1.0,
            "read.bias_hh_l0": 1.0,
            "out.weight": 0.5,
            "out.bias": 1.0,
        },
    ),
    "tied weights": (
        Tied,
        (3,),
        {"one.weight": 3**-0.5, "one.bias": 1.0, "two.bias": 1.0, "out.weight": 3**-0.5, "out.bias": 1.0},
    ),
    "frozen weights": (last_layer, (3,), {"2.weight": 0.5, "2.bias": 1.0}),
}


def made(kind):
    """(network, x, y, sds) of one kind, always the same."""
    net, shape, sds = NETS[kind]
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        x = torch.randint(0, 7, (ROWS, 4)) if shape is None else torch.randn(ROWS, *shape)
        return net(), x, torch.arange(ROWS) % 2, sds


def classifier(f):
    def model(x, y=None):
        logits = f(x)
        with pyro.plate("N", len(x)):
            return pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    return model


def with_weights(net, weights):
    """A plain copy of a network that holds these weights."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        for name, value in weights.items():
            other.get_parameter(name).copy_(value)
    return other


@pytest.mark.parametrize("kind", NETS)
def test_the_output_is_that_of_a_copy_and_the_density_that_of_the_priors(kind):
    net, x, y, sds = made(kind)
    before = copy.deepcopy(net.state_dict())
    trace = poutine.trace(classifier(credo.nn.bayesian(net))).get_trace(x, y)
    trace.compute_log_prob()
    drawn = {name: site["value"] for name, site in trace.nodes.items() if name not in ("N", "y") and name[0] != "_"}
    assert list(drawn) == list(sds)
    for name, value in drawn.items():
        assert trace.nodes[name]["log_prob"].item() == pytest.approx(log_normal(value, sds[name]).item(), rel=1e-4)
    logits = with_weights(net, drawn)(x).detach()
    expected = logits.log_softmax(-1)[torch.arange(ROWS), y].sum()
    assert trace.nodes["y"]["log_prob"].sum().item() == pytest.approx(expected.item(), rel=1e-4)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    torch.testing.assert_close(copy.deepcopy(net)(x), net(x))  # also of a GRU, which keeps its weights a second time
    assert list(credo.nn.mean_field(net)(x, y)) == list(sds)


@pytest.mark.parametrize("kind", ["perceptron", "convolution", "GRU", "frozen weights"])
def test_a_fit_trains_and_predicts_and_leaves_the_net_alone(kind):
    net, x, y, sds = made(kind)
    before = copy.deepcopy(net.state_dict())
    model, guide = classifier(credo.nn.bayesian(net)), credo.nn.mean_field(net, sd=0.1)
    fit = credo.fit(model, guide, x, y, batch_size=3, steps=3, progress=False, compile=False)
    assert set(fit.params) == {f"{name}.{part}" for name in sds for part in ("loc", "scale")}
    assert fit.predict(2, x[:4])["y"].shape == (2, 4)
    draws = fit.sample(1, seed=5)
    trained = fit.trained(net, draw=5)
    assert all(torch.equal(trained.get_parameter(name), draws[name][0]) for name in sds)
    moved = [fit.params[f"{name}.loc"] - before[name] for name in sds]
    assert all(0 < change.abs().max() < 0.2 for change in moved)  # it began at the network's own weights
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_layers_may_have_noise_for_each_row_as_in_the_pairs():
    net, x, y, _ = made("convolution")
    model = classifier(credo.nn.bayesian(net, lambda name, w: 10 / credo.nn.inputs_of(net, name) ** 0.5))
    pair = credo.load("bnn_classifier")
    wanted = {"0.weight": "flipout", "3.weight": "local"}  # each is refused where it is biased
    for guide in (credo.nn.mean_field(net), "mean_field"):
        fit = credo.fit(model, guide, x, y, plan=wanted, steps=1, progress=False, compile=False)
        assert {e.site: e.estimator for e in fit.plan.entries if e.site in wanted} == wanted
    own, theirs = credo.plan(model, credo.nn.mean_field(net), x, y), credo.plan(pair.model, pair.guide, net, x, y)
    assert [e[:3] for e in own.entries] == [e[:3] for e in theirs.entries]


def regression(f):
    def model(x, y=None):
        mean = f(x).squeeze(-1)
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.5), obs=y)

    return model


def test_the_fit_of_a_linear_net_is_the_best_factorised_normal():
    """Of a normal posterior N(m, P^-1) that is N(m, 1 / diag(P)) (Bishop 2006, section 10.1.2)."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net, x = nn.Linear(2, 1), torch.randn(40, 2)
        y = x @ torch.tensor([1.0, -2.0]) + 0.7 + 0.5 * torch.randn(40)
    A = torch.cat([x, torch.ones(40, 1)], 1).double()
    precision = A.T @ A / 0.25 + torch.diag(torch.tensor([4.0, 4.0, 1.0])).double()
    mean = torch.linalg.solve(precision, A.T @ y.double() / 0.25)
    sd = precision.diagonal() ** -0.5
    f = credo.nn.bayesian(net, prior_sd={"weight": 0.5})
    fit = credo.fit(regression(f), credo.nn.mean_field(net), x, y, progress=False, compile=False)
    loc = torch.cat([fit.params["weight.loc"][0], fit.params["bias.loc"]]).double()
    scale = torch.cat([fit.params["weight.scale"][0], fit.params["bias.scale"]]).double()
    assert ((loc - mean).abs() / sd).max() < 0.1
    assert (scale / sd - 1).abs().max() < 0.05


@pytest.mark.parametrize(
    ("prior_sd", "sds"),
    [
        (3, {"0.weight": 3.0, "0.bias": 3.0, "2.weight": 3.0, "2.bias": 3.0}),
        ({"2.weight": 4.0}, {"0.weight": 3**-0.5, "0.bias": 1.0, "2.weight": 4.0, "2.bias": 1.0}),
        (lambda name, w: 2.0 * w.dim(), {"0.weight": 4.0, "0.bias": 2.0, "2.weight": 4.0, "2.bias": 2.0}),
        (torch.tensor(2.5), {"0.weight": 2.5, "0.bias": 2.5, "2.weight": 2.5, "2.bias": 2.5}),
    ],
    ids=["number", "dictionary", "function", "tensor"],
)
def test_priors_of_ones_own(prior_sd, sds):
    trace = poutine.trace(lambda: credo.nn.draw_weights(perceptron(), prior_sd)).get_trace()
    found = {name: site["fn"].base_dist.scale.unique().item() for name, site in trace.nodes.items() if name in sds}
    assert found == pytest.approx(sds)


def test_the_sd_of_the_prior_may_be_a_latent():
    net, x, y, sds = made("perceptron")

    def model(x, y=None):
        sd = pyro.sample("sd", dist.HalfNormal(1.0))
        classifier(credo.nn.bayesian(net, prior_sd=sd))(x, y)

    fit = credo.fit(model, "mean_field", x, y, steps=3, progress=False, compile=False)
    assert set(fit.sample(1)) == {"sd", *sds}


def test_two_networks_of_one_model_have_names_of_their_own():
    one, two = nn.Linear(3, 1), nn.Linear(3, 1)
    mean, log_sd = credo.nn.bayesian(one, name="mean"), credo.nn.bayesian(two, name="noise")

    def model(x, y=None):
        loc, scale = mean(x).squeeze(-1), log_sd(x).squeeze(-1).exp()
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(loc, scale), obs=y)

    def guide(x, y=None):
        credo.nn.mean_field(one, name="mean")()
        credo.nn.mean_field(two, name="noise")()

    _, x, y, _ = made("perceptron")
    fit = credo.fit(model, guide, x, y.float(), steps=3, progress=False, compile=False)
    assert set(fit.sample(1)) == {"mean.weight", "mean.bias", "noise.weight", "noise.bias"}


def test_a_network_that_is_an_argument_and_one_that_is_called_twice():
    net, x, y, sds = made("perceptron")

    def siamese(net, x, y=None):
        weights = credo.nn.draw_weights(net, 1.0)
        left, right = (torch.func.functional_call(net, weights, part) for part in (x, -x))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Categorical(logits=left - right), obs=y)

    fit = credo.fit(siamese, credo.nn.mean_field(net), net, x, y, steps=3, progress=False, compile=False)
    assert set(fit.sample(1)) == set(sds) and fit.predict(3, net, x)["y"].shape == (3, ROWS)


def lazy():
    return nn.Sequential(nn.LazyLinear(2))


def batch_normed():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("net", "prior_sd", "words"),
    [
        (torch.tanh, None, r"net: got builtin_function_or_method, wanted a torch.nn.Module"),
        (nn.ReLU(), None, r"net: got ReLU, wanted a torch.nn.Module with parameters that are not frozen"),
        (lazy(), None, r"net: parameter '0.weight' has no shape before the first call; call net\(x\) once"),
        (nn.Linear(2, 2, dtype=torch.complex64), None, r"parameter 'weight' holds torch.complex64, wanted real"),
        (nn.DataParallel(nn.Linear(3, 2)), None, r"net: got DataParallel, .*pass net.module"),
        (perceptron(), 0.0, r"prior_sd: got 0.0 for parameter '0.weight', wanted a positive number"),
        (perceptron(), "wide", r"prior_sd: got 'wide' for parameter '0.weight', wanted a positive number"),
        (perceptron(), {"0.weigth": 1.0}, r"prior_sd: got \['0.weigth'\], which are no parameters .*'0.weight'"),
        (perceptron(), lambda name, w: -1, r"prior_sd: got -1 for parameter '0.weight'"),
    ],
    ids=["function", "no weights", "lazy", "complex", "parallel", "zero", "word", "unknown name", "negative"],
)
def test_what_cannot_be_drawn_is_refused_at_once(net, prior_sd, words):
    with pytest.raises(ValueError, match=words):
        credo.nn.bayesian(net, prior_sd)


def test_batch_norm_is_refused_while_it_mixes_rows():
    with pytest.raises(ValueError, match=r"layer '1' is BatchNorm1d, .*use LayerNorm or GroupNorm, or keep"):
        credo.nn.bayesian(batch_normed())(torch.zeros(4, 3))
    credo.nn.bayesian(batch_normed().eval())(torch.zeros(4, 3))


def test_a_call_inside_of_a_plate_is_refused():
    f = credo.nn.bayesian(perceptron())

    def inside(x):
        with pyro.plate("N", len(x)):
            return f(x)

    with pytest.raises(ValueError, match=r"'0.weight': got shape \(6, 4, 3\) .*in plate 'N', once for each row; call"):
        inside(torch.zeros(6, 3))
    with pytest.raises(ValueError, match=r"'0.weight': got shape \(5, 4, 3\).*prior sd has a larger shape"):
        credo.nn.bayesian(perceptron(), prior_sd=torch.ones(5, 1, 1))(torch.zeros(6, 3))
    assert f(torch.zeros(6, 3)).shape == (6, 2)


@pytest.mark.parametrize("sd", [0.0, -1.0, float("inf"), "0.1", True, None], ids=str)
def test_a_guide_that_cannot_start_is_refused(sd):
    with pytest.raises(ValueError, match=r"sd: got .*, wanted a positive number"):
        credo.nn.mean_field(perceptron(), sd)
    with pytest.raises(ValueError, match=r"net: got str, wanted a torch.nn.Module"):
        credo.nn.mean_field("net")


CNN = (nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))


@pytest.mark.parametrize(
    ("layers", "shape", "words"),
    [
        ((nn.Linear(64, 2),), (5, 1, 8, 8), r"got shape \(5, 1, 8, 8\), .*x\.flatten\(1\), or nn\.Flatten\(\)"),
        ((nn.Linear(60, 2),), (5, 64), r"its first layer takes rows of 60 numbers, and these have 64"),
        ((nn.Linear(1, 2),), (5,), r"got shape \(5,\), .*pass x\[:, None\]"),
        (CNN, (5, 64), r"got shape \(5, 64\), .*x\.reshape\(-1, 1, 8, 8\), or nn\.Unflatten\(1, \(1, 8, 8\)\)"),
        (CNN, (5, 8, 8), r"x\[:, None\], of shape \(N, 1, height, width\)"),
        (CNN, (5, 8, 8, 1), r"x\.movedim\(-1, 1\)"),
        (CNN, (5, 3, 8, 8), r"images of 1 channels, and these have 3"),
    ],
    ids=["images", "other length", "one number", "flat rows", "no channels", "channels last", "other channels"],
)
def test_rows_of_another_shape_are_refused_with_their_remedy(layers, shape, words):
    for call in (
        lambda net: credo.nn.bayesian(net)(torch.zeros(shape)),
        lambda net: credo.load("bnn_classifier").model(net, torch.zeros(shape)),
    ):
        with pytest.raises(ValueError, match=words):
            call(nn.Sequential(*layers))


def test_the_remedies_work():
    linear, convolution = credo.nn.bayesian(nn.Linear(64, 2)), credo.nn.bayesian(nn.Sequential(*CNN))
    assert linear(torch.zeros(5, 1, 8, 8).flatten(1)).shape == (5, 2)
    assert convolution(torch.zeros(5, 64).reshape(-1, 1, 8, 8)).shape == (5, 2)
    assert convolution(torch.zeros(5, 8, 8)[:, None]).shape == (5, 2)
    assert convolution(torch.zeros(5, 8, 8, 1).movedim(-1, 1)).shape == (5, 2)


@pytest.mark.parametrize("shape", [(5,), (2, 5)], ids=["another number", "other columns"])
def test_a_prior_sd_of_another_shape_is_refused(shape):
    net = nn.Linear(3, 2)
    for prior in ({"weight": torch.ones(shape)}, lambda name, w: torch.ones(shape)):
        with pytest.raises(ValueError, match=r"prior_sd: got shape .* for parameter 'weight' of shape \(2, 3\)"):
            credo.nn.bayesian(net, prior_sd=prior)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (2, 3), (1, 1)], ids=str)
def test_a_prior_sd_that_expands_is_taken(shape):
    net = nn.Linear(3, 2)
    weights = credo.nn.draw_weights(net, {"weight": torch.full(shape, 2.0)})
    assert weights["weight"].shape == (2, 3)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.5)])
@pytest.mark.parametrize("name", [name for name in credo.names() if name.startswith("bnn_")])
def test_every_pair_of_a_network_refuses_rows_that_depend_and_noise_that_is_no_latent(name, layer):
    outputs = 1 if name == "bnn_regression" else 2
    net = nn.Sequential(nn.Linear(3, 4), copy.deepcopy(layer), nn.Linear(4, outputs))
    pair, x, y = credo.load(name), torch.randn(6, 3), torch.arange(6) % 2

    def run():
        with pyro.get_param_store().scope():
            guide = poutine.trace(pair.guide).get_trace(net, x, y)
            poutine.replay(pair.model, trace=guide)(net, x, y)

    with pytest.raises(ValueError, match=rf"layer '1' is {type(layer).__name__}.*\.eval\(\)"):
        run()
    net.eval()
    run()


@pytest.mark.parametrize("layer", [nn.LSTM(3, 3, 2, dropout=0.1), nn.MultiheadAttention(2, 1, dropout=0.1)])
def test_dropout_inside_a_layer_is_found(layer):
    with pytest.raises(ValueError, match=r"in training mode with dropout, whose noise is no latent"):
        credo.nn.draw_weights(layer)
    credo.nn.draw_weights(layer.eval())


class Twice(nn.Module):
    """One module in two places, where Tied has one weight in two modules."""

    def __init__(self):
        super().__init__()
        self.one, self.out = nn.Linear(3, 3), nn.Linear(3, 2)
        self.two = self.one

    def forward(self, x):
        return self.out(torch.tanh(self.two(torch.tanh(self.one(x)))))


def test_a_module_in_two_places_is_run_at_the_draw_and_keeps_its_own_weights():
    net, x = Twice(), torch.randn(5, 3)
    before = {name: w.detach().clone() for name, w in net.named_parameters()}
    trace = poutine.trace(credo.nn.bayesian(net)).get_trace(x)
    by_hand = copy.deepcopy(net)
    with torch.no_grad():
        for name, w in by_hand.named_parameters():
            w.copy_(trace.nodes[name]["value"])
        torch.testing.assert_close(trace.nodes["_RETURN"]["value"], by_hand(x))
    assert [name for name, _ in net.named_parameters()] == list(before)
    assert all(torch.equal(w, before[name]) for name, w in net.named_parameters())
