"""Newton's steps beside minima known in closed form, and runs that had ended where they stood."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.convergence.gain import TOLERANCE, Gain
from credo.inference.convergence.newton import FEW, _line_search, descend
from tests.cases.repeats import seeds

POSITIVE = constraints.positive


def quadratic(curvature, optimum, noise=0.0):
    """(gradient, gain) of -ELBO = (x - optimum)' C (x - optimum) / 2, the gradient with noise of so many sds."""

    def loss(x):
        return 0.5 * (x - optimum) @ curvature @ (x - optimum)

    def gradient(x, which):
        draw = torch.randn(len(x), generator=torch.Generator().manual_seed(which), dtype=x.dtype)
        return curvature @ (x - optimum) + noise * curvature.diagonal().sqrt() * draw

    return gradient, lambda new, old: Gain((loss(old) - loss(new)).item(), 0.0, 0.0)


@pytest.mark.parametrize("parameters", [2, FEW, FEW + 1, 300])
@pytest.mark.parametrize("far", [1.0, 1e3])
def test_a_quadratic_of_many_scales_is_solved_wherever_the_start_lies(parameters, far):
    curvature = torch.logspace(-4, 4, parameters, dtype=torch.float64).diag()
    optimum = far * torch.linspace(-1, 1, parameters, dtype=torch.float64)
    gradient, gain = quadratic(curvature, optimum)
    point, nats, _ = descend(gradient, gain, torch.zeros_like(optimum), TOLERANCE)
    assert gain(optimum, point).nats < 2 * TOLERANCE
    assert nats == pytest.approx(gain(point, torch.zeros_like(optimum)).nats, rel=1e-6)


@pytest.mark.parametrize("parameters", [4, FEW + 2])
def test_a_narrow_valley_is_followed(parameters):
    """All but one of the directions are 10,000 times as steep as the floor of the valley, which is the diagonal."""
    along = torch.ones(parameters, dtype=torch.float64) / parameters**0.5
    curvature = 1e4 * (torch.eye(parameters, dtype=torch.float64) - along.outer(along)) + along.outer(along)
    gradient, gain = quadratic(curvature, 5 * along)
    point, _, _ = descend(gradient, gain, torch.zeros_like(along), TOLERANCE)
    assert gain(5 * along, point).nats < 0.01


@pytest.mark.parametrize("parameters", [2, FEW + 2])
def test_at_the_optimum_there_is_nothing_to_gain(parameters):
    curvature = torch.logspace(-2, 2, parameters, dtype=torch.float64).diag()
    for noise in (0.0, 0.05):
        gradient, gain = quadratic(curvature, torch.zeros(parameters, dtype=torch.float64), noise)
        assert descend(gradient, gain, torch.zeros(parameters, dtype=torch.float64), TOLERANCE) is None


def test_the_parameter_that_moved_most_is_named_by_its_index():
    gradient, gain = quadratic(torch.eye(3, dtype=torch.float64), torch.tensor([0.1, 7.0, 0.0], dtype=torch.float64))
    assert descend(gradient, gain, torch.zeros(3, dtype=torch.float64), TOLERANCE)[2] == 1


@pytest.mark.parametrize(("error", "taken"), [(1e22, False), (0.01, True)])
def test_a_gain_that_is_lost_in_its_error_decides_nothing(error, taken):
    """Gradients promise half a nat; the ELBO agrees within 0.01 nats, or its draws have no mean to speak of."""
    length, _ = _line_search(
        lambda point, which: -torch.ones(1),
        lambda new, old: Gain(-error, error, 0.0),
        torch.zeros(1),
        torch.ones(1),
    )
    assert (length > 0) is taken


@pytest.mark.parametrize(("inside", "taken"), [(1e-5, True), (1e-15, False)])
def test_a_step_out_of_the_range_of_numbers_is_shortened_until_the_elbo_is_a_number(inside, taken):
    """The ELBO rises by a nat for each 1e-6, but is NaN beyond `inside`."""
    length, nats = _line_search(
        lambda point, which: -1e6 * torch.ones(1),
        lambda new, old: Gain(1e6 * (new - old).item() if new.abs().item() < inside else math.nan, 0.0, 0.0),
        torch.zeros(1),
        torch.ones(1),
    )
    assert (0 < length < inside and nats == pytest.approx(1e6 * length)) if taken else not length


@pytest.mark.parametrize("curvature", [-1.0, 1.0])
def test_a_saddle_point_is_left_and_a_minimum_is_not(curvature):
    """-ELBO = x^2/2 + c y^2/2 + y^4/4: for c = -1 the gradient at 0 is zero and the minima lie at y = 1 and -1."""

    def loss(x):
        return x[0] ** 2 / 2 + curvature * x[1] ** 2 / 2 + x[1] ** 4 / 4

    def gradient(x, which):
        return torch.stack([x[0], curvature * x[1] + x[1] ** 3])

    found = descend(
        gradient,
        lambda new, old: Gain((loss(old) - loss(new)).item(), 0.0, 0.0),
        torch.zeros(2, dtype=torch.float64),
        TOLERANCE,
    )
    assert (found is None) is (curvature > 0)
    if found is not None:
        assert found[0][1].abs().item() == pytest.approx(1.0, abs=0.05) and found[1] == pytest.approx(0.25, rel=0.02)


X = torch.randn(100, generator=torch.Generator().manual_seed(0)) + 2
PRECISION = 100 + 1 / 10**2
MEAN, SD = X.double().sum().item() / PRECISION, PRECISION**-0.5  # of mu given X, with sd 1 and the prior N(0, 10)


def model(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def guide(x, m=0.0, s=1.0, positive=POSITIVE):
    m = pyro.param("m", torch.tensor(m))
    pyro.sample("mu", dist.Normal(m, pyro.param("s", torch.tensor(s), constraint=positive)))


@pytest.mark.parametrize(
    ("m", "s", "positive"),
    [
        (1e6, 1.0, POSITIVE),
        (0.0, 1e10, POSITIVE),
        (0.0, 1e-10, POSITIVE),
        (-1e4, 1e4, dist.constraints.softplus_positive),
    ],
)
def test_a_start_that_is_far_or_wide_or_narrow_leads_to_the_posterior(m, s, positive):
    fit = credo.fit(model, functools.partial(guide, m=m, s=s, positive=positive), X, progress=False)
    assert fit.converged and fit.stopped.startswith("converged") and len(fit.losses) < 4000
    assert fit.params["m"].item() == pytest.approx(MEAN, abs=0.05 * SD)
    assert fit.params["s"].item() == pytest.approx(SD, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("scale", [1e-4, 77.0, 1e6])
def test_units_of_the_data_cost_few_steps(scale, seed):
    """A regression in other units: the guide starts at 0 and 1, and the answer in units of the data is the same."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=g)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.7 * torch.randn(50, generator=g)

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 10.0 * scale).to_event(1))
        s = pyro.sample("s", dist.HalfNormal(5.0 * scale))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(x @ w, s), obs=y)

    def guide(x, y):
        sd = pyro.param("sd", torch.ones(3), constraint=POSITIVE)
        pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(3)), sd).to_event(1))
        spread = pyro.param("b", torch.tensor(1.0), constraint=POSITIVE)
        pyro.sample("s", dist.LogNormal(pyro.param("a", torch.tensor(0.0)), spread))

    fit = credo.SVI(model, guide, progress=False, compile=False, seed=seed).run(x, scale * y)
    xtx, rest = x.T @ x, (y - x @ torch.linalg.lstsq(x, y[:, None]).solution[:, 0]).square().sum()
    sd = (xtx.diagonal() * 47 / rest).rsqrt()  # mean field: of each weight, given the others; E[1 / s^2] = 47 / rest
    mean = torch.linalg.solve(xtx + 1e-4 * torch.eye(3), x.T @ y)
    assert fit.converged and len(fit.losses) < 3000
    assert ((fit.params["loc"] / scale - mean) / sd).abs().max() < 0.1
    assert (fit.params["sd"] / scale / sd - 1).abs().max() < 0.05


@pytest.mark.parametrize("seed", seeds(2))
def test_a_gamma_guide_of_a_precision_finds_its_concentration(seed):
    """z | x ~ Gamma(1 + N / 2, 1e-6 + sum x^2 / 2): concentration 5,001, along a valley of Adam's noise."""
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 1e-3

    def model(x):
        z = pyro.sample("z", dist.Gamma(1.0, 1e-6))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(0.0, z**-0.5), obs=x)

    def guide(x):
        concentration, rate = (pyro.param(name, torch.tensor(1.0), constraint=POSITIVE) for name in "cr")
        pyro.sample("z", dist.Gamma(concentration, rate))

    fit = credo.fit(model, guide, x, seed=seed, progress=False)
    assert fit.converged
    mean = 5001 / (1e-6 + (x.double() ** 2).sum().item() / 2)
    assert (fit.params["c"] / fit.params["r"]).item() == pytest.approx(mean, rel=0.1 * 5001**-0.5)
    assert fit.params["c"].item() == pytest.approx(5001, rel=0.08)


@pytest.mark.parametrize("numbers", [60, 200])
def test_every_sd_of_many_scales_is_right(numbers):
    """z_i | o_i is Normal with the precision 1 / sd_i^2 + 1 / 100^2."""
    sd = torch.logspace(-2, 2, numbers)
    observed = 50 * torch.randn(numbers, generator=torch.Generator().manual_seed(0))

    def model(o):
        with pyro.plate("N", numbers):
            z = pyro.sample("z", dist.Normal(0.0, 100.0))
            pyro.sample("o", dist.Normal(z, sd), obs=o)

    def guide(o):
        loc = pyro.param("loc", torch.zeros(numbers))
        scale = pyro.param("scale", torch.ones(numbers), constraint=dist.constraints.softplus_positive)
        with pyro.plate("N", numbers):
            pyro.sample("z", dist.Normal(loc, scale))

    fit = credo.fit(model, guide, observed, progress=False)
    assert fit.converged
    precision = 1 / sd.double() ** 2 + 1e-4
    assert ((fit.params["scale"].double() * precision**0.5 - 1).abs() < 0.03).all()
    assert ((fit.params["loc"] - observed / sd.double() ** 2 / precision).abs() * precision**0.5 < 0.05).all()


def test_a_posterior_narrower_than_single_precision_is_not_called_converged():
    x = torch.full((10_000,), 1e6)

    def model(x):
        z = pyro.sample("mu", dist.Normal(1e6, 1e4))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    with pytest.warns(UserWarning, match="not converged: rounding alone moves the ELBO"):
        fit = credo.fit(model, functools.partial(guide, m=1e6), x, progress=False)
    assert not fit.converged and "float64" in fit.stopped
    torch.set_default_dtype(torch.float64)
    fit = credo.fit(model, functools.partial(guide, m=1e6), x.double(), progress=False)
    assert fit.converged and fit.params["s"].item() == pytest.approx(0.01, rel=0.03)
