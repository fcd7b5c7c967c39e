"""The demo as one page to look at: tables and pictures of each pair, in HTML that needs nothing but itself."""

import html
import inspect
import math
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from credo.inference.variational.result import Fit

LONGEST = 40  # rows of a table
PLAN = ["distribution", "estimator", "term", "reason"]


@dataclass
class Section:
    """What is said of one pair. It is filled while the pair is worked on, so that a failure leaves what there is.

    name: also the folder of the pictures, beside the page. text: the docstring of the model's file. seconds: of the
    fit. scores: of a classifier, named for the rows they were taken on. tables: {heading: table}. gap: one line on
    the evidence. pictures: (file name, caption). command: repeats it. error: why there is no more.
    """

    name: str
    text: str = ""
    command: str = ""
    fit: Fit | None = None
    seconds: float = math.nan
    scores: pd.Series | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    gap: str = ""
    pictures: Sequence[tuple[str, str]] = ()
    error: str = ""


def write(out: Path, sections: Iterable[Section], footer: str = "") -> Path:
    """Writes `out/index.html` and returns its path: relative links to the pictures, no scripts, no fonts from afar.

    A picture is looked for in `out/NAME/`, NAME that of its section; footer: a line below it all.
    """
    sections = list(sections)
    out.mkdir(parents=True, exist_ok=True)
    body = "\n".join(_section(s, out) for s in sections)
    path = out / "index.html"
    text = TEMPLATE.format(style=STYLE, overview=_overview(sections), body=body, footer=_text(footer))
    path.write_text(text, encoding="utf-8")
    return path


def paragraphs(text: str) -> tuple[str, list[tuple[bool, str]]]:
    """A docstring as its title and its paragraphs: (whether it is indented, that is a formula, its text).

    Formulas keep their line breaks and their alignment, prose is joined to one line.
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
    """A table as HTML: numbers to four digits, at the right; at most LONGEST rows, and how many were left out."""
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
    first = next((i for i, (formula, _) in enumerate(blocks) if formula), None)
    if first is not None:
        parts.append(f'<pre class="formula">{_text(blocks[first][1])}</pre>')
    rest = [block for i, block in enumerate(blocks) if i != first]
    if rest:
        inner = "".join(f"<pre>{_text(t)}</pre>" if formula else f"<p>{_text(t)}</p>" for formula, t in rest)
        parts.append(f"<details><summary>Source and details</summary>{inner}</details>")
    if s.error:
        parts.append(f'<p class="error">{_text(s.error)}</p>')
    if s.fit is not None:
        parts += _facts(s)
    if s.gap:
        parts.append(f'<p class="gap">{_prose(s.gap)}</p>')
    if s.pictures:
        figures = [_figure(f"{s.name}/{file}", out / s.name / file, caption) for file, caption in s.pictures]
        narrow = sum(bool(f) and 'class="wide"' not in f for f in figures)
        three = " three" if narrow % 3 == 0 else ""  # so that no place stays empty
        parts.append(f'<div class="pictures{three}">{"".join(figures)}</div>')
    tables = dict(s.tables)
    if s.fit is not None and s.fit.plan.entries:
        frame = s.fit.plan.frame
        tables["The gradient of each latent"] = frame[[c for c in PLAN if c in frame]]
    parts += [f"<h3>{_text(heading)}</h3>{table(frame)}" for heading, frame in tables.items()]
    if s.command:
        parts.append(f'<p class="command"><code>{_text(s.command)}</code></p>')
    return "\n".join([*parts, "</section>"])


def _facts(s: Section) -> list[str]:
    """What the fit said of itself, and what a classifier is worth, each as a row of figures."""
    assert s.fit is not None
    run = {"−ELBO": f"{_loss(s.fit):,.2f} nats"} if s.fit.losses else {}
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
        if s.error:
            said = "failed"
        elif s.scores is not None:
            said = f"{s.scores['accuracy']:.1%} of {s.scores.name} right"
        else:
            said = s.gap.rpartition(": ")[2] or (f"−ELBO {_loss(s.fit):,.2f} nats" if s.fit and s.fit.losses else "")
        cells = (f'<a href="#{_text(s.name)}">{_text(s.name)}</a>', _text(title), _prose(said))
        time = "" if math.isnan(s.seconds) else f"{s.seconds:.1f} s"
        lines.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + f'<td class="n">{time}</td></tr>')
    return '<div class="scroll"><table class="overview">' + "".join(lines) + "</table></div>"


def _figure(link: str, path: Path, caption: str) -> str:
    """A picture that knows its size before it is loaded; one twice as wide as high gets a whole row."""
    try:
        width, height = struct.unpack(">II", path.read_bytes()[16:24])  # the first chunk of every PNG
    except (OSError, struct.error):
        return ""
    kind = ' class="wide"' if width > 2 * height else ""
    image = f'<img src="{_text(link)}" alt="{_text(caption)}" width="{width}" height="{height}" loading="lazy">'
    return f"<figure{kind}>{image}<figcaption>{_text(caption)}</figcaption></figure>"


def _row(tag: str, cells: Iterable[Any], numeric: list[bool]) -> str:
    kinds = [' class="n"' if number else "" for number in numeric]
    return "<tr>" + "".join(f"<{tag}{k}>{_cell(c)}</{tag}>" for c, k in zip(cells, kinds, strict=True)) + "</tr>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        digits, _, power = ("–" if math.isnan(value) else f"{value:,.4g}".replace("-", "−")).partition("e")
        return f"{digits} × 10<sup>{power.replace('−0', '−').lstrip('+0')}</sup>" if power else digits
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _loss(fit: Fit) -> float:
    """The mean of the last tenth of the losses, nats: as `repr(fit)` says it."""
    tail = fit.losses[-max(1, len(fit.losses) // 10) :]
    return sum(tail) / len(tail)


def _prose(value: str) -> str:
    return _text(re.sub(r"-(?=\d)", "−", value))


def _text(value: Any) -> str:
    return html.escape(str(value))


STYLE = """
:root { color-scheme: light dark; --paper: #fdfcf9; --ink: #23211d; --quiet: #6f6a60; --line: #e2ddd2; --mark: #1f6fb2;
  --wash: #f4f1ea; --wrong: #a8324a; }
@media (prefers-color-scheme: dark) { :root { --paper: #191816; --ink: #e6e2d8; --quiet: #9b958a; --line: #37342f;
  --mark: #7db5e2; --wash: #22201d; --wrong: #ee8da0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 3.5rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", Georgia, serif;
  font-variant-numeric: oldstyle-nums; }
h1 { font-size: 2.5rem; font-weight: normal; font-style: italic; margin: 0; line-height: 1.2; }
header p { color: var(--quiet); margin: .4rem 0 2rem; }
section { border-top: 1px solid var(--line); margin-top: 3.5rem; padding-top: 2rem; }
h2 { font-size: 1.5rem; font-weight: normal; line-height: 1.3; margin: 0 0 1rem; display: flex; flex-wrap: wrap;
  justify-content: space-between; align-items: baseline; gap: 0 1.5rem; }
h2 code { font-size: .85rem; color: var(--quiet); }
h3 { font-size: 1rem; font-weight: normal; font-style: italic; color: var(--quiet); margin: 2rem 0 .5rem; }
a { color: var(--mark); text-decoration: none; } a:hover { text-decoration: underline; }
pre, code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { font-size: .86rem; line-height: 1.65; margin: .8rem 0; overflow-x: auto; }
pre.formula { background: var(--wash); border-left: 3px solid var(--mark); padding: .9rem 1.2rem; }
details { color: var(--quiet); font-size: .95rem; max-width: 50rem; } details p { margin: .6rem 0; }
summary { cursor: pointer; font-style: italic; }
.facts { display: flex; flex-wrap: wrap; gap: 1rem 2.4rem; margin: 1.2rem 0; }
dt { color: var(--quiet); font-size: .82rem; font-style: italic; } dd { margin: 0; font-size: 1.12rem; }
.gap { max-width: 50rem; } .error { color: var(--wrong); white-space: pre-wrap; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1.4rem;
  margin: 1.6rem 0; align-items: start; grid-auto-flow: dense; }
.pictures.three { grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; }
img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 4px;
  padding: .6rem; }
figcaption { color: var(--quiet); font-size: .88rem; line-height: 1.45; padding: .5rem .2rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: lining-nums tabular-nums; }
th { font-weight: normal; font-style: italic; color: var(--quiet); border-bottom: 1px solid var(--ink);
  text-align: left; }
th, td { padding: .28rem 1.6rem .28rem 0; vertical-align: top; } .n { text-align: right; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); }
.overview { width: 100%; font-size: 1rem; } .overview tr:first-child td { border-top: 1px solid var(--line); }
.command { margin-top: 1.6rem; } .command code { font-size: .86rem; color: var(--quiet); }
.command code::before { content: "$ "; opacity: .6; }
sup { font-size: .7em; line-height: 0; }
footer { border-top: 1px solid var(--line); margin-top: 3.5rem; padding-top: 1rem; color: var(--quiet);
  font-size: .9rem; }
@media (max-width: 42rem) { .overview td:nth-child(2) { display: none; } }
@media print { section { break-inside: avoid-page; } body { max-width: none; } }
"""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>credo</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>credo</h1>
<p>What was believed before the data, what is believed after them, and how far that may be trusted.</p>
</header>
{overview}
{body}
<footer>{footer}</footer>
</body>
</html>
"""
