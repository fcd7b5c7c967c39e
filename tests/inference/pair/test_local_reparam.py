"""Noise for each row: the mean of the gradient is that of the exact ELBO, its variance is lower, and where it is legal.

Oracles: closed forms of linear models with Gaussian noise; Gauss-Hermite quadrature; plain pathwise draws.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy.stats import kstest, norm
from torch.distributions import Normal, constraints, kl_divergence
from torch.nn import functional

from credo.inference.estimators.local import local_sites
from credo.inference.pair.costs import DATA, GUIDE, Terms, run
from credo.inference.pair.local_reparam import mean_and_sd_of
from credo.inference.pair.pair import Pair
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.sites import drawn_sites, latent
from credo.inference.runtime.vectorise import repeat
from tests.cases.gradients import kl_of

HOW = ["local", "flipout"]
AT_ONCE = pytest.mark.parametrize("vectorised", [True, False], ids=["at once", "one by one"])
X = torch.tensor([[0.5, -1.0, 0.0], [1.5, 0.3, -0.7], [0.0, 0.0, 0.0], [-0.4, 0.8, 1.1]])
SD = 0.7  # of the observations


@pytest.fixture(autouse=True)
def as_in_a_run():
    with pyro.validation_enabled(False):
        yield


def belief(name, *shape):
    """q = N(loc, scale^2) elementwise, its parameters all different."""
    count = torch.arange(math.prod(shape)).reshape(shape)
    loc = pyro.param(f"{name}.loc", (count + 1.0).sin())
    scale = pyro.param(f"{name}.scale", 0.3 + 0.2 * (1.7 * count).cos(), constraint=constraints.positive)
    return pyro.sample(name, dist.Normal(loc, scale).to_event(len(shape)))


def prior(name, *shape):
    return pyro.sample(name, dist.Normal(torch.zeros(shape), 1.5).to_event(len(shape)))


def guide_of(**shapes):
    def guide(*_):
        for name, shape in shapes.items():
            belief(name, *shape)

    return guide


def rows(mean, y):
    """One log density for each row."""
    with pyro.plate("N", len(mean)):
        pyro.sample("y", dist.Normal(mean, SD).to_event(mean.dim() - 1), obs=y)


def places(mean, y):
    """One log density for each number."""
    with pyro.plate_stack("at", mean.shape):
        pyro.sample("y", dist.Normal(mean, SD), obs=y)


def objective(pair, kl, local, particles=1, vectorised=False):
    def one():
        costs = run(pair, terms=Terms(kl=kl, local=local or {})).costs
        return sum((1.0 if side == GUIDE else -1.0) * cost.double().sum() for (side, _), cost in costs.items())

    return repeat(one, particles, vectorised).mean()


def gradients(pair, how, particles, vectorised, n):
    """n draws of -ELBO and its gradient, shape (n, 1 + P). how: for every site, or None."""
    names = list(latent(poutine.trace(pair.guide).get_trace(*pair.data)))
    local = dict.fromkeys(names, how) if isinstance(how, str) else how
    leaves, found, kl = list(unconstrained().values()), [], kl_of(pair)
    for _ in range(n):
        loss = objective(pair, kl, local, particles, vectorised)
        found.append(torch.cat([loss.detach()[None], *(g.flatten() for g in torch.autograd.grad(loss, leaves))]))
    return torch.stack(found).double()


def assert_mean(found, exact, sd=0.0):
    """z-scores that no noise of this size has in ten thousand tests. sd: of `exact`, where it is a mean itself."""
    scatter = (found.var(0) / len(found) + sd**2).sqrt()
    noisy = scatter > 1e-5 * (1 + exact.abs())
    assert ((found.mean(0) - exact).abs() <= 1e-4 * (1 + exact.abs()))[~noisy].all()
    z = ((found.mean(0) - exact) / scatter)[noisy]
    assert len(z) and z.abs().max() <= norm.isf(1e-4 / 2 / len(z)), z


def exact_of(layer, x, y):
    """-ELBO and its gradient where y ~ N(layer(x, w, b), SD^2): E (y - out)^2 = (y - E out)^2 + Var out.

    Var out, by hand: each number of the output is a sum of independent weights, its derivatives times these.
    """
    store = pyro.get_param_store()
    leaves = unconstrained()
    free = {name: p.detach().double().requires_grad_() for name, p in leaves.items()}
    p = {name: u.exp() if name.endswith("scale") else u for name, u in free.items()}
    names = list(dict.fromkeys(name.split(".")[0] for name in store))
    means = [p[f"{name}.loc"] for name in names]
    slopes = torch.autograd.functional.jacobian(lambda *w: layer(x.double(), *w), tuple(m.detach() for m in means))
    slopes = [j.reshape(*y.shape, *m.shape) for j, m in zip(slopes, means, strict=True)]
    var = sum((j**2 * p[f"{n}.scale"] ** 2).flatten(y.dim()).sum(-1) for j, n in zip(slopes, names, strict=True))
    errors = (y.double() - layer(x.double(), *means)) ** 2 + var
    fit = (-0.5 * errors / SD**2 - math.log(SD) - 0.5 * math.log(2 * math.pi)).sum()
    kl = sum(
        kl_divergence(Normal(m, p[f"{n}.scale"]), Normal(torch.zeros((), dtype=torch.float64), 1.5)).sum()
        for n, m in zip(names, means, strict=True)
    )
    loss = kl - fit
    return torch.cat([loss.detach()[None], *(g.flatten() for g in torch.autograd.grad(loss, list(free.values())))])


def conv(dims, **options):
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[dims - 1]
    return lambda x, w, b: function(x, w, b, **options)


LAYERS = {  # a layer, the shape of its input, of its weight, of its bias
    "linear": (functional.linear, (4, 3), (2, 3), (2,)),
    "linear, a row alone": (functional.linear, (3,), (2, 3), (2,)),
    "linear, two leading dimensions": (functional.linear, (2, 3, 3), (2, 3), (2,)),
    "linear, by keywords": (lambda x, w, b: functional.linear(x, bias=b, weight=w), (4, 3), (2, 3), (2,)),
    "conv1d": (conv(1, stride=2, padding=1), (3, 2, 5), (2, 2, 3), (2,)),
    "conv1d, the same length": (conv(1, padding="same"), (2, 1, 4), (2, 1, 3), (2,)),
    "conv2d": (conv(2, stride=2, padding=1), (3, 2, 4, 4), (2, 2, 2, 2), (2,)),
    "conv2d, dilated, in groups": (conv(2, dilation=2, groups=2), (2, 4, 4, 4), (2, 2, 2, 2), (2,)),
    "conv2d, a row alone": (conv(2), (1, 4, 4), (2, 1, 3, 3), (2,)),
    "conv3d": (conv(3), (2, 1, 3, 3, 3), (2, 1, 2, 2, 2), (2,)),
}


@AT_ONCE
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("case", LAYERS)
def test_the_mean_gradient_is_the_closed_form_of_a_linear_model(case, how, vectorised):
    layer, shape, weight, bias = LAYERS[case]
    x = torch.randn(shape)
    x.reshape(-1)[: shape[-1]] = 0.0  # no input, no noise: sqrt has no slope there
    y = layer(x, torch.randn(weight), torch.randn(bias))

    def model(x, y):
        places(layer(x, prior("w", *weight), prior("b", *bias)), y)

    pair = Pair(model, guide_of(w=weight, b=bias), (x, y))
    poutine.trace(pair.guide).get_trace(x, y)
    kl = kl_of(pair)
    assert local_sites(pair, ["w", "b"], kl, how) == {"w": None, "b": None}
    found = gradients(pair, how, 40 if vectorised else 2, vectorised, 40)
    assert_mean(found, exact_of(layer, x, y))


def curved(x, y):
    """Two layers and a tanh; the log density of a row is no function of its numbers one by one."""
    hidden = torch.tanh(functional.linear(x, prior("w", 3, 3), prior("b", 3)))
    logits = functional.linear(hidden, prior("v", 3, 3))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Categorical(logits=3 * logits), obs=y)


@AT_ONCE
@pytest.mark.parametrize("how", [*HOW, {"w": "flipout", "v": "local"}], ids=str)
def test_the_mean_gradient_of_a_network_is_that_of_plain_draws(how, vectorised):
    pair = Pair(curved, guide_of(w=(3, 3), b=(3,), v=(3, 3)), (X, torch.tensor([0, 1, 2, 1])))
    poutine.trace(pair.guide).get_trace(*pair.data)
    plain = gradients(pair, None, 1000, True, 40)
    found = gradients(pair, how, 200 if vectorised else 2, vectorised, 60)
    assert_mean(found, plain.mean(0), plain.std(0) / 40**0.5)


def test_flipout_is_right_where_the_places_of_a_row_meet():
    """A convolution, a ReLU, a mean over its places. Noise of its own for each place has another mean there."""
    x, y = torch.randn(6, 1, 4, 4), torch.randn(6, 2)

    def model(x, y):
        rows(functional.conv2d(x, prior("w", 2, 1, 2, 2)).relu().mean((-2, -1)), y)

    pair = Pair(model, guide_of(w=(2, 1, 2, 2)), (x, y))
    poutine.trace(pair.guide).get_trace(*pair.data)
    kl = kl_of(pair)
    assert local_sites(pair, ["w"], kl, "flipout") == {"w": None}
    assert "several places of its layer's output" in local_sites(pair, ["w"], kl, "local")["w"]
    plain = gradients(pair, None, 500, True, 40)
    assert_mean(gradients(pair, "flipout", 500, True, 40), plain.mean(0), plain.std(0) / 40**0.5)
    with pytest.raises(AssertionError):
        assert_mean(gradients(pair, "local", 500, True, 40), plain.mean(0), plain.std(0) / 40**0.5)


@AT_ONCE
@pytest.mark.parametrize("how", HOW)
def test_the_output_of_a_row_has_the_distribution_that_the_weights_give_it(how, vectorised):
    """out_j ~ N(mu_j . x + m_j, sigma_j^2 . x^2 + s_j^2), independent over j; rows no longer move together."""
    seen = []

    def model(x):
        seen.append(functional.linear(x, prior("w", 2, 3), prior("b", 2)))

    def output():
        run(Pair(model, guide_of(w=(2, 3), b=(2,)), (X[[1, 3]],)), terms=Terms(local={"w": how, "b": how}))
        return seen[-1]

    n = 4000 if vectorised else 1000
    with torch.no_grad():
        output()  # makes the parameters
        out = repeat(output, n, vectorised)
    p = {name: pyro.param(name).detach() for name in ("w.loc", "w.scale", "b.loc", "b.scale")}
    mean = X[[1, 3]] @ p["w.loc"].T + p["b.loc"]
    sd = (X[[1, 3]] ** 2 @ (p["w.scale"] ** 2).T + p["b.scale"] ** 2).sqrt()
    z = ((out - mean) / sd).double().reshape(n, 4)
    for number in z.T:
        assert kstest(number.numpy(), "norm").pvalue > 1e-3
    assert (torch.corrcoef(z.T) - torch.eye(4)).abs().max() < 5 / n**0.5
    plain = torch.tensor([1.0, *(X[1] * X[3])]) @ torch.tensor([p["b.scale"][0] ** 2, *p["w.scale"][0] ** 2])
    assert (plain / sd[0, 0] / sd[1, 0]).abs() > 5 / n**0.5  # drawn for all rows at once they do


def test_flipout_turns_the_inputs_and_the_outputs_of_a_row():
    """Two rows (1, 1) share e ~ N(0, 1), 2 by 2: out_nj = r_nj (s_n1 e_j1 + s_n2 e_j2). With s the squares of a number
    in the two rows have correlation 1/2, else 1. With r the mean of the product of all four numbers is 0, else 2.
    """
    seen, n = [], 8000

    def output():
        run(
            Pair(lambda x: seen.append(functional.linear(x, prior("w", 2, 2))), unit, (torch.ones(2, 2),)),
            terms=Terms(local=how),
        )
        return seen[-1]

    def unit(x):
        pyro.sample("w", dist.Normal(torch.zeros(2, 2), 1.0).to_event(2))

    how = {"w": "flipout"}
    out = repeat(output, n, True)
    squares = torch.corrcoef(out[:, :, 0].square().T)[0, 1]
    assert squares.item() == pytest.approx(0.5, abs=0.15)
    products = out.flatten(1).prod(1)
    assert products.mean().abs() < 5 * products.std() / n**0.5 < 1


@pytest.mark.parametrize("how", HOW)
def test_a_hundred_rows_need_a_third_of_the_variance_at_most(how):
    x = torch.randn(100, 3)
    y = x @ torch.tensor([1.0, -0.5, 0.3])

    def model(x, y):
        rows(functional.linear(x, prior("w", 1, 3)).squeeze(-1), y)

    pair = Pair(model, guide_of(w=(1, 3)), (x, y))
    poutine.trace(pair.guide).get_trace(*pair.data)
    variance = [gradients(pair, each, 1, False, 200)[:, 1:].var(0).sum().item() for each in (None, how)]
    assert variance[0] > 3 * variance[1]


def test_a_row_of_zeros_has_no_noise_and_a_finite_gradient():
    def model(x, y):
        places(functional.linear(x, prior("w", 2, 3)), y)

    pair = Pair(model, guide_of(w=(2, 3)), (torch.zeros(4, 3), torch.ones(4, 2)))
    poutine.trace(pair.guide).get_trace(*pair.data)
    found = gradients(pair, "local", 1, False, 2)
    assert found.isfinite().all() and found[0].tolist() == found[1].tolist()


@pytest.mark.parametrize("shape", [(2, 3), (3,), ()], ids=str)
def test_the_moments_are_those_of_the_draw_whatever_wraps_its_distribution(shape):
    def program():
        fn = dist.Normal(torch.rand(shape), 1 + torch.rand(shape))
        with pyro.plate("out", 2):
            pyro.sample("a", fn.expand([2, 3]).to_event(1))
        if len(shape) == 1:
            with pyro.plate("others", 2):
                pyro.sample("b", fn.to_event(1))
        pyro.sample("c", dist.ExpandedDistribution(fn, torch.Size([2, 3])).to_event(2))

    for name, site in drawn_sites(poutine.trace(program).get_trace()).items():
        if name in ("a", "b", "c"):
            mu, sigma = mean_and_sd_of(site)
            assert mu.shape == sigma.shape == site["value"].shape == (2, 3)
            assert torch.equal(mu, site["fn"].mean) and torch.allclose(sigma, site["fn"].variance.sqrt())


def test_a_site_that_is_held_is_no_draw_and_keeps_its_value():
    w = torch.ones(2, 3)

    def model(x, y):
        places(functional.linear(x, prior("w", 2, 3)), y)

    pair = Pair(model, guide_of(w=(2, 3)), (X, torch.zeros(4, 2)))
    costs = run(pair, {"w": w}, Terms(local={"w": "local"})).costs
    assert torch.allclose(costs[DATA, "y"], Normal(X.sum(1, keepdim=True), SD).log_prob(torch.zeros(4, 2)))


def test_an_estimator_that_does_not_exist_is_named():
    pair = Pair(curved, guide_of(w=(3, 3), b=(3,), v=(3, 3)), (X, torch.tensor([0, 1, 2, 1])))
    with pytest.raises(ValueError, match="local: 'w': got 'pathwise', wanted one of 'local', 'flipout'"):
        run(pair, terms=Terms(local={"w": "pathwise"}))
