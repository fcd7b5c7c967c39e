"""Predictions from the draws of a reference, compared with those of the posterior in closed form."""

import math

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.posterior.source import Source, as_approximation
from credo.inference.runtime.state import new_state

G = torch.Generator().manual_seed(0)
TABLE = pd.DataFrame({"county": ["AITKIN", "CARVER", "ANOKA"] * 8, "y": torch.randn(24, generator=G).tolist()})
COUNTIES = ["AITKIN", "ANOKA", "CARVER"]


def radon(county, y=None):
    with pyro.plate("G", 3):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.deterministic("difference", a[1] - a[0])
    with pyro.plate("N", len(county)):
        pyro.sample("y", dist.Normal(a[county], 0.5), obs=y)


@pytest.fixture(scope="module")
def drawn():
    with pytest.warns(UserWarning, match="county"):
        return credo.reference(radon, TABLE, draws=400, warmup=100, progress=False)


def test_predictions_of_labelled_rows_are_those_of_the_closed_form(drawn, unchanged):
    y = torch.tensor(TABLE["y"].tolist())
    new = pd.DataFrame({"county": ["CARVER", "AITKIN"]})
    with unchanged():
        found = drawn.predict(4000, new)
    assert found["y"].shape == (4000, 2) and found["y"].dtype == torch.float64
    for i, county in enumerate(new["county"]):
        mean = (y[(TABLE["county"] == county).tolist()].sum() / 0.25) / (1 + 8 / 0.25)
        sd = math.sqrt(0.25 + 1 / (1 + 8 / 0.25))
        assert found["y"][:, i].mean().item() == pytest.approx(mean.item(), abs=5 * sd / math.sqrt(1000))
        assert found["y"][:, i].std().item() == pytest.approx(sd, rel=0.06)
    assert torch.equal(found["y"], drawn.predict(4000, new)["y"])
    assert not torch.equal(found["y"], drawn.predict(4000, new, seed=1)["y"])
    assert drawn.predict(5)["y"].shape == (5, 24)
    torch.testing.assert_close(
        drawn.predict(400, new, batch=1, reduce="mean")["y"], found["y"].mean(0), atol=0.2, rtol=0
    )
    by_name = drawn.predict(5, county=new["county"])
    assert torch.equal(by_name["y"], drawn.predict(5, new)["y"])


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ((pd.DataFrame({"county": ["DAKOTA"]}),), "county.*DAKOTA"),
        ((torch.tensor([5]),), "county: got the index 5, but the fit knows 0 to 2"),
        ((TABLE["county"], TABLE["y"], TABLE["y"]), "got 3 arguments of data, and the model takes 2: county, y"),
    ],
    ids=["an unseen label", "an unseen index", "an argument too many"],
)
def test_errors_name_the_argument(drawn, new, message):
    with pytest.raises(ValueError, match=message):
        drawn.predict(5, *new)


def test_each_draw_has_its_diagnostics(drawn):
    assert {name: tuple(v.shape) for name, v in drawn.stats.items()} == dict.fromkeys(
        ("acceptance_rate", "diverging", "n_steps", "energy"), (4, 400)
    )
    assert drawn.stats["diverging"].sum(1).tolist() == list(drawn.divergences)
    # H = -log p(data, u) + |r|^2 / 2, both with 3 degrees of freedom: its mean is 3/2 + 3/2 above the lowest
    y = torch.tensor(TABLE["y"].tolist())
    exact = credo.exact(radon, torch.tensor(pd.Categorical(TABLE["county"]).codes.tolist()), y)
    mode = exact.marginals["a"].mean
    log_joint = exact.log_evidence + exact.marginals["a"].log_prob(mode).sum().item()
    assert drawn.stats["energy"].mean().item() == pytest.approx(3 - log_joint, abs=0.3)
    assert drawn.stats["acceptance_rate"].mean().item() == pytest.approx(0.8, abs=0.15)


def test_the_functions_of_a_fit_take_a_reference(drawn):
    new = pd.DataFrame({"county": ["CARVER", "AITKIN"]})
    assert torch.equal(credo.predict(drawn, 5, new)["y"], drawn.predict(5, new)["y"])
    assert credo.predict(drawn, 5, prior=True)["a"].shape == (5, 3)
    y = torch.tensor(TABLE["y"].tolist())
    found = credo.log_likelihood(drawn, 1600)
    a = drawn.draws["a"].flatten(0, 1)[:, torch.tensor(pd.Categorical(TABLE["county"]).codes.tolist())]
    by_hand = dist.Normal(a, 0.5).log_prob(y).logsumexp(0) - math.log(1600)
    assert ((found.values - by_hand).abs() < 5 * found.errors + 0.01).all()
    exact = credo.exact(radon, torch.tensor([0, 1, 2]), y[:3])
    assert torch.equal(credo.predict(exact, 5, batch=2)["y"], exact.predict(5, batch=2)["y"])
    with pytest.raises(TypeError, match="unexpected keyword argument 'rows'"):
        credo.predict(exact, 5, rows=3)


def test_draws_without_a_model_say_so():
    with pytest.raises(ValueError, match="come without their model"):
        credo.Reference({"z": torch.zeros(4, 5)}, (0,) * 4, "", seed=0, finite={}).predict(3)


def test_finite_latents_that_were_summed_out_are_drawn_at_new_rows_from_their_prior():
    def mixture(x):
        loc = pyro.sample("loc", dist.Normal(torch.tensor([-3.0, 3.0]), 0.1).to_event(1))
        with pyro.plate("N", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.25))
            pyro.sample("x", dist.Normal(loc[k.long()], 0.1), obs=x)

    x = torch.tensor([3.0, 3.0, -3.0, 3.0])
    found = credo.reference(mixture, x, draws=500, warmup=100, progress=False)
    assert found.source.summed.sites == {"k"}
    own = found.predict(1000)
    assert (own["x"].sign() == x.sign()).all()  # z ~ p(z | data)
    new = found.predict(4000, torch.zeros(7))["x"]  # y* never depends on a value that is passed for y
    assert new.shape == (4000, 7) and (new > 0).float().mean().item() == pytest.approx(0.25, abs=0.015)


def test_draws_as_an_approximation_have_all_that_one_needs():
    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    y = torch.tensor(1.0)
    source = Source(model, (y,), (None,), {}, new_state((model,), 0, torch.device("cpu")), None)
    found = as_approximation(source, {"z": torch.tensor([1.0, 2.0, 4.0])})
    assert set(found.sample(200)["z"].tolist()) == {1.0, 2.0, 4.0}
    assert found.params == {} and found.reweighted is found and found.dtype == torch.float32
