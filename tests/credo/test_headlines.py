"""Headlines say what is drawn, computed from it, also a weakness; updates draw the beliefs that they are given."""

import dataclasses

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure

import credo
from credo import metrics, plots
from credo.models import coin_toss
from credo.plots.style import lines, plus_minus


def axes():
    return Figure().subplots()


def said(ax) -> str:
    """The headline of an Axes in one line."""
    return " ".join(ax.get_title().split())


def probs(*bins: tuple[float, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions of two classes: for each (confidence, rows, right ones)."""
    p = torch.cat([torch.full((n,), c, dtype=torch.float64) for c, n, _ in bins])
    y = torch.cat([(torch.arange(n) >= right).long() for _, n, right in bins])
    return torch.stack([p, 1 - p], 1), y


def test_a_network_is_overconfident_underconfident_or_neither():
    over = said(plots.reliability(*probs((0.65, 100, 62), (0.9, 100, 70)), axes()))
    assert over.startswith("Overconfident: where it says 90 %, 70 % are right (ECE ")
    under = said(plots.reliability(*probs((0.65, 100, 95), (0.9, 100, 91)), axes()))
    assert under.startswith("Underconfident: where it says 65 %, 95 % are right (ECE ")
    close = said(plots.reliability(*probs((0.99, 1000, 970)), axes()))
    assert close.startswith("Overconfident: where it says 99.0 %, 97.0 % are right")
    # 1,000 rows at 0.9: an sd of sqrt(0.9 * 0.1 / 1000) = 0.95 %
    assert said(plots.reliability(*probs((0.9, 1000, 885)), axes())).startswith(
        "Calibrated within chance: expects 90.0 % to be right, 88.5 % are"
    )
    assert said(plots.reliability(*probs((0.9, 1000, 875)), axes())).startswith("Overconfident")


def test_the_hardest_set_is_named():
    first = torch.arange(10.0)
    for shift, words in (
        (20, "Entropy tells b from a"),
        (5, "Entropy tells b from a only in part"),
        (0.2, "Entropy hardly tells b from a"),
    ):
        ax = plots.strangeness({"a": first, "b": first + shift, "c": first + 30}, axes())
        auroc = metrics.auroc(first, first + shift)
        assert said(ax) == f"{words}: AUROC {auroc:.2f}"
    assert said(plots.strangeness({"a": first}, axes())) == ""


@pytest.mark.parametrize(("inside", "words"), [(90, ""), (70, ": they are too narrow"), (100, ": they are too wide")])
def test_intervals_that_are_too_narrow_or_too_wide(inside, words):
    pair, x = credo.load("linear_regression"), torch.linspace(-1, 1, 100)
    fit = credo.fit(pair.model, None, x[:, None], x)
    # Rows in the middle of their intervals, and the others far outside
    y = torch.where(torch.arange(100) < inside, fit.predict(500)["y"].mean(0), 100.0)
    ax = plots.predictive(fit, 500, new=x[:, None], y=y, ax=axes())
    assert said(ax) == f"The 90 % intervals hold {inside} % of the 100 rows{words}"


def test_the_lesson_names_the_first_certainty_or_the_distance():
    certain = plots.lesson(coin_toss.lesson(torch.tensor([0.0, 1.0, 1.0])), axes())
    a, b = 2.0, 3.0  # Beta(2, 2) after a tail
    sd = (a * b / (a + b) ** 2 / (a + b + 1)) ** 0.5
    assert said(certain) == (
        f"After 1 flip maximum likelihood rules heads out; full Bayes says {a / (a + b):.2f} ± {sd:.2f}"
    )
    table = pd.DataFrame({"mle": [0.5], "map": [0.52], "bayes": [0.55], "sd": [0.1]}, index=[1234])
    assert said(plots.lesson(table, axes())) == "After 1,234 flips the answers differ by at most 0.05"


def test_points_next_to_their_own_label():
    z = torch.tensor([[0.0, 0], [0.1, 0], [5, 0], [5.1, 0], [9, 0], [9.3, 0]])
    labels = torch.tensor([0, 0, 1, 1, 0, 1])  # of six points four have a neighbour of their own
    assert said(plots.plane(z, labels, axes())) == "67 % lie next to one of their own label; by chance 50 %"


def test_a_run_says_how_it_ended():
    pair = credo.load("coin_toss")
    fit = credo.fit(pair.model, pair.guide, torch.ones(3), steps=20, compile=False, progress=False)
    mean = np.mean(fit.losses[-2:])
    assert said(plots.losses(fit, axes())) == f"After the 20 steps asked for: −ELBO {mean:.3f} nats"
    other = dataclasses.replace(fit, stopped="not converged: still gaining")
    assert said(plots.losses(other, axes())) == f"Not converged after 20 steps: −ELBO {mean:.3f} nats"
    assert said(plots.losses([fit, fit], axes())) == ""


def test_intervals_beside_exact_ones():
    columns = ["mean", "sd", "exact mean", "exact sd"]
    table = pd.DataFrame([[1.0, 2.0, 1.5, 2.0], [0.0, 0.5, 0.0, 1.0]], columns=columns, index=["a", "b"])
    assert said(plots.intervals(table, axes())) == "Means within 0.25 sds of the exact ones, sds within 50 %"
    assert said(plots.intervals(table.assign(**{"exact sd": float("nan")}), axes())) == ""


def test_a_forest_counts_the_intervals_without_zero():
    table = pd.DataFrame({"5%": [-1.0, 1, -3], "50%": [0.0, 2, -2], "95%": [1.0, 3, -1]}, index=["a", "b", "c"])
    assert said(plots.forest(table, ax=axes())) == "2 of 3 intervals exclude 0"
    assert said(plots.forest(table + 10, ax=axes())) == "Medians from 8 (c) to 12 (b)"


def test_data_that_vary_more_than_predicted():
    torch.manual_seed(0)
    draws, y = torch.randn(50, 300), torch.randn(300)
    assert said(plots.ppc(draws, y / y.std(), axes())) == "The data vary as much as the predicted data sets"
    assert said(plots.ppc(draws, 3 * y, axes())) == "The data vary more than 100 % of the predicted data sets"
    assert said(plots.ppc(draws, 0.3 * y, axes())) == "The data vary less than 100 % of the predicted data sets"


def test_the_strongest_correlation():
    torch.manual_seed(0)
    a, c = torch.randn(4, 500), torch.randn(4, 500)
    reference = credo.Reference({"a": a, "b": c, "c": -a + 0.1 * c}, (0,) * 4, "all", seed=0, finite={})
    draws = reference.sample(1000)
    found = np.corrcoef(draws["a"], draws["c"])[0, 1]
    title = plots.pairs(reference, figure=Figure()).get_suptitle()
    assert title == f"Strongest correlation: −{-found:.2f}, a and c"
    assert plots.pairs(reference, "a", Figure()).get_suptitle() == ""


def test_numbers_to_the_second_digit_of_their_sd():
    assert [plus_minus(*pair) for pair in ((0.507704, 0.000844), (-58.49, 2.31), (1234.0, 560.0))] == [
        "0.50770 ± 0.00084",
        "−58.5 ± 2.3",
        "1,234 ± 560",
    ]
    assert plus_minus(1.5, 0.0) == plus_minus(1.5, float("nan")) == "1.5"


def test_lines_are_of_similar_length_and_keep_numbers_with_their_units():
    words = "Not converged after 3,700 steps: −ELBO 1,018.7 nats"
    for inches in (2.0, 3.0, 4.0):
        found = lines(words, inches).split("\n")
        assert " ".join(" ".join(found).split()) == words and max(map(len, found)) <= max(20, 12.5 * inches)
        assert found[-1].endswith("1,018.7\u00a0nats")
    first, second = lines("The intervals hold 90 % of the 442 rows", 2.5).split("\n")
    assert abs(len(first) - len(second)) < 12 and "90\u00a0%" in first + second


@pytest.mark.parametrize(
    ("off", "words"), [(0, "(99 % expected of counts)"), (40, "expected of counts): they are too narrow")]
)
def test_intervals_of_counts_hold_more_than_their_probability(off, words):
    """Of Poisson(0.5), 0 to 2 hold P(y <= 2) = 98.6 %."""

    def model(n, y=None):
        with pyro.plate("N", n):
            pyro.sample("y", dist.Poisson(0.5 + 0 * pyro.sample("a", dist.Normal(0.0, 1.0))), obs=y)

    y = torch.tensor([0.0] * 607 + [1.0] * 303 + [2.0] * 76 + [3.0] * 14)
    y[:off] = 9.0
    fit = credo.fit(model, "mean_field", 1000, y, steps=1, progress=False, compile=False)
    assert words in said(plots.predictive(fit, 2000, ax=axes()))


def test_rows_that_a_fit_has_seen_are_no_reason_to_call_intervals_too_wide():
    """The posterior is exact, and 100 coefficients follow 120 rows: of these rows more than 90 % lie inside."""
    random = torch.Generator().manual_seed(0)
    x, pair = torch.randn(120, 100, generator=random), credo.load("linear_regression")
    y = x.sum(1) + torch.randn(120, generator=random)
    fit = credo.fit(pair.model, None, x, y)
    assert said(plots.predictive(fit, 500, ax=axes())).endswith("rows, which the fit has seen")


def test_calibrated_on_average_is_not_calibrated():
    found = said(plots.reliability(*probs((0.65, 200, 160), (0.95, 200, 160)), axes()))
    assert found.startswith("Right on average only: where it says ")
    certain = said(plots.reliability(*probs((1.0, 50, 50)), axes()))
    assert certain.startswith("Calibrated within chance: expects 100.0 % to be right, 100.0 % are")


def test_strange_inputs_with_a_lower_entropy():
    table = pd.Series([1.0, 2.0, 3.0])  # as `credo.metrics.uncertainty` returns it
    ax = plots.strangeness({"a": table, "b": table - 5}, axes())
    assert said(ax) == "Entropy is lower for b than for a: AUROC 0.00"


def test_the_most_probable_value_by_the_fit_and_exactly():
    q, same, other = torch.tensor([0.6, 0.4]), torch.tensor([0.7, 0.3]), torch.tensor([0.1, 0.9])
    assert said(plots.masses(q, ax=axes())) == "The most probable value is 0: 0.60"
    assert said(plots.masses(q, same, ax=axes())) == "The most probable value is 0: 0.60 by the fit, 0.70 exactly"
    assert said(plots.masses(q, other, labels="ab", ax=axes())) == (
        "The most probable value is a by the fit, b by the exact posterior"
    )


def test_data_that_lie_elsewhere_than_predicted():
    draws, y = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)), torch.linspace(-1.7, 1.7, 300)
    for shift, side in ((5, "higher"), (-5, "lower")):
        found = said(plots.ppc(draws, y + shift, axes()))
        assert found == f"The mean of the data is {side} than in 100 % of the predicted data sets"


def test_draws_of_a_reference_are_not_called_exact():
    columns = ["mean", "sd", "exact mean", "exact sd", "mc error in sds"]
    table = pd.DataFrame([[1.0, 2.0, 1.5, 2.0, 0.01]], columns=columns, index=["a"])
    ax = plots.intervals(table, axes())
    assert said(ax) == "Means within 0.25 sds of the reference, sds within 0 %"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["reference", "fit"]


def test_belief_of_a_transformed_prior_whose_mean_is_not_known():
    """a = sigmoid(u), u ~ N(0, 1): p(a) = N(logit a; 0, 1) / (a (1 - a))."""

    def model(y):
        sigmoid = torch.distributions.transforms.SigmoidTransform()
        a = pyro.sample("a", dist.TransformedDistribution(dist.Normal(0.0, 1.0), [sigmoid]))
        pyro.sample("b", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Bernoulli(a), obs=y)

    fit = credo.fit(model, "mean_field", torch.ones(3), steps=1, progress=False, compile=False)
    ax = plots.belief(fit, "a", ax=axes())
    at, height = (torch.as_tensor(v, dtype=torch.float64) for v in ax.lines[0].get_data())
    inside = (at > 0.01) & (at < 0.99)
    wanted = dist.Normal(0.0, 1.0).log_prob(at.logit()).exp() / (at * (1 - at))
    assert ax.lines[0].get_label() == "prior" and torch.allclose(height[inside], wanted[inside], rtol=1e-4)
    with pytest.raises(ValueError, match=r"site 'b' has shape \(3,\) at index \(\); wanted one scalar of it"):
        plots.belief(fit, "b", ax=axes())


# --- updates ----------------------------------------------------------------------------------------------------------


def test_updates_draw_each_belief_at_its_own_height():
    stages = {"0 flips": dist.Beta(2.0, 2.0), "10 flips": dist.Beta(6.0, 8.0), "many": dist.Beta(500.0, 502.0)}
    ax = plots.updates(stages, axes(), name="p")
    curves = [each for each in ax.lines if len(each.get_xdata()) > 2]
    for i, (curve, fn) in enumerate(zip(curves, stages.values(), strict=True)):
        at, height = (torch.as_tensor(v, dtype=torch.float64) for v in curve.get_data())
        wanted = fn.log_prob(at.float()).double().exp()
        assert torch.allclose((height + i) / (height + i).max(), wanted / wanted.max(), atol=1e-3)
    assert ax.get_xlim()[0] >= 0 and ax.get_xlim()[1] <= 1 and ax.get_xlabel() == "p"
    labels = [label.get_text().split("\n") for label in ax.get_yticklabels()]
    sds = [fn.variance.sqrt().item() for fn in stages.values()]
    assert labels == [
        [name, plus_minus(fn.mean.item(), sd)] for (name, fn), sd in zip(stages.items(), sds, strict=True)
    ]
    assert said(ax) == f"The sd of p falls from {sds[0]:.2g} to {sds[2]:.2g}"


def test_updates_take_draws_and_say_that_an_sd_grows():
    draws = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    ax = plots.updates({"normal": dist.Normal(0.0, 0.5), "draws": draws}, axes())
    assert said(ax) == f"The sd of the scalar grows from 0.5 to {draws.double().std(correction=0):.2g}"


@pytest.mark.parametrize("wrong", [
    dist.Poisson(3.0), dist.Cauchy(0.0, 1.0), dist.Normal(torch.zeros(2), 1.0), torch.zeros(5), torch.rand(3, 3), "p",
])  # fmt: skip
def test_updates_name_what_is_no_belief_in_a_real_number(wrong):
    with pytest.raises(ValueError, match=r"beliefs: b: got .*, wanted the distribution of one real number"):
        plots.updates({"a": dist.Normal(0.0, 1.0), "b": wrong}, axes())
    with pytest.raises(ValueError, match="beliefs: got 1, wanted at least two"):
        plots.updates({"a": dist.Normal(0.0, 1.0)}, axes())


def test_updates_say_that_an_sd_stays():
    assert said(plots.updates({"a": dist.Normal(0.0, 1.0), "b": dist.Normal(2.0, 1.0)}, axes(), name="a")) == (
        "The sd of a stays at 1"
    )
