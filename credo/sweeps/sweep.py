"""The public call: every setting of a grid fitted once, by any number of workers, and the table of what there is."""

import os
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

import credo
from credo.inference.evaluation.evidence import elbo_of
from credo.inference.inputs.call import by_name, settings_of
from credo.inference.runtime.traced import first_line
from credo.pairs import Pair, with_settings
from credo.sweeps.folder import gather, is_done, opened, row, write
from credo.sweeps.grid import Plain, Setting, fit_options, grid
from credo.sweeps.identity import sweep_identity
from credo.sweeps.turns import begun, in_turn, number_of


def sweep(
    model: Callable[..., Any],
    guide: Any,
    *data: Any,
    folder: str | os.PathLike[str],
    index: int | None = None,
    settings: Mapping[str, Any] | None = None,
    checkpoint: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """One row for each setting: ELBO, verdict, time and file of its fit; settings that are done already are skipped.

    Every list among the options is taken value by value, and every combination is one setting: seed=[0, 1, 2],
    lr=[0.01, 0.02] makes six. Many workers may make the same call with the same folder, on machines that share a disk:
    each setting is a file of its own, written in one moment. What one worker computes now another takes last, and two
    that compute the same do no harm.

    model, data: as for `credo.fit`; data by name, too. guide: as there, or a list of guides and words.
    folder: of the results; made if it is not there. It holds one sweep, which may grow: another model, a program that
        was changed, or other data are refused.
    index: the number of the only setting to fit, from 0, the last list fastest. None: the number of this task where
        Slurm, Kubernetes, PBS, AWS Batch, Grid Engine or LSF started the process as one of an array; else all settings,
        one after the other.
    settings: of the model, bound to model and guide by name: {"prior_sd": [0.5, 1.0]}; lists as above.
    checkpoint: keeps what a setting has so far in the folder, so that a worker that was killed goes on from there.
    options: of `credo.fit`; a tuple is one value.

    Returns the table of `credo.gather(folder)`: all results so far, of all workers. A setting that fails has the words
    of its error in `stopped`, and the next call tries it again. Ctrl-C ends the sweep; what is done is kept.
    ELBOs, in nats, compare seeds, rates and models on the same data; point estimates ("map", "mle") have no ELBO that
    compares with others. Of data that a run reads by windows the ELBO is minus the mean of its last losses.
    Raises ValueError for an index that is no setting, a folder of another sweep, or an option that is none.

    >>> import credo, tempfile, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> where = tempfile.mkdtemp()
    >>> table = credo.sweep(pair.model, pair.guide, flips, folder=where, lr=[0.01, 0.05], steps=20, compile=False)
    >>> list(table["lr"]), table["ELBO"].notna().all().item()
    ([0.01, 0.05], True)
    """
    known = fit_options()
    named = {name: value for name, value in options.items() if name not in known}
    data = by_name(model, data, named, (*known, "folder", "index", "settings"))
    options = {name: value for name, value in options.items() if name in known}
    _refuse(options, settings, model)
    cells = grid(guide, options, settings or {})
    only = number_of(index, len(cells), os.environ)
    no_guide: Any = None
    with_settings(Pair("", model, no_guide, None, None), cells[0].model)  # refuses a name that is none, before anything
    place = opened(folder, sweep_identity(model, data))
    mine = {cell.name: cell for cell in (cells if only is None else [cells[only]])}
    wanted = [name for name in mine if not is_done(place / f"{name}.json")]
    failed = {name for name in wanted if (place / f"{name}.json").exists()}  # before this call
    for name in in_turn(wanted, place):
        path = place / f"{name}.json"
        if is_done(path) or (path.exists() and name not in failed):
            continue  # by another worker, meanwhile
        note = begun(place, name)
        try:
            done = _fitted(model, mine[name], data, place / name, checkpoint)
        finally:
            note.unlink(missing_ok=True)
        if done is None:
            break
        write(path, done)
        (place / f"{name}.run").unlink(missing_ok=True)
    return gather(place)


def _fitted(model: Any, cell: Setting, data: tuple[Any, ...], stem: Path, keep: bool) -> Plain | None:
    """What the file of a setting shall hold; None after Ctrl-C. The fit is saved first, so that each row has one."""
    options = {"progress": False, **cell.options}
    if keep and options.get("seeds") is None:
        options["checkpoint"] = f"{stem}.run"
    pair = with_settings(Pair(stem.name, model, cell.guide, None, None), cell.model)
    start = time.perf_counter()
    try:
        fit = credo.fit(pair.model, pair.guide, *data, **options)
    except Exception as error:  # of the user's program too, at draws that other settings have not met
        words = f"{type(error).__name__}: {first_line(error)}"
        steps = len(getattr(getattr(error, "fit", None), "losses", ()))
        found = {"failed": True, "trust": "no", "steps taken": steps, "stopped": words}
        return row(cell.plain, found | {"seconds": time.perf_counter() - start})
    seconds = time.perf_counter() - start
    if fit.stopped.startswith("interrupted"):
        return None
    stopped = fit.stopped
    try:
        fit.save(f"{stem}.credo")
    except (TypeError, ValueError) as error:
        stopped += f"; not saved: {first_line(error)}"
    elbo, of_elbo = elbo_of(fit, prior=cell.guide != "mle")
    found = {"ELBO": elbo, "error": of_elbo, "trust": "" if fit.verdict is None else fit.verdict.trust}
    found |= {"steps taken": len(fit.losses), "seconds": seconds, "method": fit.method, "stopped": stopped}
    return row(cell.plain, found)


def _refuse(options: Mapping[str, Any], settings: Mapping[str, Any] | None, model: Any) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            f"sweep: started by torchrun with {os.environ['WORLD_SIZE']} processes, which would all fit the same "
            f"setting; start the workers of a sweep as a job array or one by one, and use torchrun for one credo.fit"
        )
    if isinstance(options.get("seeds"), list | range):
        raise ValueError("seeds: a sweep over seeds is seed=[0, 1, 2]; seeds=3 takes the best of three in each setting")
    for name in ("every", "callback"):
        if isinstance(options.get(name), list):
            raise ValueError(f"{name}: got a list, wanted one value for all settings")
    for name in settings or {}:
        if name in fit_options():
            close = get_close_matches(name, settings_of(model), n=1)
            hint = f"; the model has {close[0]!r}" if close else ""
            raise ValueError(f"settings: {name} is an option of credo.fit, pass {name}=[...]{hint}")
