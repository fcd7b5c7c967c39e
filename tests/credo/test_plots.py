"""The pictures draw what the fit and the exact posterior say: checked on the curves, not on pixels."""

import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

import credo
from credo import metrics
from credo.models import coin_toss

FLIPS = torch.tensor([1.0, 1.0, 0.0, 1.0])


def axes():
    return Figure().subplots()


@pytest.fixture(scope="module")
def coin() -> credo.Fit:
    pair = credo.load("coin_toss")
    return credo.fit(pair.model, pair.guide, FLIPS, steps=0)  # q is the prior


@pytest.fixture(scope="module")
def regression() -> credo.Fit:
    pair = credo.load("linear_regression")
    x = torch.linspace(-1, 1, 40)
    return credo.fit(pair.model, pair.guide, x[:, None], 2 * x, steps=60)


def said(ax) -> str:
    """The headline of an Axes in one line."""
    return " ".join(ax.get_title().split())


def area(line) -> float:
    x, y = (torch.as_tensor(v, dtype=torch.float64) for v in line.get_data())
    return torch.trapezoid(y, x).item()


def test_belief_draws_the_densities_and_the_points(coin):
    exact = coin_toss.posterior(FLIPS)
    ax = credo.plots.belief(coin, "p", exact=exact, points={"MLE": 0.75}, ax=axes())
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {"prior", "fit", "exact", "MLE 0.75"}
    for name in ("prior", "fit", "exact"):
        assert area(lines[name]) == pytest.approx(1, abs=0.01)
    x, y = (torch.as_tensor(v) for v in lines["exact"].get_data())
    inside = (x > 0) & (x < 1)
    density = dist.Beta(torch.tensor(5.0).double(), 3.0).log_prob(x[inside].double()).exp()
    assert torch.allclose(y[inside].double(), density, rtol=1e-6)
    assert ax.get_xlabel() == "p"


def test_belief_smooths_draws_where_no_density_is_known(regression):
    ax = credo.plots.belief(regression, "b", ax=axes())
    assert area(next(line for line in ax.lines if line.get_label() == "fit")) == pytest.approx(1, abs=0.02)
    assert credo.plots.belief(regression, "theta", (0,), ax=axes()).get_xlabel() == "theta[0]"
    with pytest.raises(ValueError, match="'c' is not a latent"):
        credo.plots.belief(regression, "c", ax=axes())


def test_the_loss_is_drawn_whole(regression):
    ax = credo.plots.losses(regression, axes())
    assert tuple(ax.lines[0].get_ydata()) == regression.losses


def test_intervals_are_two_sds_wide(regression):
    table = credo.compare(regression)
    ax = credo.plots.intervals(table, axes())
    assert [t.get_text() for t in ax.get_yticklabels()] == list(table.index)
    fitted = ax.containers[1]
    low, high = fitted[2][0].get_segments()[0][:, 0]
    assert (high - low) / 4 == pytest.approx(table["sd"].iloc[0])


def test_the_band_is_the_predictive(regression):
    ax = credo.plots.predictive(regression, ax=axes())
    assert ax.get_xlabel() == "x" and "inside" in ax.get_legend().get_texts()[2].get_text()
    assert list(ax.lines[1].get_ydata()) == regression.data[1].tolist()


def test_a_model_of_labels_has_no_band(coin):
    with pytest.raises(ValueError, match="predictive"):
        credo.plots.predictive(coin, ax=axes())


def test_two_observed_sites_have_no_band():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        for name, values in (("a", x), ("b", x + 1.0)):
            with pyro.plate(f"N{name}", len(x)):
                pyro.sample(name, dist.Normal(z, 1.0), obs=values)

    with pytest.raises(ValueError, match="'a', 'b'"):
        credo.plots.predictive(credo.fit(model, None, FLIPS, steps=1), ax=axes())


def test_the_lesson_draws_the_three_answers():
    table = coin_toss.lesson(FLIPS)
    ax = credo.plots.lesson(table, axes())
    assert [line.get_label() for line in ax.lines] == ["MLE", "MAP", "full Bayes"]
    assert list(ax.lines[2].get_ydata()) == list(table["bayes"])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "3", "4"]


CONFIDENT = torch.tensor([[0.9, 0.1], [0.95, 0.05], [0.3, 0.7], [0.55, 0.45]])
LABELS = torch.tensor([0, 1, 1, 1])


def test_reliability_draws_the_table_with_its_counts_and_errors():
    ax = credo.plots.reliability(CONFIDENT, LABELS, axes(), least=1)
    diagonal, line = ax.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    # By hand: 0.55 is wrong, 0.7 is right, and of 0.9 (in the bin up to 0.9) and 0.95 the first.
    wanted = np.array([[0.55, 0], [0.7, 1], [0.9, 1], [0.95, 0]])
    assert line.get_xydata() == pytest.approx(wanted)
    assert [t.get_text() for t in ax.texts] == ["1", "1", "1", "1"]
    places = [t.get_position()[0] for t in ax.texts]
    assert np.diff(places).min() > 0.06 and places == pytest.approx(wanted[:, 0], abs=0.03)  # they do not overlap
    ece = metrics.classification(CONFIDENT, LABELS)["ece"]
    assert said(ax) == f"Calibrated within chance: expects 77.5 % to be right, 50.0 % are (ECE {ece:.3f})"
    (low, high), *_ = (segment[:, 1] for segment in ax.collections[0].get_segments())
    z2 = 1.96**2  # Wilson 1927 for 0 of 1: from 0 to z^2 / (1 + z^2)
    assert (low, high) == pytest.approx((0, z2 / (1 + z2)))


def test_reliability_merges_thin_bins_and_sizes_points_by_count():
    """Rows in the bins: 3, 3, 40, 30, 4. The thin ones on the left join those on their right, the last its left."""
    counts, confidence = [3, 3, 40, 30, 4], [0.55, 0.65, 0.75, 0.85, 0.95]
    p = torch.tensor(confidence).repeat_interleave(torch.tensor(counts))
    probs, y = torch.stack([p, 1 - p], 1), (torch.arange(80) % 2)
    ax = credo.plots.reliability(probs, y, axes())
    line, points = ax.lines[1], ax.collections[1]
    wanted = [(3 * 0.55 + 3 * 0.65 + 40 * 0.75) / 46, (30 * 0.85 + 4 * 0.95) / 34]
    assert list(line.get_xdata()) == pytest.approx(wanted)
    assert list(line.get_ydata()) == pytest.approx([0.5, 0.5])
    assert [t.get_text() for t in ax.texts] == ["46", "34"]
    large, small = points.get_sizes()
    smallest = credo.plots.classes.DOT
    assert (large - smallest) / (small - smallest) == pytest.approx(46 / 34)
    apart = credo.plots.reliability(probs, y, axes(), least=3).lines[1]
    assert list(apart.get_xdata()) == pytest.approx(confidence)
    with pytest.raises(ValueError, match="least: got 0"):
        credo.plots.reliability(probs, y, axes(), least=0)


def test_reliability_averages_over_draws_and_refuses_what_is_no_probability():
    draws = torch.stack([CONFIDENT, CONFIDENT.flip(1)])  # of which the mean is one half everywhere
    ax = credo.plots.reliability(draws, LABELS, axes(), least=1)
    assert ax.lines[1].get_xdata() == pytest.approx([0.5]) and ax.texts[0].get_text() == "4"
    with pytest.raises(ValueError, match="probs"):
        credo.plots.reliability(CONFIDENT * 2, LABELS, axes())


def test_strangeness_takes_columns_of_the_table_of_uncertainties():
    near, far = torch.full((5, 4, 2), 0.5), torch.eye(2)[[0, 1, 0, 1]].expand(5, 4, 2)
    scores = {name: credo.metrics.uncertainty(p)["total"] for name, p in {"sure": far, "in doubt": near}.items()}
    ax = credo.plots.strangeness(scores, axes())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sure", "in doubt (AUROC 1.00)"]


def test_strangeness_gives_the_auroc_against_the_first():
    near, far, same = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.9, 1.0]), torch.tensor([0.1, 0.2, 0.3])
    ax = credo.plots.strangeness({"test": near, "noise": far, "again": same}, axes())
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["test", "noise (AUROC 1.00)", "again (AUROC 0.50)"]
    heights = [bar.get_height() for bar in ax.containers[0]]
    assert sum(heights) == pytest.approx(1) and max(heights) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="entropies: got none"):
        credo.plots.strangeness({}, axes())


def test_strangeness_of_one_set_and_of_equal_scores():
    ax = credo.plots.strangeness({"test": torch.zeros(4)}, axes())
    assert sum(bar.get_height() for bar in ax.containers[0]) == pytest.approx(1)


def test_images_stand_row_by_row():
    x = torch.linspace(0, 1, 3 * 16).reshape(3, 16)
    ax = credo.plots.images(x, titles=["a", "b", "c"], columns=2, ax=axes(), rows=["one", "two"])
    assert [t.get_text() for t in ax.texts] == ["a", "b", "c", "one", "two"]
    for image, wanted in zip(ax.images, x, strict=True):
        assert torch.equal(torch.as_tensor(image.get_array().data), wanted.reshape(4, 4))
        assert image.get_clim() == (0, 1)
    lefts, tops = zip(*((image.get_extent()[0], image.get_extent()[3]) for image in ax.images), strict=True)
    assert lefts[0] == lefts[2] < lefts[1] and tops[0] == tops[1] > tops[2]


@pytest.mark.parametrize(
    "x", [torch.rand(2, 6), torch.rand(2, 2, 3), torch.rand(2, 1, 2, 3)], ids=lambda x: str(x.dim())
)
def test_images_of_any_height_and_width(x):
    ax = credo.plots.images(x, shape=(2, 3) if x.dim() == 2 else None, ax=axes())
    for image, wanted in zip(ax.images, x, strict=True):
        left, right, bottom, top = image.get_extent()
        assert (top - bottom) / (right - left) == pytest.approx(2 / 3)
        assert torch.equal(torch.as_tensor(image.get_array().data), wanted.reshape(2, 3))


def test_images_in_colour_and_of_any_range():
    x = torch.rand(2, 3, 4, 5)
    shown = credo.plots.images(x, ax=axes()).images[1].get_array()
    assert np.allclose(shown, x[1].permute(1, 2, 0))
    wide = torch.tensor([[-2.0, 0.0, 1.0, 6.0]])
    assert credo.plots.images(wide, ax=axes()).images[0].get_clim() == (-2, 6)


@pytest.mark.parametrize(("settings", "words"), [
    ({"x": torch.rand(2, 7)}, r"x: got shape \(2, 7\).*not a square number.*shape="),
    ({"x": torch.rand(4)}, r"x: got shape \(4,\), wanted images"),
    ({"x": torch.rand(0, 4)}, "at least one"),
    ({"x": torch.rand(1, 2, 4, 4)}, "1 or 3 channels"),
    ({"x": torch.rand(2, 4), "titles": ["a"]}, "titles: got 1 for 2"),
    ({"x": torch.rand(2, 4), "rows": ["a", "b"]}, "rows: got 2 for 1"),
    ({"x": torch.rand(2, 4), "columns": 0}, "columns: got 0"),
])  # fmt: skip
def test_images_names_what_is_wrong(settings, words):
    with pytest.raises(ValueError, match=words):
        credo.plots.images(**settings, ax=axes())


def test_masses_stand_beside_each_other():
    q, exact, prior = torch.tensor([0.2, 0.8]), torch.tensor([0.3, 0.7]), torch.tensor([0.5, 0.5])
    ax = credo.plots.masses(q, exact, prior, ["no", "yes"], axes())
    drawn = {bars.get_label(): [bar.get_height() for bar in bars] for bars in ax.containers}
    assert drawn == {"prior": [0.5, 0.5], "fit": pytest.approx([0.2, 0.8]), "exact": pytest.approx([0.3, 0.7])}
    assert [t.get_text() for t in ax.get_xticklabels()] == ["no", "yes"]
    alone = credo.plots.masses(q, ax=axes())
    assert [t.get_text() for t in alone.get_xticklabels()] == ["0", "1"]
    places = [bar.get_x() + bar.get_width() / 2 for bar in alone.containers[0]]
    assert places == pytest.approx([0, 1])
    with pytest.raises(ValueError, match=r"exact: got shape \(3,\), wanted \(2,\)"):
        credo.plots.masses(q, torch.rand(3), ax=axes())
    with pytest.raises(ValueError, match="labels: got 1, wanted 2"):
        credo.plots.masses(q, labels=["a"], ax=axes())


def test_plane_draws_the_points_of_each_label():
    z, labels = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]]), torch.tensor([7, 2, 7])
    ax = credo.plots.plane(z, labels, axes())
    assert {line.get_label(): line.get_xydata().tolist() for line in ax.lines} == {
        "2": [[1, 2]],
        "7": [[0, 0], [3, 4]],
    }
    assert [t.get_text() for t in ax.texts] == ["2", "7"] and ax.texts[0].get_position() == (1, 2)
    (alone,) = credo.plots.plane(z, ax=axes()).lines
    assert alone.get_xydata().tolist() == z.tolist()


def test_plane_draws_images_in_the_place_of_points():
    z, x = torch.tensor([[0.0, 0.0], [10.0, 5.0]]), torch.rand(2, 9)
    ax = credo.plots.plane(z, images=x, ax=axes())
    for image, (a, b), wanted in zip(ax.images, z.tolist(), x, strict=True):
        left, right, bottom, top = image.get_extent()
        assert ((left + right) / 2, (bottom + top) / 2) == pytest.approx((a, b))
        assert torch.equal(torch.as_tensor(image.get_array().data), wanted.reshape(3, 3))
    assert ax.get_xlim()[0] < 0 and ax.get_xlim()[1] > 10


@pytest.mark.parametrize(("z", "labels", "words"), [
    (torch.rand(3, 4), None, r"z: got shape \(3, 4\), wanted \(N, 2\)"),
    (torch.rand(0, 2), None, "z: got shape"),
    (torch.rand(3, 2), torch.zeros(2), "labels: got 2, wanted 3"),
    (torch.rand(11, 2), torch.arange(11), "11 different labels"),
])  # fmt: skip
def test_plane_names_what_is_wrong(z, labels, words):
    with pytest.raises(ValueError, match=words):
        credo.plots.plane(z, labels, axes())


def ranks(**columns):
    return credo.Calibration(pd.DataFrame(columns), 9, "by hand")


def test_ranks_are_drawn_as_shares_less_fractions():
    torch.manual_seed(0)
    fine, low = torch.randint(0, 10, (200,)).numpy(), torch.randint(0, 5, (200,)).numpy()
    ax = credo.plots.ranks(ranks(fine=fine, low=low), axes())
    zero, one, other = ax.lines
    assert list(zero.get_ydata()) == [0, 0]
    lines = {line.get_color().startswith("#"): line for line in (one, other)}  # a colour for what leaves the band
    at = np.arange(1, 10) / 10
    for line, values in ((lines[True], low), (lines[False], fine)):
        wanted = [0, *((values[:, None] < 10 * at - 1e-9).mean(0) - at), 0]
        assert list(line.get_ydata()) == pytest.approx(wanted, abs=1e-9)
    assert [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()] == ["low"]
    assert ax.get_title().startswith("not calibrated (p = ")
    assert ax.get_ylim()[1] > max(lines[True].get_ydata())  # room for the legend


def test_uniform_ranks_stay_in_the_band_and_need_no_legend():
    torch.manual_seed(0)
    ax = credo.plots.ranks(ranks(**{f"a{i}": torch.randint(0, 10, (100,)).numpy() for i in range(3)}), axes())
    assert ax.get_legend() is None and ax.get_title().startswith("calibrated (p = ")
    (band,) = ax.collections
    inside = band.get_paths()[0]
    points = np.concatenate([line.get_xydata()[1:-1] for line in ax.lines[1:]])
    assert inside.contains_points(points, radius=1e-6).all() or inside.contains_points(points, radius=-1e-6).all()


def test_without_an_axes_one_is_made():
    ax = credo.plots.masses(torch.tensor([1.0]))
    assert pyplot.fignum_exists(ax.figure.number) and math.isclose(ax.figure.get_figwidth(), 6)
    pyplot.close(ax.figure)
