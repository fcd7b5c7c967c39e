"""The rows of a plan, printed: text for a terminal, a table for a notebook."""

import html
import shutil
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

HEAD = ("site", "distribution", "plates", "estimator", "term", "baseline", "variance")
NARROWEST = 60  # characters
NO_LATENTS, NO_ROWS = "Plan: the guide has no latent sites", "Plan: no site needs a gradient estimator"


class Entry(NamedTuple):
    """What is done with one latent site."""

    site: str
    distribution: str
    plates: str
    estimator: str  # one of ESTIMATORS
    term: str  # how log q enters: "analytic KL", "sticking the landing" (its parameters held), or plain "log q"
    baseline: str
    reason: str
    ruled_out: tuple[str, ...] = ()  # what else there is, and why it is not legal or was slower
    variance: float | None = None  # of the gradient, summed over the parameters of this site, where it was measured


def as_text(entries: Sequence[Entry], below: list[str], width: int | None = None) -> str:
    """A line for each site, why below it, and what else there is and why not. width: of the terminal if None."""
    if not entries:
        return "\n".join([NO_ROWS if below else NO_LATENTS, *below])
    width = max(NARROWEST, width or shutil.get_terminal_size((110, 24)).columns)
    rows = [HEAD, *(_cells(e) for e in entries)]
    used = [i for i in range(len(HEAD)) if any(row[i] not in ("-", "") for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in used}
    lines = ["  ".join(HEAD[i].ljust(widths[i]) for i in used).rstrip()]
    for row, e in zip(rows[1:], entries, strict=True):
        lines.append("  ".join(row[i].ljust(widths[i]) for i in used).rstrip())
        lines += _wrapped(f"because {e.reason}", width)
        for other in e.ruled_out:
            lines += _wrapped(f"rather than {other}", width)
    return "\n".join([*lines, *(row for line in below for row in textwrap.wrap(line, width))])


def as_html(entries: Sequence[Entry], below: list[str]) -> str:
    """A table; what was ruled out opens with a click."""
    if not entries:
        return "".join(f"<p>{html.escape(line)}</p>" for line in [NO_ROWS if below else NO_LATENTS, *below])
    left = "text-align: left; vertical-align: top"
    head = "".join(f'<th style="{left}">{word}</th>' for word in (*HEAD, "because"))
    body = ""
    for e in entries:
        cells = "".join(f'<td style="{left}">{html.escape(cell)}</td>' for cell in _cells(e))
        others = "".join(f"<li>{html.escape(other)}</li>" for other in e.ruled_out)
        more = f"<details><summary>what else there is</summary><ul>{others}</ul></details>" if others else ""
        body += f'<tr>{cells}<td style="{left}">{html.escape(e.reason)}{more}</td></tr>'
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in below)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{lines}"


def _cells(e: Entry) -> tuple[str, ...]:
    variance = "" if e.variance is None else f"{e.variance:.3g}"
    return e.site, e.distribution, e.plates, e.estimator, e.term, e.baseline, variance


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="        ")
