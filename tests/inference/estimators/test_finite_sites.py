"""Where summing row by row would be wrong it is not done, and the plan says why; overrides are checked."""

from itertools import product

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal

import credo

Y = torch.tensor([1.3, 0.2, 2.0])
LOGIT = 0.4


def local_guide(y):
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(LOGIT))))


def centred_model(y):
    """The values of a batch are centred, as by batch norm: each row looks at all."""
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(2 * (k - k.mean(-1, keepdim=True)), 1.0), obs=y)


def outside_model(y):
    """The plated values are added up outside the plate."""
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
    pyro.sample("total", dist.Normal(k.sum(-1), 1.0), obs=y.sum())


def outside_latent_model(y):
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(k, 1.0), obs=y)
    pyro.sample("w", dist.Normal(k.sum(-1), 1.0))


def outside_latent_guide(y):
    local_guide(y)
    pyro.sample("w", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))


def neighbours_model(y):
    """The prior of a second site looks at the next row's first."""
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        j = pyro.sample("j", dist.Bernoulli(0.2 + 0.6 * k.roll(1, -1)))
        pyro.sample("y", dist.Normal(j, 1.0), obs=y)


def neighbours_guide(y):
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.tensor(LOGIT))))
        pyro.sample("j", dist.Bernoulli(logits=pyro.param("v", torch.tensor(0.2))))


def masked_model(y):
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3).mask(torch.arange(len(y)) > 0))
        pyro.sample("y", dist.Normal(k, 1.0), obs=y)


def masked_guide(y):
    u = pyro.param("u", torch.tensor(LOGIT))
    with pyro.plate("N", len(y)):
        pyro.sample("k", dist.Bernoulli(logits=u).mask(torch.arange(len(y)) > 0))


def units_model(y):
    k = pyro.sample("k", dist.Bernoulli(torch.full((4,), 0.3)).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(k.sum(), 1.0), obs=y)


def units_guide(y):
    pyro.sample("k", dist.Bernoulli(logits=pyro.param("u", torch.zeros(4))).to_event(1))


def many_model(y, number=9):
    total = sum(pyro.sample(f"k{i}", dist.Bernoulli(0.3)) for i in range(number))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(total, 1.0), obs=y)


def many_guide(y, number=9):
    for i in range(number):
        pyro.sample(f"k{i}", dist.Bernoulli(logits=pyro.param(f"u{i}", torch.tensor(LOGIT))))


def wide_model(y, number=257):
    k = pyro.sample("k", dist.Categorical(torch.ones(number) / number))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.01 * k, 1.0), obs=y)


def wide_guide(y, number=257):
    pyro.sample("k", dist.Categorical(logits=pyro.param("u", torch.zeros(number))))


REFUSED = {  # model, guide, site, words of the reason
    "used outside": (outside_model, local_guide, "k", "the density of 'total' depends on its values in other rows"),
    "latent outside": (outside_latent_model, outside_latent_guide, "k", "the density of 'w' depends on its values"),
    "units": (units_model, units_guide, "k", "one event"),
    "many sites": (many_model, many_guide, "k0", "512 combinations"),
    "many values": (wide_model, wide_guide, "k", "257 combinations"),
}
COUPLED = {  # rows that look at each other inside the plate: the score of a row gets the costs of all
    "batch norm": (centred_model, local_guide, "k", "'y'"),
    "neighbours": (neighbours_model, neighbours_guide, "k", "'j'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_summed_over_falls_back_to_the_score_and_says_why(name):
    model, guide, site, words = REFUSED[name]
    plan = credo.plan(model, guide, Y)
    row = plan.frame.loc[site]
    units = name in ("units", "many sites", "many values")
    assert row["estimator"] == ("one-flip" if units else "score") and words in row["reason"]
    assert row["baseline"] == ("-" if units else "leave one out") and plan.needs_score is not units
    assert (site in plan.values) is False
    with pytest.raises(ValueError, match=f"'{site}': 'enumerate' is not legal") as caught:
        credo.plan(model, guide, Y, plan={site: "enumerate"})
    assert words in str(caught.value)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("name", ["used outside", "latent outside"])
def test_a_use_outside_the_plate_is_seen_in_any_number_of_rows(name, n):
    model, guide, site, words = REFUSED[name]
    found = []
    for seed in range(5):
        row = credo.plan(model, guide, torch.arange(float(n)), seed=seed).frame.loc[site]
        found.append(row["estimator"] == "score" and words in row["reason"])
    assert found == [True] * 5


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("name", COUPLED)
def test_rows_that_look_at_each_other_inside_the_plate_are_seen_with_any_seed(name, n):
    model, guide, site, density = COUPLED[name]
    for seed in range(10):
        plan = credo.plan(model, guide, torch.linspace(-1.0, 2.0, n), seed=seed, plan="fast")
        assert plan.estimator(site) == "score" and plan.facts.coupled[site] == {"N"}
        assert f"the density of {density} depends on its values in other rows" in plan.frame.loc[site, "reason"]


@pytest.mark.parametrize(
    ("model", "guide", "sizes"), [(many_model, many_guide, range(8)), (wide_model, wide_guide, [256])]
)
def test_256_runs_are_not_too_many(model, guide, sizes):
    number = 8 if len(sizes) > 1 else 256
    plan = credo.plan(lambda y: model(y, number), lambda y: guide(y, number), Y)
    assert {e.estimator for e in plan.entries} == {"enumerate"} and len(plan.entries) == len(sizes)


def exact_slope(logit, log_p):
    """d(-ELBO)/d(logit of every row), over all joint values; log_p: of the data, given the values."""
    logit = torch.tensor(logit, requires_grad=True)
    q, loss = torch.stack([torch.sigmoid(-logit), torch.sigmoid(logit)]), 0.0
    for values in product((0, 1), repeat=len(Y)):
        weight = torch.stack([q[v] for v in values]).prod()
        prior = torch.tensor([(0.7, 0.3)[v] for v in values]).log().sum()
        loss = loss + weight * (weight.log() - prior - log_p(torch.tensor(values).float()))
    return torch.autograd.grad(loss, logit)[0].item()


def test_what_falls_back_is_right():
    model, guide, *_ = REFUSED["used outside"]
    runner = credo.SVI(model, guide, particles=50)
    draws = torch.stack([runner.gradients(Y)["u"] for _ in range(100)])
    exact = exact_slope(LOGIT, lambda k: Normal(k.sum(), 1.0).log_prob(Y.sum()))
    assert draws.mean().item() == pytest.approx(exact, abs=5 * draws.std().item() / 10)


def pair_model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    mask = pyro.sample("mask", dist.Bernoulli(0.9))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(z * mask + k, 1.0), obs=y)


def pair_guide(y):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))
    pyro.sample("mask", dist.Bernoulli(0.9))
    local_guide(y)


def test_overrides_are_carried_out():
    free = credo.plan(pair_model, pair_guide, Y)
    assert list(free.frame["estimator"]) == ["pathwise", "sampled", "enumerate"]
    asked = credo.plan(pair_model, pair_guide, Y, plan={"k": "enumerate", "mask": "sampled", "z": "pathwise"})
    assert list(asked.frame["estimator"]) == list(free.frame["estimator"])
    assert not asked.frame["reason"].str.contains("legal too").any()
    score = credo.plan(pair_model, pair_guide, Y, plan={"k": "score"})
    assert list(score.frame["estimator"]) == ["pathwise", "sampled", "score"]
    assert score.frame.loc["k", "reason"].startswith("asked for") and not score.values and score.needs_score
    row = credo.plan(pair_model, pair_guide, Y, plan={"mask": "score"}).frame.loc["mask"]
    assert row["estimator"] == "score" and "asked for" in row["reason"]


ILLEGAL = [
    ({"z": "enumerate"}, ["'z'", "'enumerate' is not legal", "Normal has no finite support"]),
    ({"z": "sampled"}, ["'z'", "'sampled' is not legal", "Normal depends on parameters"]),
    ({"k": "sampled"}, ["'k'", "'sampled' is not legal", "Bernoulli depends on parameters"]),
    ({"k": "pathwise"}, ["'k'", "'pathwise' is not legal", "Bernoulli has no rsample"]),
    ({"mask": "pathwise"}, ["'mask'", "'pathwise' is not legal", "Bernoulli has no rsample"]),
    ({"mask": "enumerate"}, ["'mask'", "'enumerate' is not legal", "parameters"]),
    ({"k": "sum"}, ["'k'", "'sum'", "'enumerate'"]),
    ({"j": "enumerate"}, ["'j'", "no latent site", "'mask'"]),
]


@pytest.mark.parametrize(("override", "words"), ILLEGAL, ids=[str(o) for o, _ in ILLEGAL])
def test_an_illegal_override_names_the_site_and_the_reason(override, words, unchanged):
    with unchanged(), pytest.raises(ValueError) as caught:
        credo.fit(pair_model, pair_guide, Y, plan=override)
    for word in words:
        assert word in str(caught.value)


def test_a_plan_repeated_takes_the_same_steps():
    fit = credo.fit(pair_model, pair_guide, Y, steps=20)
    again = credo.fit(pair_model, pair_guide, Y, steps=20, plan=fit.plan)
    assert again.losses == fit.losses
    score = credo.fit(pair_model, pair_guide, Y, steps=20, plan={"k": "score"})
    assert credo.fit(pair_model, pair_guide, Y, steps=20, plan=score.plan).losses == score.losses
