"""A plan to look at: text for a terminal, a table for a notebook."""

import html
import shutil
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plan import Entry, Plan

HEAD = ("site", "distribution", "plates", "estimator", "term", "baseline", "variance")
NARROWEST = 60  # characters


def as_text(plan: "Plan", width: int | None = None) -> str:
    """A line for each site, why below it, and what else there is and why not. width: of the terminal if None."""
    if not plan.entries:
        return "Plan: the guide has no latent sites"
    width = max(NARROWEST, width or shutil.get_terminal_size((110, 24)).columns)
    rows = [HEAD, *(_cells(e) for e in plan.entries)]
    used = [i for i in range(len(HEAD)) if any(row[i] not in ("-", "") for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in used}
    lines = ["  ".join(HEAD[i].ljust(widths[i]) for i in used).rstrip()]
    for row, e in zip(rows[1:], plan.entries, strict=True):
        lines.append("  ".join(row[i].ljust(widths[i]) for i in used).rstrip())
        lines += _wrapped(f"because {e.reason}", width)
        for other in e.ruled_out:
            lines += _wrapped(f"rather than {other}", width)
    return "\n".join([*lines, *(row for line in _below(plan) for row in textwrap.wrap(line, width))])


def as_html(plan: "Plan") -> str:
    """A table; what was ruled out opens with a click."""
    if not plan.entries:
        return "<p>Plan: the guide has no latent sites</p>"
    left = "text-align: left; vertical-align: top"
    head = "".join(f'<th style="{left}">{word}</th>' for word in (*HEAD, "because"))
    body = ""
    for e in plan.entries:
        cells = "".join(f'<td style="{left}">{html.escape(cell)}</td>' for cell in _cells(e))
        others = "".join(f"<li>{html.escape(other)}</li>" for other in e.ruled_out)
        more = f"<details><summary>what else there is</summary><ul>{others}</ul></details>" if others else ""
        body += f'<tr>{cells}<td style="{left}">{html.escape(e.reason)}{more}</td></tr>'
    below = "".join(f"<p>{html.escape(line)}</p>" for line in _below(plan))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def _cells(e: "Entry") -> tuple[str, ...]:
    variance = "" if e.variance is None else f"{e.variance:.3g}"
    return e.site, e.distribution, e.plates, e.estimator, e.term, e.baseline, variance


def _below(plan: "Plan") -> list[str]:
    measured = [_total(plan)] if plan.variance is not None else []
    return [*measured, *([f"Steps: {plan.compiled}"] if plan.compiled else [])]


def _total(plan: "Plan") -> str:
    draws = f", {plan.particles} particles" if plan.particles else ""
    return (
        f"One gradient: variance {plan.variance:.3g} over all parameters, {plan.microseconds:,.0f} microseconds by "
        f"counting{draws}"
    )


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="        ")
