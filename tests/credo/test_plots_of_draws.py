"""Pictures of any fit, of predictions beside data, and of draws: what is drawn is compared with the numbers."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from matplotlib.figure import Figure

import credo
from credo import plots
from credo.plots.smooth import density


def axes():
    return Figure().subplots()


def names_of(ax) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture(scope="module")
def line() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.linspace(-1, 1, 40)[:, None]
    return x, 2 * x[:, 0] + 0.5 * torch.randn(40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def exact(line) -> credo.Fit:
    return credo.fit(credo.load("linear_regression").model, None, *line)


@pytest.fixture(scope="module")
def stepped(line) -> credo.Fit:
    return credo.fit(credo.load("linear_regression").model, "mean_field", *line, steps=30, compile=False)


def poisson(x, y=None):
    a, b = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "ab")
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Poisson((a + b * x).exp()), obs=y)


@pytest.fixture(scope="module")
def counts() -> credo.Fit:
    x = torch.linspace(-1, 2, 50)
    return credo.fit(poisson, "laplace", x, torch.poisson(x.exp(), generator=torch.Generator().manual_seed(0)))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_losses_of_several_fits_and_the_falls_of_the_rate(stepped, exact):
    falling = dataclasses.replace(stepped, falls=(10, 20))
    ax = plots.losses({"one": stepped, "two": falling, "closed": exact}, axes())
    assert legend(ax) == ["one", "two", "the learning rate falls", "closed: exact, no steps"]
    marked = [x for each in ax.lines if each.get_linestyle() == ":" and len(x := list(each.get_xdata())) == 2]
    assert marked == [[10, 10], [20, 20]]
    drawn = [tuple(each.get_ydata()) for each in ax.lines if each.get_alpha() == 0.25]
    assert drawn == [stepped.losses] * 2
    assert len(plots.losses(stepped, axes()).lines) == 2 and plots.losses(stepped, axes()).get_legend() is None


def test_losses_without_steps_say_so(exact):
    ax = plots.losses(exact, axes())
    assert [text.get_text() for text in ax.texts] == ["exact: no steps"] and not ax.lines


def test_a_fit_knows_where_its_rate_fell():
    pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 0.0, 1.0, 1.0])
    fit = credo.fit(pair.model, pair.guide, flips, compile=False)
    assert fit.converged and 0 < len(fit.falls) < 5
    assert list(fit.falls) == sorted(fit.falls) and fit.falls[-1] < len(fit.losses)
    assert f"the last of {len(fit.falls) + 1} stages" in fit.stopped
    assert credo.fit(pair.model, pair.guide, flips, steps=20, compile=False).falls == ()


def test_nothing_and_too_much_side_by_side(stepped):
    for many in ([], {}, [stepped] * 9):
        with pytest.raises(ValueError, match=f"losses: got {len(many)} to draw, wanted 1 to 8"):
            plots.losses(many, axes())


# --- forest -----------------------------------------------------------------------------------------------------------


def test_a_forest_draws_the_quantiles_of_the_summary(exact):
    table, ax = exact.summary(), plots.forest(exact, ax=axes())
    assert names_of(ax) == list(table.index)
    ends = np.stack([segment[:, 0] for segment in ax.collections[0].get_segments()])
    assert ends == pytest.approx(table[["5%", "95%"]].to_numpy())
    assert list(ax.lines[0].get_xdata()) == pytest.approx(list(table["50%"]))
    assert ax.get_legend() is None


def test_a_forest_of_several_has_the_rows_of_all(exact, stepped, line):
    closed = credo.exact(credo.load("linear_regression").model, *line)
    extra = pd.DataFrame({"5%": [0.0], "50%": [1.0], "95%": [2.0]}, index=["c"])
    ax = plots.forest({"fit": stepped, "exact": closed, "table": extra}, ax=axes())
    assert names_of(ax) == [*stepped.summary().index, "c"]
    assert legend(ax) == ["fit", "exact", "table"]
    assert ax.lines[1].get_color() == plots.EXACT
    assert np.isnan(ax.lines[0].get_xdata()[-1]) and ax.lines[2].get_xdata()[-1] == 1.0
    assert (np.diff([each.get_ydata()[0] for each in ax.lines[:3]]) > 0).all()  # below each other


def test_a_forest_is_sorted_chosen_and_cut():
    middle = np.random.default_rng(0).normal(size=60) + 5
    table = pd.DataFrame({"5%": middle - 1, "50%": middle, "95%": middle + 1})
    table.index = [f"a[{i}]" for i in range(59)] + ["b"]
    ax = plots.forest(table, ax=axes(), sort=True)
    assert list(ax.lines[0].get_xdata()) == sorted(middle, reverse=True)[:40]
    assert "40 of 60 scalars" in ax.get_xlabel() and len(ax.lines) == 1  # zero is not in the range
    assert names_of(plots.forest(table, ["b", "a[3]"], axes())) == ["b", "a[3]"]
    assert len(names_of(plots.forest(table, "a", axes(), most=100))) == 59
    with pytest.raises(ValueError, match=r"names: 'c' is no site and no scalar\. The sites are a, b"):
        plots.forest(table, "c", axes())
    with pytest.raises(ValueError, match=r"did you mean 'a\[5\]'"):
        plots.forest(table, "a[5", axes())
    with pytest.raises(ValueError, match="most: got 0"):
        plots.forest(table, ax=axes(), most=0)


def test_a_forest_is_no_comparison_and_no_model(exact):
    with pytest.raises(ValueError, match="intervals draws the table of credo"):
        plots.forest(credo.compare(exact), ax=axes())
    with pytest.raises(ValueError, match="forest: fit: got function"):
        plots.forest(poisson, ax=axes())


def test_rows_have_the_names_of_columns(line):
    pair, (x, y) = credo.load("linear_regression"), line
    fit = credo.fit(pair.model, None, pd.DataFrame({"dose": x[:, 0], "age": x[:, 0] ** 2}), y)
    assert names_of(plots.forest(fit, "theta", axes())) == ["theta[dose]", "theta[age]"]
    assert plots.pairs(fit, ["theta[dose]", "b"], Figure()).axes[-1].get_xlabel() == "b"
    assert plots.pairs(fit, "theta", Figure()).axes[1].get_ylabel() == "theta[age]"
    for ax in (plots.belief(fit, "theta[age]", ax=axes()), plots.belief(fit, "theta", (1,), ax=axes())):
        assert (
            ax.get_xlabel() == "theta[age]" and ax.get_xlim() == plots.belief(fit, "theta", (1,), ax=axes()).get_xlim()
        )
    with pytest.raises(ValueError, match=r"did you mean 'theta\[age\]'"):
        plots.belief(fit, "theta[ages]", ax=axes())


# --- predictions beside data ------------------------------------------------------------------------------------------


def test_a_density_is_that_of_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=3000)
    grid = np.linspace(-2, 15, 500)
    found = density(values, grid)
    iqr = np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.34
    width = 0.9 * min(values.std(), iqr) * len(values) ** -0.2
    wanted = scipy.stats.gaussian_kde(values, width / values.std(ddof=1))(grid)
    assert np.abs(found - wanted).max() < 0.01 * wanted.max()
    assert np.trapezoid(found, grid) == pytest.approx(1, abs=0.001)


def test_ppc_of_real_numbers_is_a_density_for_each_data_set(exact, line):
    ax = plots.ppc(exact, ax=axes(), n=7)
    assert legend(ax) == ["data", "7 predicted"] and ax.get_xlabel() == "y"
    *drawn, data, _ = ax.lines
    assert len(drawn) == 7
    grid = data.get_xdata()
    assert data.get_ydata() == pytest.approx(density(line[1].double().numpy(), grid))
    for one, values in zip(drawn, exact.predict(7)["y"], strict=True):
        assert one.get_ydata() == pytest.approx(density(values.double().numpy(), grid))


def test_ppc_of_counts_has_a_bar_for_each_value(counts):
    ax = plots.ppc(counts, ax=axes(), n=40)
    y, draws = counts.data[1], counts.predict(40)["y"]
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in ax.patches}
    dots = dict(ax.lines[-1].get_xydata().tolist())
    for value in range(int(y.max()) + 1):
        assert heights[value] == pytest.approx((y == value).double().mean().item())
        assert dots[value] == pytest.approx((draws == value).double().mean().item())
    assert plots.ppc(100 * draws, 100 * y, axes()).get_ylabel() == "share of the values below"  # too many for bars


def test_ppc_as_ecdf_and_as_histogram():
    draws, y = torch.randn(20, 300), torch.randn(300)
    data = plots.ppc(draws, y, axes(), kind="ecdf").lines[-2]
    at = data.get_xdata()[1:-1]
    assert np.allclose(at, y.sort().values) and data.get_ydata()[1:-1] == pytest.approx(np.arange(1, 301) / 300)
    ax = plots.ppc(draws, y, axes(), kind="histogram")
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)
    with pytest.raises(ValueError, match="kind: got 'violin'"):
        plots.ppc(draws, y, axes(), kind="violin")


HARD = {
    "constant draws": (torch.zeros(9, 30), torch.randn(30)),
    "constant data": (torch.randn(9, 30), torch.full((30,), 0.5)),
    "both constant": (torch.full((9, 3), 1.5), torch.full((3,), 1.5)),
    "heavy tails": (torch.distributions.Cauchy(0.0, 1.0).sample((9, 300)), torch.randn(300)),
    "far away": (torch.randn(9, 30) + 1e6, torch.randn(30)),
    "huge": (torch.randn(9, 30).double() + 1e12, torch.randn(30).double() + 1e12),
    "tiny": (1e-30 * torch.randn(9, 30), 1e-30 * torch.randn(30)),
    "one number": (torch.randn(9, 1), torch.randn(1)),
    "zeros": (torch.zeros(9, 30), torch.zeros(30)),
    "binary": (torch.ones(9, 30).bernoulli(), torch.ones(30)),
}


@pytest.mark.parametrize("kind", ["density", "ecdf", "histogram", "bars", None])
@pytest.mark.parametrize("name", HARD)
def test_ppc_of_hard_data_can_be_drawn(name, kind):
    draws, y = HARD[name]
    if kind == "bars" and name in ("far away", "huge"):
        kind = "histogram"
    figure = Figure()
    ax = plots.ppc(draws, y, figure.subplots(), kind=kind)
    figure.draw_without_rendering()
    low, high = ax.get_xlim()
    assert low <= y.min() and y.max() <= high and low < high and 0 < ax.get_ylim()[1] < math.inf


def test_the_data_shows_where_heavy_tails_are():
    draws, y = HARD["heavy tails"]
    low, high = plots.ppc(draws, y, axes()).get_xlim()
    assert high - low < 10 * (y.max() - y.min()) < draws.abs().max()


def test_masked_values_of_a_fit_are_left_out():
    def model(x, y, there):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(b * x, 1.0).mask(there), obs=y)

    there = torch.arange(40) >= 5
    x = torch.linspace(-1, 1, 40)
    fit = credo.fit(model, None, x, torch.where(there, x, 1e6), there)
    assert plots.pit(fit, ax=axes()).get_title().startswith("35 values, ")
    assert plots.ppc(fit, ax=axes()).get_xlim()[1] < 10
    ax = plots.predictive(fit, 200, ax=axes())
    assert list(ax.lines[1].get_xdata()) == pytest.approx(x[5:].numpy())


def test_pit_is_flat_if_calibrated_and_a_valley_if_too_narrow():
    torch.manual_seed(0)
    y = torch.randn(4000)
    for width, low, high in ((1.0, 0.8, 1.2), (0.5, 0.4, 4.0)):
        bars = [bar.get_height() for bar in plots.pit(width * torch.randn(99, 4000), y, axes(), bins=10).patches[:10]]
        assert np.mean(bars) == pytest.approx(1)
        assert low < min(bars) and max(bars) < high
        wanted = 10 * scipy.stats.norm.cdf(width * scipy.stats.norm.ppf(0.1))
        assert bars[0] == pytest.approx(wanted, rel=0.12)


def test_coverage_is_the_metric():
    torch.manual_seed(0)
    draws, y = 0.6 * torch.randn(200, 500), torch.randn(500)
    ax = plots.coverage(draws, y, axes())
    curve = dict(ax.lines[1].get_xydata().round(6).tolist())
    found = credo.metrics.coverage(draws, y, [0.1, 0.5, 0.9, 0.95])
    for level, share in found.items():
        assert curve[level] == pytest.approx(share)
    assert ax.get_title() == f"50%: {found[0.5]:.1%}, 90%: {found[0.9]:.1%}, 95%: {found[0.95]:.1%}"


def test_exact_posteriors_and_references_have_data_too(line, exact):
    closed = credo.exact(exact.model, *line)
    assert list(plots.predictive(closed, 200, ax=axes()).lines[1].get_ydata()) == pytest.approx(line[1].tolist())
    reference = credo.reference(exact.model, *line, draws=400, warmup=200, progress=False)
    for of in (closed, reference):
        ax = plots.ppc(of, ax=axes(), n=5)
        data = ax.lines[-2]
        assert data.get_ydata() == pytest.approx(density(line[1].double().numpy(), data.get_xdata()), rel=1e-4)
    assert plots.pit(reference, ax=axes()).get_title().startswith("40 values, ")
    assert plots.predictive(reference, 100, new=torch.zeros(3, 1), ax=axes()).get_xlim()[1] < 1
    assert plots.chains(reference, "b", Figure()).axes[0].get_ylabel() == "b"


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_a_number_of_data_sets_is_at_least_one(n):
    with pytest.raises(ValueError, match=f"n: got {n}, wanted a whole number, at least 1"):
        plots.ppc(torch.randn(9, 5), torch.randn(5), axes(), n=n)
    assert [
        text.get_text() for text in plots.ppc(torch.randn(9, 5), torch.randn(5), axes(), n=1).get_legend().get_texts()
    ] == ["data", "1 predicted"]


def test_what_is_no_fit_is_named(exact):
    with pytest.raises(ValueError, match="losses: fit 2: got float, wanted a Fit"):
        plots.losses([exact, 1.0], axes())
    with pytest.raises(ValueError, match="pairs: fit: got int, wanted a Fit"):
        plots.pairs(3, figure=Figure())
    with pytest.raises(ValueError, match="reference: got Fit, which has no chains"):
        plots.chains(exact, figure=Figure())
    with pytest.raises(ValueError, match="fit: got str, wanted a Fit"):
        plots.predictive("fit", ax=axes())
    for ax in (exact, Figure(), np.array([axes()])):
        with pytest.raises(ValueError, match=f"ax: got {type(ax).__name__}, wanted one matplotlib Axes"):
            plots.losses(exact, ax)
    with pytest.raises(ValueError, match="figure: got Axes, wanted a matplotlib Figure"):
        plots.pairs(exact, figure=axes())
    halves = Figure(figsize=(9, 4)).subfigures(1, 2)
    assert plots.pairs(exact, figure=halves[0]) is halves[0] and len(halves[0].axes) == 3


def test_predictions_need_data_once(exact):
    draws = exact.predict(20)["y"]
    with pytest.raises(ValueError, match="y: got None, wanted the data"):
        plots.ppc(draws, ax=axes())
    with pytest.raises(ValueError, match="y: a fit has its own data"):
        plots.pit(exact, exact.data[1], axes())
    with pytest.raises(ValueError, match="site: got 'z', wanted one of the observed sites 'y'"):
        plots.coverage(exact, ax=axes(), site="z")
    with pytest.raises(ValueError, match="draws: got shape"):
        plots.ppc(draws, exact.data[1][:-1], axes())
    with pytest.raises(ValueError, match="bins: got 0"):
        plots.pit(draws, exact.data[1], axes(), bins=0)


# --- a regression -----------------------------------------------------------------------------------------------------


def test_predictive_of_counts_and_of_new_rows(counts):
    ax = plots.predictive(counts, 500, ax=axes())
    draws = counts.predict(500)["y"].double()
    assert ax.get_xlabel() == "x" and ax.lines[0].get_ydata() == pytest.approx(draws.mean(0).numpy())
    new = torch.linspace(-2, 3, 7)
    ax = plots.predictive(counts, 500, new=new, y=[0, 0, 1, 2, 3, 4, 30], ax=axes())
    assert ax.lines[0].get_xdata() == pytest.approx(new.numpy())
    assert ax.lines[0].get_ydata() == pytest.approx(counts.predict(500, new)["y"].double().mean(0).numpy())
    assert list(ax.lines[1].get_ydata()) == [0, 0, 1, 2, 3, 4, 30] and "inside" in legend(ax)[2]
    assert len(plots.predictive(counts, 50, new=(new,), ax=axes()).lines) == 1  # no data of these rows


@pytest.mark.parametrize("given", [pd.DataFrame, lambda columns: (columns["dose"], columns["y"])])
def test_predictive_names_its_axis_after_the_argument(given):
    def model(dose, y=None):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(dose)):
            pyro.sample("y", dist.Normal(b * dose, 1.0), obs=y)

    dose = torch.linspace(-1, 1, 20)
    data = given({"dose": dose.numpy(), "y": (2 * dose).numpy()})
    fit = credo.fit(model, "laplace", *(data if isinstance(data, tuple) else (data,)))
    assert plots.predictive(fit, 50, ax=axes()).get_xlabel() == "dose"
    assert plots.predictive(fit, 50, x=dose, ax=axes()).get_xlabel() == "x"


def test_predictive_of_a_table(line):
    table = pd.DataFrame({"x": line[0][:, 0].numpy(), "y": [0.0, 2.0] * 20})
    fit = credo.fit(poisson, "laplace", table)
    assert plots.predictive(fit, 50, ax=axes()).get_xlabel() == "x"
    ax = plots.predictive(fit, 50, new=pd.DataFrame({"x": [3.0, 4.0, 5.0]}), ax=axes())
    assert len(ax.lines[0].get_xdata()) == 3


def test_predictive_of_several_covariates_has_an_interval_for_each_row():
    pair, noise = credo.load("linear_regression"), torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=noise)
    fit = credo.fit(pair.model, None, x, x.sum(1))
    ax = plots.predictive(fit, 200, x=x[:, 0], ax=axes())
    assert len(ax.collections[0].get_segments()) == 60
    assert plots.predictive(fit, 200, ax=axes()).get_xlabel() == "predicted mean of y"
    with pytest.raises(ValueError, match=r"x: got shape \(59,\), wanted \(60,\)"):
        plots.predictive(fit, 20, x=x[1:, 0], ax=axes())
    with pytest.raises(ValueError, match=r"y: got shape \(3,\), wanted \(2,\)"):
        plots.predictive(fit, 20, new=x[:2], y=[1, 2, 3], ax=axes())
    with pytest.raises(ValueError, match="y belongs to new="):
        plots.predictive(fit, 20, y=x[:, 0], ax=axes())


# --- draws ------------------------------------------------------------------------------------------------------------


def test_pairs_draw_the_draws(exact):
    figure = plots.pairs(exact, n=100, figure=Figure())
    draws = exact.sample(100)
    top, scatter, _ = figure.axes
    wanted = torch.stack([draws["theta"][:, 0], draws["b"]], 1).double()
    assert scatter.lines[0].get_xydata() == pytest.approx(wanted.numpy())
    assert scatter.get_xlabel() == "theta[0]" and scatter.get_ylabel() == "b" and not figure.legends
    grid = top.lines[0].get_xdata()
    assert top.lines[0].get_ydata() == pytest.approx(density(wanted[:, 0].numpy(), grid))


def test_pairs_of_a_fit_its_corrected_draws_and_an_exact_posterior(line):
    model = credo.load("linear_regression").model
    fit, closed = credo.fit(model, "mean_field", *line), credo.exact(model, *line)
    figure = plots.pairs(fit, n=100, corrected=30, figure=Figure())
    assert [len(each.get_xdata()) for each in figure.axes[1].lines] == [100, 30]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fit", "corrected"]
    figure = plots.pairs([fit, closed], "b", Figure(), n=50)
    (ax,) = figure.axes
    assert [each.get_color() for each in ax.lines] == [plots.FIT, plots.EXACT]
    with pytest.raises(ValueError, match="corrected: got several fits"):
        plots.pairs([fit, fit], corrected=3, figure=Figure())


def test_pairs_choose_few_scalars_that_move():
    draws = {"k": torch.ones(4, 50), "z": torch.randn(4, 50, 9)}
    reference = credo.Reference(draws, (0,) * 4, "all", seed=0, finite={})
    figure = plots.pairs(reference, n=60, figure=Figure())
    assert [ax.get_xlabel() for ax in figure.axes[-5:]] == [f"z[{i}]" for i in range(5)]
    assert len(plots.pairs(reference, "k", Figure()).axes) == 1  # constant, but asked for
    with pytest.raises(ValueError, match="names: got 9 scalars, wanted at most 5; most=9"):
        plots.pairs(reference, "z", Figure())
    with pytest.raises(ValueError, match=r"names: 'w' is no site and no scalar.*k, z"):
        plots.pairs(reference, "w", Figure())
    other = credo.Reference({"k": draws["k"]}, (0,) * 4, "all", seed=0, finite={})
    with pytest.raises(ValueError, match=r"names: other does not have all of z\[0\]"):
        plots.pairs({"one": reference, "other": other}, "z[0]", Figure())


def test_chains_draw_each_chain_and_its_ranks():
    torch.manual_seed(0)
    draws = {"z": torch.randn(4, 500, 2)}
    draws["z"][0, :, 1] += 2
    reference = credo.Reference(draws, (0, 3, 0, 0), "all", seed=0, finite={})
    figure = plots.chains(reference, figure=Figure())
    trace, ranks, *_ = figure.axes
    assert trace.get_ylabel() == "z[1]"  # the worst first
    for each, own in zip(trace.lines, draws["z"][..., 1], strict=True):
        assert list(each.get_ydata()) == own.double().tolist()
    order = draws["z"][..., 1].flatten().argsort().argsort().reshape(4, 500)
    for bars, own in zip(ranks.patches[1:], order, strict=True):
        heights = bars.get_data().values
        assert heights == pytest.approx(np.histogram(own, 20, (0, 2000))[0] * 20 / 500)
    good = figure.axes[3]
    assert ranks.get_ylim()[1] > 2.5 > good.get_ylim()[1]
    assert figure.get_suptitle() == "4 chains of 500 draws, 3 divergences"
    few = plots.chains(reference, most=1, figure=Figure())
    assert few.get_suptitle().endswith("1 of 2 scalars") and len(few.axes) == 2
    named = plots.chains(reference, "z[1]", Figure()).axes
    assert named[0].get_ylabel() == "z[1]" and named[1].get_title() == ranks.get_title()
    rhat = reference.mixing["z"].rhat[1].item()
    assert ranks.get_title().startswith(f"R-hat {rhat:.3f}, ESS ")


def test_chains_without_movement_and_with_finite_latents():
    draws = {"k": torch.ones(2, 50), "f": torch.ones(2, 50).bernoulli(0.5)}
    draws["f"][0, :25] = 0
    figure = plots.chains(credo.Reference(draws, (0, 0), "all", seed=0, finite={"f": 2}), figure=Figure())
    figure.draw_without_rendering()
    assert len(figure.axes) == 4


# --- text -------------------------------------------------------------------------------------------------------------


def test_text_can_be_read_at_the_size_shown(exact, counts, stepped, line):
    """9 points or more in a picture of the default size, and inside of the picture."""
    closed = credo.exact(credo.load("linear_regression").model, *line)
    reference = credo.Reference({"a_long_name_of_a_latent_of_a_model": torch.randn(2, 50)}, (0, 0), "", 0, {})
    probs, labels = torch.rand(400, 1) * torch.tensor([[1.0, -1.0]]) + torch.tensor([[0.0, 1.0]]), torch.arange(400) % 2
    makers = {
        "losses": lambda f: plots.losses([stepped, exact], f.subplots()),
        "forest": lambda f: plots.forest({"a": stepped, "b": closed, "c": reference}, ax=f.subplots()),
        "ppc": lambda f: plots.ppc(counts, ax=f.subplots()),
        "pit": lambda f: plots.pit(counts, ax=f.subplots()),
        "coverage": lambda f: plots.coverage(counts, ax=f.subplots()),
        "predictive": lambda f: plots.predictive(counts, ax=f.subplots()),
        "reliability": lambda f: plots.reliability(probs, labels, f.subplots()),
        "pairs": lambda f: plots.pairs([exact, closed], figure=f),
        "chains": lambda f: plots.chains(reference, figure=f),
    }
    for name, make in makers.items():
        figure = Figure(figsize=(6, 4), layout="constrained")
        make(figure)
        figure.draw_without_rendering()
        page = figure.bbox
        for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize") and hasattr(artist, "get_text")):
            if text.get_visible() and text.get_text():
                assert text.get_fontsize() >= 9, (name, text.get_text())
                assert text.get_window_extent().width < page.width, (name, text.get_text())
