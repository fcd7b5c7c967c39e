"""The latents whose draws make the data impossible are named, with the way in which they are wrong; no others are."""

import time

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.preflight.impossible import impossible_at, outside_at_the_end

Y = torch.tensor([7.0, 9.0, 8.0, 6.0, 10.0])


def counted(y):
    """An unknown number of trials."""
    n = pyro.sample("N", dist.Poisson(15.0))
    p = pyro.sample("p", dist.Beta(5.0, 5.0))
    with pyro.plate("v", len(y)):
        pyro.sample("y", dist.Binomial(n, p), obs=y)


def counts_by_row(y):
    with pyro.plate("v", len(y)):
        n = pyro.sample("N", dist.Poisson(15.0))
        pyro.sample("y", dist.Binomial(n, 0.5), obs=y)


def bounded(y):
    top = pyro.sample("top", dist.Gamma(2.0, 0.2))
    with pyro.plate("v", len(y)):
        pyro.sample("y", dist.Uniform(0.0, top), obs=y)


def pareto(y):
    low = pyro.sample("low", dist.Gamma(2.0, 0.5))
    with pyro.plate("v", len(y)):
        pyro.sample("y", dist.Pareto(low, 2.0), obs=y)


def shifted(y):
    """The density of Exponential is finite where y < shift, and larger the further off."""
    shift = pyro.sample("shift", dist.HalfNormal(5.0))
    with pyro.plate("v", len(y)):
        pyro.sample("y", dist.Exponential(1.0), obs=y - shift)


def late_change(y):
    """A change point beyond the data."""
    at = pyro.sample("at", dist.Poisson(3.0)).long()
    rate = torch.linspace(1.0, 10.0, 5)[at]
    with pyro.plate("v", len(y)):
        pyro.sample("y", dist.Poisson(rate), obs=y)


def no_latents(y):
    pyro.sample("p", dist.Beta(1.0, 1.0))
    with pyro.plate("v", len(y)):
        pyro.sample("y", dist.Binomial(8.0, 0.5), obs=y)


CASES = {
    "count": (counted, {"N": 8.0, "p": 0.5}, "y", "'N' (Poisson)", "N = 8 is too small", "Truncate N"),
    "counts": (counts_by_row, {"N": Y - 1}, "y", "'N' (Poisson)", "values of N are too small", "Truncate N"),
    "bound": (bounded, {"top": 5.0}, "y", "'top' (Gamma)", "top = 5 is too small", "begins there"),
    "scale": (pareto, {"low": 8.0}, "y", "'low' (Gamma)", "low = 8 is too large", "ends there"),
    "shift": (shifted, {"shift": 8.0}, "y", "'shift' (HalfNormal)", "shift = 8 is too large", "ends there"),
    "change": (late_change, {"at": 7.0}, None, "'at' (Poisson)", "at = 7 is too large", "Truncate at"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_latent_whose_draw_is_impossible_is_named(case):
    model, draw, name, who, why, remedy = CASES[case]
    text = impossible_at(model, _guide_of(draw), (Y,), _tensors(draw), name)
    assert f"the cause: site {who}" in text and f"({why})" in text and remedy in text
    assert "'p'" not in text  # a latent that has no part in it


def test_no_latent_is_named_where_none_is_the_cause():
    assert impossible_at(no_latents, _guide_of({"p": 0.5}), (Y,), _tensors({"p": 0.5}), "y") == ""


@pytest.mark.parametrize("case", ["scale", "shift", "bound"])
def test_draws_outside_of_a_support_are_found_at_the_end_and_draws_inside_are_not(case):
    model, draw, name, who, *_ = CASES[case]
    text = outside_at_the_end(model, _guide_of(draw), (Y,))
    assert text.startswith(f"site {name!r}: values lie outside of the support of ") and who in text
    right = {"low": 3.0, "shift": 2.0, "top": 12.0}
    assert outside_at_the_end(model, _guide_of({n: right[n] for n in draw}), (Y,)) == ""


def _guide(y):
    rate = pyro.param("rate", torch.tensor(11.0), constraint=constraints.positive)
    pyro.sample("N", dist.Poisson(rate))
    pyro.sample("p", dist.Beta(pyro.param("a", torch.tensor(5.0)), 5.0))


def test_a_guide_that_fails_at_other_draws_hides_no_message():
    """The latent has no declared support either; its prior and values near the bad one tell what is wrong."""

    class Own(dist.Gamma):
        support = property(lambda fn: dist.TorchDistribution.support.fget(fn))

    def model(y):
        top = pyro.sample("top", Own(2.0, 0.2))
        with pyro.plate("v", len(y)):
            pyro.sample("y", dist.Uniform(0.0, top), obs=y)

    def fails(y):
        raise ValueError("this guide has no draws")

    text = impossible_at(model, fails, (Y,), {"top": torch.tensor(5.0)}, "y")
    assert "the cause: site 'top' (Own)" in text and "top = 5 is too small" in text


def test_a_run_that_diverges_names_the_count():
    with pytest.raises(
        credo.Diverged, match=r"site 'y': log_prob is -inf .* site 'N' \(Poisson\).*too small.*Truncate N"
    ):
        credo.fit(counted, _guide, Y, progress=False)


def test_a_guide_that_starts_at_impossible_counts_is_refused_with_the_count():
    def low(y):
        pyro.sample("N", dist.Poisson(pyro.param("rate", torch.tensor(0.5), constraint=constraints.positive)))
        pyro.sample("p", dist.Beta(pyro.param("a", torch.tensor(5.0)), 5.0))

    with pytest.raises(ValueError, match=r"outside the support of Binomial.* site 'N' \(Poisson\).*too small"):
        credo.fit(counted, low, Y, progress=False)


def test_an_index_that_a_latent_draws_beyond_the_data_is_named():
    def far(y):
        pyro.sample("at", dist.Poisson(pyro.param("rate", torch.tensor(30.0), constraint=constraints.positive)))

    with pytest.raises(ValueError, match=r"index .* is out of bounds.* site 'at' \(Poisson\).*too large"):
        credo.fit(late_change, far, Y, progress=False)


def test_a_shift_beyond_the_data_is_not_converged():
    def far(y):
        m, s = pyro.param("m", torch.tensor(1.6)), pyro.param("s", torch.tensor(0.05), constraint=constraints.positive)
        pyro.sample("shift", dist.LogNormal(m, s))

    with pytest.warns(UserWarning, match="'y': values lie outside of the support of Exponential at .*'shift'"):
        fit = credo.fit(shifted, far, Y, steps=400, progress=False)
    assert not fit.converged


def test_a_slow_machine_looks_at_as_many_draws(monkeypatch):
    """Work is counted in operators: a clock that runs a thousand times as fast changes nothing."""
    model, draw, *_ = CASES["shift"]
    guide = _guide_of(draw)
    said = [outside_at_the_end(model, guide, (Y,))]
    for name in ("perf_counter", "process_time", "monotonic"):
        real = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real: 1000 * real())
    said.append(outside_at_the_end(model, guide, (Y,)))
    assert said[0] == said[1] != ""


def test_draws_of_a_dear_model_are_few():
    def dear(y):
        zero = torch.zeros(())
        for _ in range(15_000):
            zero = zero * 1
        shifted(y + zero)

    seen = []

    def guide(y):
        seen.append(pyro.sample("shift", dist.Uniform(0.0, 1.0)))

    assert outside_at_the_end(dear, guide, (Y,)) == "" and len(seen) == 2
    assert outside_at_the_end(shifted, guide, (Y,)) == "" and len(seen) == 2 + 16


@pytest.mark.slow
def test_a_shift_below_the_data_is_right():
    """log p = sum of shift - y, up to shift = 6: with a bound in the guide, the posterior is that of its family."""

    def near(y):
        q = dist.Beta(
            pyro.param("a", torch.tensor(5.0), constraint=constraints.positive),
            pyro.param("b", torch.tensor(1.0), constraint=constraints.positive),
        )
        scaled = dist.TransformedDistribution(q, dist.transforms.AffineTransform(0.0, y.min().item()))
        pyro.sample("shift", scaled)

    fit = credo.fit(shifted, near, Y, steps=600, progress=False)
    grid = torch.linspace(0.0, 6.0, 20_001, dtype=torch.float64)[1:-1]
    weights = (5 * grid - grid**2 / 50).softmax(0)
    mean = (weights * grid).sum()
    sd = (weights * (grid - mean) ** 2).sum().sqrt()
    draws = fit.sample(4000)["shift"].double()
    assert draws.max() <= 6.0 and draws.mean().item() == pytest.approx(mean.item(), abs=0.2 * sd.item())


def test_a_finite_count_is_summed_out():
    """The truncated model, by enumeration: the posterior mean of p."""

    def truncated(y):
        n = pyro.sample("N", dist.Categorical(logits=dist.Poisson(15.0).log_prob(torch.arange(80.0))))
        p = pyro.sample("p", dist.Beta(5.0, 5.0))
        with pyro.plate("v", len(y)):
            pyro.sample("y", dist.Binomial(n.float(), p, validate_args=False), obs=y)

    fit = credo.fit(truncated, None, Y, progress=False)
    n, p = torch.meshgrid(torch.arange(80.0).double(), torch.linspace(0.001, 0.999, 999).double(), indexing="ij")
    log = dist.Poisson(15.0).log_prob(n) + dist.Beta(5.0, 5.0).log_prob(p)
    log = log + sum(torch.where(n >= v, dist.Binomial(n.clamp(min=v), p).log_prob(v), -torch.inf) for v in Y.double())
    weights = log.flatten().softmax(0)
    mean = (weights * p.flatten()).sum().item()
    sd = (weights * (p.flatten() - mean) ** 2).sum().sqrt().item()
    assert fit.converged and fit.summary().loc["p", "mean"] == pytest.approx(mean, abs=0.1 * sd)


def _tensors(draw):
    return {name: torch.as_tensor(value) for name, value in draw.items()}


def _guide_of(draw):
    def guide(y):
        for name, value in _tensors(draw).items():
            with pyro.plate("v", len(y)) if value.dim() else pyro.poutine.block(hide=[]):
                pyro.sample(name, dist.Delta(value))

    return guide
