"""Runs the first program of the README and draws its picture, docs/pictures/ten_lines.svg.

python docs/ten_lines.py
"""

import math
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PICTURE = DOCS / "pictures" / "ten_lines.svg"


def program() -> str:
    """The first block of Python in the README."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)[0]


def draw(names: dict[str, Any], path: Path = PICTURE) -> None:
    """Draws the data, the fitted line and least squares of a run of the program. names: what the run left."""
    import numpy as np
    from matplotlib import pyplot

    import credo

    x, y, fit = names["x"].numpy(), names["y"].numpy(), names["fit"]
    draws = fit.sample(2000)
    faulty = draws["glitch"].mean(0).numpy()
    bad = f"P(faulty) > {math.ceil(100 * faulty[faulty > 0.5].min()) - 1} %"
    good = f"P(faulty) < {math.floor(100 * faulty[faulty < 0.5].max()) + 1} %"
    lines = draws["a"][:, None] + draws["b"][:, None] * names["x"]
    low, high = np.quantile(lines.numpy(), (0.05, 0.95), axis=0)
    figure, ax = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    ax.fill_between(x, low, high, color=credo.plots.FIT, alpha=0.25, lw=0)
    ax.plot(x, lines.mean(0), color=credo.plots.FIT, lw=2, label="fit")
    ax.plot(x, np.polyval(np.polyfit(x, y, 1), x), color="0.4", ls="--", lw=1.3, label="least squares")
    ax.plot(x[faulty < 0.5], y[faulty < 0.5], "o", ms=4, color="0.3", label=good)
    ax.plot(x[faulty > 0.5], y[faulty > 0.5], "o", ms=6, color="C3", label=bad)
    ax.set(xlabel="x", ylabel="y")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    pyplot.close(figure)


if __name__ == "__main__":
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"font.size": 10, "svg.hashsalt": "credo", "svg.fonttype": "path"})
    left: dict[str, Any] = {}
    exec(program(), left)
    print(left["fit"].summary().loc[["a", "b"]], left["fit"].verdict, sep="\n")
    draw(left)
