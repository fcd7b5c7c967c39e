"""A verdict prints as one line: the answer, why, and what to try next."""

import math

from credo.inference.posterior.verdict import Verdict


def test_a_verdict_is_one_line_with_the_reason_and_the_remedy():
    found = Verdict("corrected", 0.31, ("a: its sd is 93% too small", "not converged"), "fit.corrected(n)")
    line = "trust: corrected (a: its sd is 93% too small; not converged; k-hat 0.31); next: fit.corrected(n)"
    assert repr(found) == str(found) == line


def test_what_is_missing_is_left_out():
    assert repr(Verdict("yes", math.nan, ("in closed form",), "")) == "trust: yes (in closed form)"
    assert repr(Verdict("no", 0.9, ("k-hat 0.90, wanted at most 0.70",), "")) == (
        "trust: no (k-hat 0.90, wanted at most 0.70)"
    )


def test_a_notebook_shows_the_line_as_a_paragraph():
    found = Verdict("no", math.nan, ("sd < 0.1",), "")
    assert found._repr_html_() == "<p>trust: no (sd &lt; 0.1)</p>"
