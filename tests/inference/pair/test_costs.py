"""The log densities of model and guide, site by site, compared with those of torch and with gradients by hand."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import Normal, kl_divergence

from credo.inference.pair.costs import DATA, GUIDE, PRIOR, WEIGHT, Terms, run
from credo.inference.pair.pair import Pair

pytestmark = pytest.mark.usefixtures("double")

X = torch.tensor([0.3, 1.0, -0.4], dtype=torch.float64)


def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 2.0))
    with pyro.plate("N", 3), poutine.scale(scale=5.0):
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def guide(x):
    loc = pyro.sample("loc", dist.Normal(pyro.param("m", torch.tensor(0.7)), pyro.param("s", torch.tensor(0.4))))
    with pyro.plate("N", 3), poutine.scale(scale=5.0):
        pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.5)) * x + loc, 0.6))


PAIR = Pair(model, guide, (X,))
NAMES = ("m", "s", "a")


def slopes(cost):
    return torch.autograd.grad(cost.sum(), [pyro.param(name) for name in NAMES], allow_unused=True)


def test_each_site_costs_its_log_density_at_the_draws_of_the_guide():
    z, costs, plates, dims, neighbours = run(PAIR)
    loc, rows = z["loc"], z["z"]
    wanted = {
        (PRIOR, "loc"): Normal(0.0, 2.0).log_prob(loc),
        (PRIOR, "z"): 5 * Normal(loc, 1.0).log_prob(rows),
        (DATA, "x"): 5 * Normal(rows, 0.5).log_prob(X),
        (GUIDE, "loc"): Normal(0.7, 0.4).log_prob(loc),
        (GUIDE, "z"): 5 * Normal(0.5 * X + loc, 0.6).log_prob(rows),
    }
    assert costs.keys() == wanted.keys() and neighbours == {}
    for key, value in wanted.items():
        torch.testing.assert_close(costs[key], value)
        assert plates[key] == (set() if "loc" in key else {"N"})
        assert dims[key] == ({} if "loc" in key else {"N": -1})


def test_a_site_that_is_held_has_its_value_and_is_scored_there():
    held = torch.tensor(1.3)
    z, costs, *_ = run(PAIR, {"loc": held})
    assert torch.equal(z["loc"], held)
    torch.testing.assert_close(costs[PRIOR, "loc"], Normal(0.0, 2.0).log_prob(held))
    torch.testing.assert_close(costs[GUIDE, "loc"], Normal(0.7, 0.4).log_prob(held))
    torch.testing.assert_close(costs[PRIOR, "z"], 5 * Normal(held, 1.0).log_prob(z["z"]))


def test_a_known_divergence_stands_in_place_of_both_log_densities():
    costs = run(PAIR, terms=Terms(kl={"loc": "loc", "z": "z"})).costs
    assert costs.keys() == {(GUIDE, "loc"), (GUIDE, "z"), (DATA, "x")}
    torch.testing.assert_close(costs[GUIDE, "loc"], kl_divergence(Normal(0.7, 0.4), Normal(0.0, 2.0)))
    q, p = Normal(0.5 * X, 0.6), Normal(torch.zeros(3), 1.0)  # loc, which both have, moves the two alike
    torch.testing.assert_close(costs[GUIDE, "z"], 5 * kl_divergence(q, p))


@pytest.mark.parametrize("rerun", [False, True])
def test_a_sticking_site_has_the_gradient_along_its_draw_and_none_in_its_parameters(rerun):
    """d/dm log N(z; m, s) at z = m + s e, differentiated along z alone: -e / s; in s: -e^2 / s."""
    with poutine.seed(rng_seed=3):
        plain = run(PAIR)
    with poutine.seed(rng_seed=3):
        z, costs, *_ = run(PAIR, terms=Terms(sticking=frozenset({"loc"}), rerun=frozenset({"loc"} if rerun else ())))
    torch.testing.assert_close(costs[GUIDE, "loc"], plain.costs[GUIDE, "loc"])
    e = ((z["loc"] - 0.7) / 0.4).detach()
    by_m, by_s, by_a = slopes(costs[GUIDE, "loc"])
    torch.testing.assert_close(by_m, -e / 0.4)
    torch.testing.assert_close(by_s, -(e**2) / 0.4)
    assert by_a is None

    held = run(PAIR, {"loc": torch.tensor(1.3)}, Terms(sticking=frozenset({"loc"}))).costs[GUIDE, "loc"]
    assert not held.requires_grad  # a draw that is held leaves the parameters alone


def test_a_sticking_site_keeps_what_other_draws_do_to_its_distribution():
    """log N(z; a x + loc, 0.6), z = a x + loc + 0.6 e does not depend on m: neither path may be lost. Nor on a along
    the draw of z alone, where the parameter's own path is left out: -5 x e / 0.6 remains."""
    terms = Terms(sticking=frozenset({"z"}), rerun=frozenset({"z"}))
    z, costs, *_ = run(PAIR, terms=terms)
    by_m, _, by_a = slopes(costs[GUIDE, "z"])
    e = ((z["z"] - 0.5 * X - z["loc"]) / 0.6).detach()
    torch.testing.assert_close(by_m, torch.tensor(0.0), atol=1e-12, rtol=0)
    torch.testing.assert_close(by_a, (-5 * X * e / 0.6).sum())


def test_the_weight_of_a_site_has_no_scale_and_only_planned_sites_lack_rsample():
    _, costs, *_ = run(PAIR, terms=Terms(unscaled=frozenset({"z"})))
    torch.testing.assert_close(5 * costs[WEIGHT, "z"], costs[GUIDE, "z"])

    def coin(x):
        pyro.sample("k", dist.Bernoulli(torch.tensor(0.3)))

    pair = Pair(coin, coin, (X,))
    assert run(pair, terms=Terms(planned=frozenset({"k"}))).costs.keys() == {(PRIOR, "k"), (GUIDE, "k")}
    with pytest.raises(ValueError, match="'k': the guide draws it now"):
        run(pair, terms=Terms(planned=frozenset()))
    neighbours = run(pair, terms=Terms(flips=frozenset({"k"})))
    values, probability = neighbours.neighbours["k"]
    other = 1 - neighbours.z["k"]
    assert values.tolist() == [other.item()] and probability.item() == pytest.approx(0.3 if other else 0.7)


def test_a_divergence_that_is_only_measured_is_not_lost_in_rounding():
    """lgamma(2e5) is 2e6, of which single precision keeps no more than an eighth of a nat."""

    def model():
        pyro.sample("p", dist.Beta(torch.tensor(1.0).float(), torch.tensor(1.0).float()))

    def guide():
        pyro.sample("p", dist.Beta(torch.tensor(211_000.0).float(), torch.tensor(204_777.0).float()))

    exact = kl_divergence(
        dist.Beta(torch.tensor(211_000.0).double(), torch.tensor(204_777.0).double()),
        dist.Beta(torch.tensor(1.0).double(), torch.tensor(1.0).double()),
    )
    with torch.no_grad():
        costs = run(Pair(model, guide, ()), terms=Terms(kl={"p": "p"})).costs
    torch.testing.assert_close(costs[GUIDE, "p"].double(), exact, atol=1e-6, rtol=0)
