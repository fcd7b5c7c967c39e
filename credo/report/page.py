"""The page of `credo demo`: tables and pictures of each pair in one HTML file without scripts or remote resources."""

import html
import inspect
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from credo.inference.storage.one_moment import write_at_once
from credo.inference.variational.result import Fit
from credo.report import vector
from credo.report.vector import Picture

LONGEST = 40  # rows of a table
_HERE = Path(__file__).parent  # page.html is the frame, page.css its style
PLAN = ["distribution", "estimator", "term", "reason"]


@dataclass
class Section:
    """The results of one pair. The caller fills it step by step, so that a failure leaves the results so far.

    name: also the folder of the pictures, beside the page. text: the docstring of the model's file. seconds: time of
    the fit. scores: of a classifier, named for its rows. tables: {heading: table}. gap: one line on the evidence.
    pictures: what `gallery` drew. command: the command that repeats it. error: the message of a failure.
    waiting: "to come", "being fitted", "not fitted"; such a pair is named in the table at the top, and nowhere else.
    """

    name: str
    text: str = ""
    command: str = ""
    fit: Fit | None = None
    seconds: float = math.nan
    scores: pd.Series | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    gap: str = ""
    pictures: Sequence[Picture] = ()
    error: str = ""
    waiting: str = ""


def write(out: Path, sections: Iterable[Section], footer: str = "", note: str = "", reload: int = 0) -> Path:
    """Writes `out/index.html` and returns its path: relative links to the pictures, no scripts, no remote fonts.

    A browser that reads the page while it is written sees the old page or the new one, never a part. The pictures of a
    section are in `out/NAME/`, where NAME is its name. footer: a line at the end of the page. note: a line above the
    table of all pairs. reload: seconds after which a browser loads the page again; 0: never.
    """
    sections = list(sections)
    out.mkdir(parents=True, exist_ok=True)
    body = "\n".join(_section(s, out) for s in sections if not s.waiting)
    path = out / "index.html"
    template, style = (_HERE.joinpath(f"page.{ending}").read_text(encoding="utf-8") for ending in ("html", "css"))
    overview = (f'<p class="note">{_text(note)}</p>\n' if note else "") + _overview(sections)
    again = f'<meta http-equiv="refresh" content="{reload}">\n' if reload else ""
    text = template.format(again=again, style=f"\n{style}", overview=overview, body=body, footer=_text(footer))
    write_at_once(path, text.encode())
    return path


def paragraphs(text: str) -> tuple[str, list[tuple[bool, str]]]:
    """Title and paragraphs of a docstring; a paragraph is (whether it is a formula, its text).

    A formula is indented and keeps its line breaks; prose is joined to one line.
    """
    title, _, rest = inspect.cleandoc(text).partition("\n")
    blocks: list[tuple[bool, list[str]]] = []
    new = True
    for line in rest.splitlines():
        formula = line.startswith(" ")
        if line.strip():
            if new or blocks[-1][0] != formula:
                blocks.append((formula, []))
            blocks[-1][1].append(line)
        new = not line.strip()
    return title.rstrip("."), [(f, inspect.cleandoc("\n" + "\n".join(ls)) if f else " ".join(ls)) for f, ls in blocks]


def table(frame: pd.DataFrame) -> str:
    """A table as HTML: numbers to four digits, aligned right; at most LONGEST rows, then the number of omitted rows."""
    names = [str(frame.index.name or ""), *map(str, frame.columns)]
    numeric = [False, *(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)]
    lines = ["<table>", _row("th", names, numeric)]
    lines += [_row("td", cells, numeric) for cells in frame.head(LONGEST).itertuples(name=None)]
    if len(frame) > LONGEST:
        lines.append(f'<tr><td colspan="{len(names)}">… and {len(frame) - LONGEST:,} rows more</td></tr>')
    return '<div class="scroll">' + "".join(lines) + "</table></div>"


def _section(s: Section, out: Path) -> str:
    title, blocks = paragraphs(s.text) if s.text else (s.name, [])
    parts = [f'<section id="{_text(s.name)}">', f"<h2>{_text(title)}<code>{_text(s.name)}</code></h2>"]
    first = next((i for i, (formula, _) in enumerate(blocks) if formula), len(blocks))
    after = next((i for i, (formula, _) in enumerate(blocks) if i > first and not formula), len(blocks))
    if first < after:
        formulas = "\n\n".join(text for _, text in blocks[first:after])
        parts.append(f'<pre class="formula">{_text(formulas)}</pre>')
    rest = blocks[:first] + blocks[after:]
    if rest:
        inner = "".join(f"<pre>{_text(t)}</pre>" if formula else f"<p>{_text(t)}</p>" for formula, t in rest)
        parts.append(f"<details><summary>Source and details</summary>{inner}</details>")
    if s.error:
        parts.append(f'<p class="error">{_text(s.error)}</p>')
    if s.fit is not None:
        parts += _facts(s)
        if s.fit.verdict is not None:
            parts.append(f'<p class="gap">{_prose(repr(s.fit.verdict))}</p>')
    if s.gap:
        parts.append(f'<p class="gap">{_prose(s.gap)}</p>')
    if s.pictures:
        figures = "".join(_figure(s.name, out / s.name, picture) for picture in s.pictures)
        parts.append(f'<div class="pictures">{figures}</div>')
    tables = dict(s.tables)
    if s.fit is not None and s.fit.plan.entries:
        frame = s.fit.plan.frame
        tables["The gradient of each latent"] = frame[[c for c in PLAN if c in frame]]
    parts += [f"<h3>{_text(heading)}</h3>{table(frame)}" for heading, frame in tables.items()]
    if s.command:
        parts.append(f'<p class="command"><code>{_text(s.command)}</code></p>')
    return "\n".join([*parts, "</section>"])


def _facts(s: Section) -> list[str]:
    """The figures of the fit, and the scores of a classifier, each as a row."""
    assert s.fit is not None
    run = {"−ELBO": f"{s.fit.final_loss:,.2f} nats"} if s.fit.losses else {}
    run |= {"steps": f"{len(s.fit.losses):,}", "seconds": f"{s.seconds:.1f}", "stopped": s.fit.stopped}
    worth = {}
    if s.scores is not None:
        worth = {f"accuracy, {s.scores.name}": f"{s.scores['accuracy']:.1%}", "nll": f"{s.scores['nll']:.3f} nats"}
        worth |= {"Brier": f"{s.scores['brier']:.3f}", "ECE": f"{s.scores['ece']:.3f}"}
    lists = ("".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in d.items()) for d in (run, worth))
    return [f'<dl class="facts">{items}</dl>' for items in lists if items]


def _overview(sections: list[Section]) -> str:
    lines = []
    for s in sections:
        title = paragraphs(s.text)[0] if s.text else ""
        if s.waiting or s.error:
            said = s.waiting or "failed"
        elif s.scores is not None:
            said = f"{s.scores['accuracy']:.1%} of {s.scores.name} right"
        else:
            loss = f"−ELBO {s.fit.final_loss:,.2f} nats" if s.fit and s.fit.losses else ""
            said = s.gap.rpartition(": ")[2] or loss
        name = _text(s.name) if s.waiting else f'<a href="#{_text(s.name)}">{_text(s.name)}</a>'
        cells = (name, _text(title), _prose(said))
        time = "" if math.isnan(s.seconds) else f"{s.seconds:.1f} s"
        lines.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + f'<td class="n">{time}</td></tr>')
    return '<div class="scroll"><table class="overview">' + "".join(lines) + "</table></div>"


def _figure(folder: str, path: Path, picture: Picture) -> str:
    """A figure with the size of its picture; nothing if the file is not there."""
    size = vector.size(path / picture.file)
    if size is None:
        return ""
    width, height = (round(points * 4 / 3) for points in size)  # pixels of CSS
    words = _text(f"{picture.headline.rstrip('.')}. {picture.sentence}")
    link = _text(f"{folder}/{picture.file}")
    image = f'<img src="{link}" alt="{words}" width="{width}" height="{height}" loading="lazy">'
    return f"<figure>{image}<figcaption>{_text(picture.sentence)}</figcaption></figure>"


def _row(tag: str, cells: Iterable[Any], numeric: list[bool]) -> str:
    kinds = [' class="n"' if number else "" for number in numeric]
    return "<tr>" + "".join(f"<{tag}{k}>{_cell(c)}</{tag}>" for c, k in zip(cells, kinds, strict=True)) + "</tr>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        digits, _, power = ("–" if math.isnan(value) else f"{value:,.4g}".replace("-", "−")).partition("e")
        return f"{digits} × 10<sup>{power.replace('−0', '−').lstrip('+0')}</sup>" if power else digits
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _prose(value: str) -> str:
    return _text(re.sub(r"-(?=\d)", "−", value))


def _text(value: Any) -> str:
    return html.escape(str(value))
