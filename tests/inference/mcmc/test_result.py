"""The summary of draws: compared with draws made by hand, of which mean, sd and reliability are known."""

import math

import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.mcmc.result import EmpiricalMarginal


def reference(z, divergences=(0, 0, 0, 0), values=0):
    return credo.Reference({"z": z}, divergences, "all asked for", seed=0, finite={"z": values})


@pytest.fixture
def independent():
    """Draws of N(3, 2) in four chains of 500, two numbers each."""
    return 3 + 2 * torch.randn(4, 500, 2, generator=torch.Generator().manual_seed(1))


def test_marginals_have_the_moments_of_all_draws_together(independent):
    found = reference(independent)
    flat = independent.reshape(2000, 2).double()
    q = found.marginals["z"]
    torch.testing.assert_close(q.mean, flat.mean(0))
    torch.testing.assert_close(q.variance, ((flat - flat.mean(0)) ** 2).mean(0))
    torch.testing.assert_close(EmpiricalMarginal(flat).stddev, q.variance.sqrt())
    assert math.isnan(found.log_evidence)


def test_finite_sites_have_the_shares_of_their_values():
    z = torch.tensor([0, 1, 1, 2]).expand(4, 4)
    shares = torch.tensor([0.25, 0.5, 0.25]).double()
    torch.testing.assert_close(reference(z, values=3).marginals["z"].probs, shares)
    coin = reference((z > 1).double(), values=2).marginals["z"]
    assert isinstance(coin, dist.Bernoulli) and coin.probs.item() == 0.25


def test_the_summary_has_the_mean_sd_and_quantiles_of_each_scalar(independent):
    table = reference(independent).summary()
    assert list(table.index) == ["z[0]", "z[1]"] and table.index.name == "site"
    for i in range(2):
        row, draws = table.loc[f"z[{i}]"], independent[..., i].flatten().double()
        assert row["mean"] == pytest.approx(draws.mean().item()) and row["sd"] == pytest.approx(2.0, abs=0.15)
        for label, q in (("5%", 0.05), ("50%", 0.5), ("95%", 0.95)):
            assert (draws <= row[label]).double().mean().item() == pytest.approx(q, abs=2e-3)
        assert row["error of mean"] == pytest.approx(row["sd"] / row["ESS"] ** 0.5, rel=0.1)


def test_independent_draws_have_no_problem_and_each_problem_is_named(independent):
    assert reference(independent).problems == ()
    apart = independent + torch.arange(4.0)[:, None, None] * torch.tensor([0.0, 5.0])
    assert "R-hat of z[1] is" in reference(apart).problems[0]
    assert reference(independent[:, :20]).problems[-1].split(":")[0] in ("z[0]", "z[1]")  # few effective draws
    (diverged,) = reference(independent, (0, 11, 0, 0)).problems
    assert diverged == "11 of 2,000 transitions diverged, wanted at most 0.5%"
    assert reference(independent, (0, 10, 0, 0)).problems == ()


def test_a_sample_takes_each_draw_once_before_any_twice():
    z = torch.arange(40.0).reshape(4, 10)
    found = reference(z)
    assert found.sample(40)["z"].sort().values.tolist() == z.flatten().tolist()
    assert found.sample(80)["z"].sort().values.tolist() == z.flatten().repeat_interleave(2).tolist()
    with pytest.raises(ValueError, match="n"):
        found.sample(0)


def test_deterministic_sites_are_returned_but_no_problem_of_the_latents():
    z = 3 + 2 * torch.randn(4, 500, generator=torch.Generator().manual_seed(1))
    constant, stuck = torch.full((4, 500), 7.0), torch.arange(4.0)[:, None].expand(4, 500)
    long = z[..., None] + torch.arange(100.0)
    sites = {"twice": 2 * z, "constant": constant, "stuck": stuck, "long": long}
    found = credo.Reference({"z": z}, (0, 0, 0, 0), "all asked for", seed=0, finite={}, deterministic=sites)
    assert found.problems == () and "UNRELIABLE" not in repr(found)
    assert list(found.summary().index) == ["z", "twice", "constant", "stuck"]  # 100 numbers would swamp the table
    assert found.summary().loc["twice", "mean"] == pytest.approx(2 * z.mean().item(), rel=1e-5)
    draws = found.sample(50)
    assert torch.equal(draws["twice"], 2 * draws["z"]) and draws["long"].shape == (50, 100)
    assert found.marginals["twice"].mean.item() == pytest.approx(2 * z.double().mean().item(), rel=1e-5)
    without = credo.Reference({"z": z}, (0, 0, 0, 0), "all asked for", seed=0, finite={})
    assert list(without.summary().index) == ["z"]
