"""The rows of a plan as text and as HTML, of any width, with nothing lost and nothing that a browser would run."""

import pytest

from credo.inference.planning.table import Entry, as_html, as_text

ROWS = [
    Entry("w", "Normal", "-", "pathwise", "analytic KL", "-", "Normal has rsample", ("score: more noise",), 0.125),
    Entry("<b>k</b>", "Bernoulli", "N (3)", "enumerate", "log q", "-", "2 values & no draw"),
]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_text_fits_and_holds_every_reason(width):
    lines = as_text(ROWS, ["One gradient: variance 2"], width).splitlines()
    assert max(map(len, lines)) <= max(width, len(lines[0]))
    text = " ".join(" ".join(lines).split())
    for words in ("because Normal has rsample", "rather than score: more noise", "0.125", "One gradient: variance 2"):
        assert words in text
    assert "baseline" not in lines[0]  # a column without anything in it is left out


def test_html_is_escaped_and_opens_what_was_ruled_out():
    html = as_html(ROWS, ["a < b"])
    assert "<b>k</b>" not in html and "&lt;b&gt;k" in html and "2 values &amp; no draw" in html and "a &lt; b" in html
    assert html.count("<details>") == 1 and "score: more noise" in html


def test_a_plan_without_latents_says_so():
    assert "no latent sites" in as_text([], []) and "no latent sites" in as_html([], [])


def test_a_plan_without_estimators_says_how_the_posterior_was_found():
    text, html = as_text([], ["Steps: none, a < b"]), as_html([], ["Steps: none, a < b"])
    assert "no latent sites" not in text + html
    assert text.splitlines() == ["Plan: no site needs a gradient estimator", "Steps: none, a < b"]
    assert html == "<p>Plan: no site needs a gradient estimator</p><p>Steps: none, a &lt; b</p>"
