"""Fits in ArviZ: its summary, leave-one-out and plots, compared with closed forms."""

import importlib
import subprocess
import sys
import warnings

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.pair.batches import rows_of
from credo.inference.predictive import arviz as module

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("xarray")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    az = pytest.importorskip("arviz")

G = torch.Generator().manual_seed(0)
X = torch.randn(60, 3, generator=G)
Y = X @ torch.tensor([1.0, -0.5, 0.0]) + 0.7 * torch.randn(60, generator=G)
TABLE = pd.DataFrame({"age": X[:, 0].tolist(), "bmi": X[:, 1].tolist(), "bp": X[:, 2].tolist()})


def regression(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.deterministic("twice", 2 * w)
    with pyro.plate("patient", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.7), obs=y)


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    return credo.fit(regression, None, TABLE, Y, progress=False)


@pytest.fixture(scope="module")
def idata(fit):
    return fit.to_arviz(4000)


def quiet(program):
    """ArviZ's own warnings, of one chain and of matplotlib, are none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program()


def test_all_groups_have_the_names_of_the_data(idata):
    assert list(idata.groups()) == list(module.GROUPS)
    assert idata.posterior["w"].dims == ("chain", "draw", "x_column")
    assert list(idata.posterior["x_column"].values) == ["age", "bmi", "bp"]
    for group in ("posterior_predictive", "log_likelihood", "prior_predictive"):
        assert idata[group]["y"].dims == ("chain", "draw", "patient")
    assert idata.observed_data["y"].dims == ("patient",)
    assert idata.constant_data["x"].dims == ("patient", "x_column")
    assert idata.posterior.attrs["inference_library"] == "credo"


def test_the_summary_of_arviz_is_that_of_the_fit(fit, idata):
    theirs, ours = quiet(lambda: az.summary(idata, kind="stats", round_to=None)), fit.summary()
    for name in ("w[age]", "w[bmi]", "w[bp]", "twice[bp]"):
        sd = ours.loc[name, "sd"]
        assert theirs.loc[name, "mean"] == pytest.approx(ours.loc[name, "mean"], abs=5 * sd / 4000**0.5)
        assert theirs.loc[name, "sd"] == pytest.approx(sd, rel=0.06)


def test_leave_one_out_is_that_of_the_closed_form(idata):
    found = quiet(lambda: az.loo(idata, pointwise=True))
    by_hand = []
    for i in range(60):
        rest = torch.arange(60) != i
        x, y = X[rest].double(), Y[rest].double()
        precision = torch.eye(3, dtype=torch.float64) + x.T @ x / 0.49
        mean = torch.linalg.solve(precision, x.T @ y / 0.49)
        at = X[i].double()
        sd = (0.49 + at @ torch.linalg.solve(precision, at)).sqrt()
        by_hand.append(dist.Normal(at @ mean, sd).log_prob(Y[i].double()))
    torch.testing.assert_close(torch.tensor(found.loo_i.values), torch.stack(by_hand), atol=0.03, rtol=0.03)


def test_log_p_less_log_q_of_a_closed_form_is_the_evidence(fit, idata):
    gap = idata.sample_stats["lp"] - idata.sample_stats["log_q"]
    assert float(gap.mean()) == pytest.approx(fit.exact.log_evidence, abs=1e-3) and float(gap.std()) < 1e-3
    # and log q is the density of the posterior
    w = torch.tensor(idata.posterior["w"].values[0]).double()
    log_q = fit.exact.marginals["w"].log_prob(w)
    torch.testing.assert_close(torch.tensor(idata.sample_stats["log_q"].values[0]), log_q, atol=1e-3, rtol=1e-4)


def test_a_closed_form_itself(fit):
    found = fit.exact.to_arviz(500, groups=["posterior", "sample_stats", "log_likelihood"])
    assert list(found.groups()) == ["posterior", "log_likelihood", "sample_stats"]
    assert found.posterior["w"].shape == (1, 500, 3) and found.posterior["w"].dtype == "float64"
    gap = found.sample_stats["lp"] - found.sample_stats["log_q"]
    assert float(gap.std()) < 1e-9
    assert found.posterior["twice"].shape == (1, 500, 3)


def test_chains_of_a_reference_are_kept_apart():
    drawn = credo.reference(regression, TABLE, Y, draws=300, progress=False)
    found = drawn.to_arviz()
    assert dict(found.posterior.sizes) == {"chain": 4, "draw": 300, "x_column": 3}
    assert torch.equal(torch.tensor(found.posterior["w"].values), drawn.draws["w"])
    assert list(found.sample_stats["diverging"].values.sum(1)) == list(drawn.divergences)
    rhat = quiet(lambda: az.rhat(found))["w"].values
    assert rhat == pytest.approx(drawn.mixing["w"].rhat.numpy(), abs=1e-3)
    assert quiet(lambda: az.bfmi(found)).min() > 0.3
    loo = quiet(lambda: az.loo(found))
    assert loo.n_samples == 1200 and loo.n_data_points == 60
    assert found.posterior_predictive["y"].shape == (4, 300, 60)
    few = drawn.to_arviz(99, groups=["posterior", "sample_stats"])
    assert few.posterior["w"].shape == (4, 25, 3)
    assert torch.equal(torch.tensor(few.posterior["w"].values), drawn.draws["w"][:, ::12])
    lp = torch.tensor(found.sample_stats["lp"].values)[:, ::12]
    torch.testing.assert_close(torch.tensor(few.sample_stats["lp"].values), lp)
    with pytest.raises(ValueError, match="n: got 5000 draws, but the chains have 1,200 together"):
        drawn.to_arviz(n=5000)


@pytest.mark.parametrize("plot", ["forest", "ppc", "prior ppc", "posterior"])
def test_the_plots_of_arviz_run(idata, plot):
    matplotlib.use("Agg")
    plots = {
        "forest": lambda: az.plot_forest(idata, var_names=["w"]),
        "ppc": lambda: az.plot_ppc(idata, num_pp_samples=5),
        "prior ppc": lambda: az.plot_ppc(idata, group="prior", num_pp_samples=5),
        "posterior": lambda: az.plot_posterior(idata, var_names=["w"]),
    }
    quiet(plots[plot])
    matplotlib.pyplot.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("name", credo.names())
def test_every_pair(name):
    matplotlib.use("Agg")
    pair = credo.load(name)
    whole = pair.data()
    data = tuple(v[:40] if i in rows_of(whole)[0] else v for i, v in enumerate(whole))
    fit = quiet(lambda: credo.fit(pair.model, pair.guide, *data, steps=3, progress=False, compile=False))
    found = quiet(lambda: fit.to_arviz(100))
    smallest = min(found.posterior, key=lambda site: found.posterior[site].size)
    quiet(lambda: az.summary(found, var_names=[smallest]))
    quiet(lambda: az.plot_forest(found, var_names=[smallest]))
    quiet(lambda: az.plot_ppc(found, num_pp_samples=5))
    (site,) = found.log_likelihood
    assert found.log_likelihood[site].shape == (1, 100, 40)
    quiet(lambda: az.loo(found))
    matplotlib.pyplot.close("all")


def test_sites_and_groups_are_chosen_by_name(fit):
    found = fit.to_arviz(5, sites=["w"], groups="posterior")
    assert list(found.groups()) == ["posterior"] and list(found.posterior) == ["w"]
    with pytest.raises(ValueError, match="sites: got 'v', wanted some of w, twice"):
        fit.to_arviz(5, sites=["v"])
    with pytest.raises(ValueError, match=r"groups: got 'postrior'.*did you mean 'posterior'"):
        fit.to_arviz(5, groups=["postrior"])
    with pytest.raises(ValueError, match="n: got 0"):
        fit.to_arviz(0)


def test_seeds_and_the_fit_stay(fit, unchanged):
    with unchanged():
        one = fit.to_arviz(5, groups=["posterior"])
    assert one.posterior.equals(fit.to_arviz(5, groups=["posterior"]).posterior)
    assert not one.posterior.equals(fit.to_arviz(5, seed=1, groups=["posterior"]).posterior)


def test_a_prior_without_draws_is_said():
    def flat(y):
        z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    fit = credo.fit(flat, None, Y, progress=False)
    with pytest.warns(UserWarning, match="no groups prior and prior_predictive"):
        found = fit.to_arviz(5)
    assert "prior" not in found.groups() and "posterior" in found.groups()
    fit.to_arviz(5, groups=["posterior", "observed_data"])  # which warns of nothing


def test_arguments_that_are_no_numbers_are_named():
    def model(x, y, link="identity"):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.7), obs=y)

    found = credo.fit(model, None, X, Y, "identity", progress=False).to_arviz(5)
    assert list(found.constant_data) == ["x"] and found.constant_data.attrs["left_out"] == "link"


def test_a_site_with_the_name_of_a_plate_keeps_its_own_dimensions():
    def model(N, y):
        with pyro.plate("N", len(y)):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(w * N, 0.7), obs=y)

    found = credo.fit(model, "mean_field", X[:, 0], Y, steps=2, progress=False).to_arviz(5)
    assert found.constant_data["N"].dims == ("N_dim_0",) and found.posterior["w"].dims == ("chain", "draw", "N")


@pytest.mark.parametrize("name", ["draw", "chain"])
def test_names_that_arviz_uses_itself(name):
    def plate(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate(name, len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.7), obs=y)

    def site(x, y=None):
        w = pyro.sample(name, dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.7), obs=y)

    found = credo.fit(plate, None, X, Y, progress=False).to_arviz(50)
    rows = f"{name}_dim"
    for group in ("posterior_predictive", "log_likelihood", "prior_predictive"):
        assert found[group]["y"].dims == ("chain", "draw", rows)
    assert found.observed_data["y"].dims == (rows,) and found.constant_data["x"].dims == (rows, "x_dim_1")
    assert quiet(lambda: az.loo(found)).n_data_points == 60
    found = credo.fit(site, None, X, Y, progress=False).to_arviz(50, sites=[name])
    assert found.posterior[f"{name}_site"].shape == (1, 50, 3)


def test_an_argument_with_the_numbers_of_the_observations_stays():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(w * x, 0.7), obs=y)

    for y in (Y, Y.clone()):
        found = credo.fit(model, None, Y, y, progress=False).to_arviz(5, groups=["constant_data", "observed_data"])
        assert list(found.constant_data) == ["x"] and list(found.observed_data) == ["y"]


def test_without_arviz_the_way_to_install_it_is_said(fit, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module.importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'credo\[arviz\]'"):
        fit.to_arviz(5)


def test_arviz_1_gets_a_tree(fit, monkeypatch):
    monkeypatch.setattr(module, "imported", lambda: importlib.import_module("xarray"))  # without InferenceData
    tree = fit.to_arviz(5)
    assert set(tree.children) == set(module.GROUPS) and tree["posterior"]["w"].dims == ("chain", "draw", "x_column")


@pytest.mark.slow
def test_arviz_is_imported_late_and_its_warning_stays_inside():
    code = (
        "import sys, warnings, torch, credo\n"
        "pair = credo.load('coin_toss')\n"
        "fit = credo.fit(pair.model, None, torch.ones(3))\n"
        "assert 'arviz' not in sys.modules and 'xarray' not in sys.modules\n"
        "warnings.simplefilter('error')\n"
        "fit.to_arviz(5)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
