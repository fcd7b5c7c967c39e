"""The code of docs/how-to/after_the_fit.md runs as it stands, from top to bottom."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "after_the_fit.md"


def test_the_code_of_the_page_runs():
    text = PAGE.read_text(encoding="utf-8")
    blocks = [(found.start(), found[1]) for found in re.finditer(r"```python\n(.*?)```", text, re.S)]
    assert len(blocks) > 8
    names: dict = {}
    for start, code in blocks:
        lines = text.count("\n", 0, start) + 1  # so that an error names the line of the page
        exec(compile("\n" * lines + code, str(PAGE), "exec"), names)
    assert {"b[bmi]", "b[bp]", "b[s5]", "s"} <= set(names["fit"].summary().index)
    assert len(names["network"].losses) == 600 and len(names["five"]) == 5 and len(names["several"].seeds) == 4
    plt.close("all")
