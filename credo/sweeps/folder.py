"""The folder of a sweep: a file for each setting that is done, and what the sweep is. All workers write into it.

sweep.json                  which data and model the folder belongs to
seed=0,lr=0.01-1f3a9c2e.json    the row of this setting, written when it is done, in one moment
seed=0,lr=0.01-1f3a9c2e.credo   its fit, for `credo.load_fit`
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from credo.inference.inputs.arguments import shown
from credo.inference.pair.identity import Identity, differences
from credo.inference.storage.one_moment import write_at_once
from credo.sweeps.grid import Plain, fit_options, sorted_by_settings

SWEEP = "sweep.json"
COLUMNS = ("ELBO", "error", "trust", "steps taken", "seconds", "method", "stopped", "path")


def opened(folder: str | os.PathLike[str], identity: Identity) -> Path:
    """The folder, made if it is not there; refused if it belongs to another sweep.

    Raises ValueError that names what differs; OSError where it cannot be written.
    """
    if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
        raise ValueError(f"folder: got {shown(folder)}, wanted the path of a folder for the results")
    place = Path(folder).expanduser().absolute()
    if place.exists() and not place.is_dir():
        raise ValueError(f"folder: {place} is a file, wanted a folder")
    place.mkdir(parents=True, exist_ok=True)
    if not (place / SWEEP).exists():
        write(place / SWEEP, {"sweep": identity}, anew=True)
    known = read(place / SWEEP).get("sweep", {})
    if differ := differences(identity, known):
        raise ValueError(
            f"folder: {place} holds another sweep: {'; '.join(differ[:4])}. Take another folder, or delete it"
        )
    return place


def write(path: Path, content: Mapping[str, Any], *, anew: bool = False) -> None:
    """Writes JSON to a file in one moment. anew: leaves a file that is there meanwhile."""
    write_at_once(path, json.dumps(content, allow_nan=False, indent=1).encode(), anew=anew)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote. Raises ValueError that names the file where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        then = "the next credo.sweep here writes it" if path.name == SWEEP else "its setting is fitted again"
        raise ValueError(f"{path}: the file is damaged ({error}); delete it, and {then}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: this is no file of a sweep")
    return found


def row(setting: Plain, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the file of a setting holds. found: {column: value}; what is not finite becomes None."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in found.items()}
    return {"settings": setting, "found": finite}


def is_done(path: Path) -> bool:
    """Whether this setting has a fit."""
    return path.exists() and not read(path)["found"].get("failed", False)


def gather(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The results that a sweep has so far: a row for each setting that some worker has done.

    folder: of `credo.sweep`. Columns: the settings, then `ELBO` and its Monte Carlo error in nats, `trust` of the
    verdict, `steps taken`, `seconds` of wall time, `method`, `stopped`, and `path` of the fit, which
    `credo.load_fit(path, model, guide, *data)` reads. A setting that failed has no ELBO and no path, trust
    "no", and the words of its error in `stopped`. `.attrs["best"]` is the index of the row with the largest ELBO, or
    None.

    Raises ValueError for a folder that no sweep has written, or a file in it that is damaged.

    >>> import credo, tempfile, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> folder = tempfile.mkdtemp()
    >>> table = credo.sweep(pair.model, pair.guide, flips, folder=folder, seed=[0, 1], steps=20, compile=False)
    >>> credo.gather(folder).equals(table), list(table["seed"])
    (True, [0, 1])
    """
    place = Path(folder).expanduser().absolute()
    if not (place / SWEEP).is_file():
        raise ValueError(f"folder: {place} holds no sweep; wanted the folder= of credo.sweep")
    files = list(_results(place))
    names = list(dict.fromkeys(name for _, content in files for name in content["settings"]))
    defaults = fit_options()
    rows = []
    for path, content in files:
        found = dict(content["found"])
        fit = path.with_suffix(".credo")
        settings = {name: content["settings"].get(name, defaults.get(name)) for name in names}
        rows.append(settings | {key: found.get(key) for key in COLUMNS} | {"path": str(fit) if fit.exists() else ""})
    rows = sorted_by_settings(rows, names)
    table = pd.DataFrame(rows, columns=[*names, *COLUMNS])
    table[["ELBO", "error", "seconds"]] = table[["ELBO", "error", "seconds"]].astype(float)
    table.attrs["best"] = int(table["ELBO"].idxmax()) if table["ELBO"].notna().any() else None
    return table


def _results(place: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(place.glob("*.json")):
        if path.name != SWEEP:
            content = read(path)
            if not {"settings", "found"} <= content.keys():
                raise ValueError(f"{path}: this is no file of a sweep")
            yield path, content
