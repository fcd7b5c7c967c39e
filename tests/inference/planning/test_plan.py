"""The table of estimators: what it says, what it refuses, and that an override is carried out."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.planning.table import as_text

X = torch.tensor([0.5, 1.5, -0.3])


def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
    point = pyro.sample("point", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(torch.where(k > 0, loc[0], loc[1]) + point, rate), obs=x)


def guide(x):
    pyro.sample("loc", dist.Normal(pyro.param("m", torch.zeros(2)), 1.0).to_event(1))
    pyro.sample("rate", dist.Gamma(pyro.param("a", torch.tensor(2.0), constraint=constraints.positive), 2.0))
    pyro.sample("point", dist.Delta(pyro.param("p", torch.tensor(0.0))))
    with pyro.plate("N", len(x)):
        pyro.sample("k", dist.Bernoulli(pyro.param("q", torch.full((3,), 0.5), constraint=constraints.unit_interval)))


def test_every_site_has_its_row(unchanged):
    with unchanged():
        table = credo.plan(model, guide, X).frame
    assert list(table.index) == ["loc", "rate", "point", "k"]
    assert list(table["distribution"]) == ["Normal", "Gamma", "Delta", "Bernoulli"]
    assert list(table["estimator"]) == ["pathwise", "pathwise", "pathwise", "enumerate"]
    assert set(table["term"][:2]) <= {"analytic KL", "sticking the landing", "log q"} and list(table["term"][2:]) == [
        "log q",
        "log q",
    ]
    assert (table["variance"][["loc", "rate", "k"]] > 0).all()
    assert list(table["plates"]) == ["-", "-", "-", "N (3)"]
    assert list(table["baseline"]) == ["-"] * 4
    for site, word in (("loc", "rsample"), ("rate", "implicit"), ("point", "point"), ("k", "2 values")):
        assert word in table.loc[site, "reason"]


def test_a_score_site_and_a_finite_one_share_an_objective():
    table = credo.plan(model, guide, X, plan={"loc": "score"}).frame
    assert list(table["estimator"]) == ["score", "pathwise", "pathwise", "enumerate"]
    assert list(table["baseline"]) == ["leave one out", "-", "-", "-"]
    assert "pathwise is legal too" in table.loc["loc", "reason"]


def test_what_was_ruled_out_says_why():
    table = credo.plan(model, guide, X).frame["ruled_out"]
    for site, words in {
        "loc": ["local, flipout: the model reads it in", "times the variance x work"],
        "k": ["pathwise: Bernoulli has no rsample"],
    }.items():
        for word in words:
            assert word in table[site]


def test_it_renders_as_text_and_as_html():
    plan = credo.plan(model, guide, X)
    assert "2 values" in repr(plan) and "<table" in plan._repr_html_() and "implicit" in plan._repr_html_()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"z": "score"}, ["'z'", "no latent site", "'loc'"]),
        ({"loc": "magic"}, ["'loc'", "'magic'", "'sampled', 'enumerate', 'one-flip'"]),
        ({"k": "pathwise"}, ["'k'", "Bernoulli has no rsample", "use 'enumerate' or 'one-flip' or 'score'"]),
        ({"point": "score"}, ["'point'", "no density", "use 'pathwise'"]),
    ],
)
def test_an_illegal_override_is_refused_with_the_reason(override, words, unchanged):
    with unchanged(), pytest.raises(ValueError) as caught:
        credo.plan(model, guide, X, plan=override)
    for word in words:
        assert word in str(caught.value)


def test_an_override_is_carried_out_and_can_be_repeated():
    fit = credo.fit(model, guide, X, plan={"loc": "score"}, steps=3)
    assert fit.plan.estimator("loc") == "score" and "asked for" in fit.plan.frame.loc["loc", "reason"]
    again = credo.fit(model, guide, X, plan=fit.plan, steps=3)
    assert again.plan == fit.plan and again.losses == fit.losses
    assert credo.fit(model, guide, X, steps=3).losses != fit.losses


def test_a_plan_trains_nothing():
    svi = credo.SVI(model, guide)
    svi.prepare(X)
    assert svi.losses == [] and torch.equal(svi.params["m"], torch.zeros(2))


def step(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal((z > 0).float(), 1.0), obs=x)


def step_guide(x):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.1)), 1.0))


def test_what_is_not_legal_is_carried_out_only_by_force_and_with_a_warning():
    with pytest.raises(ValueError, match="'pathwise' is not legal: the log density jumps"):
        credo.plan(step, step_guide, X, plan={"z": "pathwise"})
    with pytest.warns(UserWarning, match="'z': 'pathwise' was forced, its gradient is biased"):
        forced = credo.plan(step, step_guide, X, plan={"z": "pathwise"}, force=True)
    assert forced.estimator("z") == "pathwise" and "forced, though" in forced.frame.loc["z", "reason"]
    with pytest.raises(ValueError, match="'k': 'pathwise' is not legal: Bernoulli has no rsample"):
        credo.plan(model, guide, X, plan={"k": "pathwise"}, force=True)  # nobody can


def test_the_fast_plan_measures_nothing_and_another_word_is_refused():
    fast = credo.plan(model, guide, X, plan="fast")
    assert fast.variance is None and fast.frame["variance"].isna().all()
    assert list(fast.frame["term"]) == ["analytic KL", "analytic KL", "log q", "log q"]
    with pytest.raises(ValueError, match="plan: got 'quick', wanted 'fast'"):
        credo.fit(model, guide, X, plan="quick")


def no_way(x):
    z = pyro.sample("z", dist.Uniform(0.0, 2.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal((z > 1).float(), 1.0), obs=x)


def no_way_guide(x):
    pyro.sample("z", dist.Uniform(0.0, pyro.param("top", torch.tensor(1.5), constraint=constraints.positive)))


def test_where_nothing_is_unbiased_the_error_names_the_site_the_reasons_and_the_remedy():
    with pytest.raises(ValueError) as caught:
        credo.fit(no_way, no_way_guide, X)
    for words in ("'z'", "pathwise: the log density jumps", "score: its support moves", "with a fixed support"):
        assert words in str(caught.value)


def test_a_terminal_of_any_width_gets_lines_that_fit():
    plan = credo.plan(model, guide, X)
    for width in (60, 80, 200):
        lines = as_text(plan.entries, plan._below(), width).splitlines()
        assert max(map(len, lines)) <= max(width, len(lines[0]))
        assert [line.split()[0] for line in lines if line[0] != " "][:5] == ["site", "loc", "rate", "point", "k"]


def labels_model(x, y=None):
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.3), obs=y)
        pyro.sample("x", dist.Normal(3.0 * k, 1.0), obs=x)


def labels_guide(x, y=None):
    logits = pyro.param("logits", torch.zeros(len(x)))
    pyro.param("unused", torch.zeros(()))
    with pyro.plate("N", len(x)):
        if y is None:
            pyro.sample("k", dist.Bernoulli(logits=logits))


@pytest.mark.filterwarnings("ignore:parameter")
def test_a_site_that_the_plan_does_not_know_is_refused():
    """A plan made on labelled rows has no estimator for labels: drawn later, they would bias the gradient silently."""
    x, y = torch.tensor([0.1, 2.9]), torch.tensor([0.0, 1.0])
    runner = credo.SVI(labels_model, labels_guide, progress=False)
    runner.prepare(x)
    with pytest.raises(ValueError, match="'k': the guide does not draw it now"):
        runner.step(x, y)

    def guide(x, y=None):
        pyro.sample("w", dist.Normal(pyro.param("w_loc", torch.tensor(0.0)), 1.0))
        labels_guide(x, y)

    def model(x, y=None):
        pyro.sample("w", dist.Normal(0.0, 1.0))
        labels_model(x, y)

    runner = credo.SVI(model, guide, progress=False)
    runner.step(x, y)
    with pytest.raises(ValueError, match="'k': the guide draws it now"):
        runner.step(x)
