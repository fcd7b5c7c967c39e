"""The plan of a pair: what its table says, that it trains nothing, and that it knows its sites."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.planning.table import as_text
from tests.cases.planned import X, guide, model


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


def test_it_renders_as_text_and_as_html():
    plan = credo.plan(model, guide, X)
    assert "2 values" in repr(plan) and "<table" in plan._repr_html_() and "implicit" in plan._repr_html_()


def test_a_plan_trains_nothing():
    svi = credo.SVI(model, guide)
    svi.prepare(X)
    assert svi.losses == [] and torch.equal(svi.params["m"], torch.zeros(2))


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


def test_a_word_that_is_no_term_is_refused():
    with pytest.raises(
        ValueError, match="term: got 'KL', wanted one of 'log q', 'analytic KL', 'sticking the landing'"
    ):
        credo.plan(model, guide, X, plan="fast").with_term("KL")
