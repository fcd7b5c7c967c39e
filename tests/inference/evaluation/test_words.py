"""What is said of a row is what its numbers say: only errors that are large and beyond the noise of the reference."""

import math

import pandas as pd
import pytest

from credo.inference.evaluation.words import AGREES, NOISE, farthest, in_words, summary


def row(error=0.0, ratio=1.0, **more):
    return {"error in sds": error, "sd ratio": ratio, "exact sd": 2.0} | {
        k.replace("_", " "): v for k, v in more.items()
    }


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        pytest.param(row(), AGREES, id="equal"),
        pytest.param(row(0.09, 1.09), AGREES, id="small differences"),
        pytest.param(row(1.3), "mean 1.3 sds too high", id="mean above"),
        pytest.param(row(-0.21), "mean 0.21 sds too low", id="mean below"),
        pytest.param(row(0.0, 0.78), "sd 22 % too small", id="sd below"),
        pytest.param(row(0.0, 1.35), "sd 35 % too large", id="sd above"),
        pytest.param(row(0.0, 31.0), "sd 31 times too large", id="sd far above"),
        pytest.param(row(1.3, 0.78), "mean 1.3 sds too high, sd 22 % too small", id="both"),
        pytest.param(row(0.0, 0.0), "sd is 0: a point", id="point estimate"),
        pytest.param(row(math.inf, math.inf, exact_sd=0.0), "mean too high of a point, sd is not 0", id="exact point"),
        pytest.param(row(math.nan), "unknown: a mean or an sd is not finite", id="no mean"),
        pytest.param(row(kl=0.4), "another shape, KL 0.4 nats", id="another shape"),
        pytest.param(row(kl=0.01), AGREES, id="nearly the same shape"),
        pytest.param(row(kl=math.nan), AGREES, id="no density"),
        pytest.param(row(-0.9, 3.0, total_variation=0.2), "shares off by 0.20", id="finite"),
        pytest.param(row(-0.9, 3.0, total_variation=0.01), AGREES, id="finite, a rare value"),
    ],
)  # fmt: skip
def test_each_kind_of_error_has_its_words(numbers, words):
    assert in_words(numbers) == words


@pytest.mark.parametrize("noise, words", [(0.02, "mean 0.15 sds too high"), (0.05, NOISE)])
def test_a_difference_within_the_noise_of_a_reference_is_no_error(noise, words):
    assert in_words(row(0.15, mc_error_in_sds=noise)) == words


@pytest.mark.parametrize("noise, words", [(0.02, "sd 15 % too large"), (0.05, NOISE)])
def test_an_sd_within_the_noise_of_a_reference_is_no_error(noise, words):
    assert in_words(row(0.0, 1.15, mc_error_of_ratio=noise)) == words


@pytest.mark.parametrize("noise, words", [(0.01, "shares off by 0.08"), (0.05, NOISE)])
def test_shares_within_the_noise_of_a_reference_are_no_error(noise, words):
    assert in_words(row(0.2, 1.0, total_variation=0.08, mc_error_in_sds=noise, exact_sd=0.5)) == words


def table(*rows):
    found = pd.DataFrame(list(rows), index=[f"z[{i}]" for i in range(len(rows))])
    return found.assign(verdict=[in_words(numbers) for numbers in rows])


def test_the_line_names_the_farthest_row_and_counts_the_others():
    found = table(row(), row(0.5), row(0.0, 0.1), row(0.2))
    assert summary(found, "the exact posterior") == "3 of 4 scalars are off; the farthest: z[2]: sd 90 % too small"
    assert list(farthest(found).index) == ["z[2]", "z[1]", "z[3]", "z[0]"]
    assert summary(table(row(0.0, 0.78)), "the exact posterior") == "z[0]: sd 22 % too small"


def test_the_line_says_how_close_all_are():
    found = table(row(0.012, 0.97), row(-0.004, 1.01))
    wanted = "2 scalars agree with the exact posterior: means within 0.012 sds, sds within 3 %"
    assert summary(found, "the exact posterior") == wanted
    noisy = table(row(), row(0.15, mc_error_in_sds=0.05))
    assert "the draws of NUTS, 1 of them only by its Monte Carlo error: means within 0.15" in summary(
        noisy, "the draws of NUTS"
    )
