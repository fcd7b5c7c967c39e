"""`credo.load_fit`: what `.save(path)` wrote, put into the model and the guide that are given."""

import os
from typing import Any

from ..exact.closed_form import Exact
from ..inputs.call import by_name
from ..mcmc.result import Reference
from ..pair.pair import Program
from ..storage.container import read
from ..variational.result import Fit
from .loaded_fit import fit_of
from .loaded_posterior import exact_of, reference_of

PARTS = {
    "fit": {"fields", "plan", "guide", "parts", "device", "data", "exact"},
    "exact": {"fields", "components", "parts", "data"},
    "reference": {"fields", "source"},
}  # of each kind of file
KINDS = tuple(PARTS)


def load_fit(
    path: str | os.PathLike[str],
    model: Program | None = None,
    guide: Program | str | None = None,
    *data: Any,
    **named: Any,
) -> Fit | Exact | Reference:
    """The fit that `fit.save(path)` wrote: all its answers are the same, bit for bit on the same machine.

    path: the file, as text or a Path.
    model, guide: the functions that were fitted, or defined anew; guide=None where credo made the guide (None or a
        word). A network among the data, closed over, or in a module gets its trained weights in this fit; the object
        itself keeps the weights that it has, as in `credo.fit`; `fit.trained(net)` is a trained copy.
    data, named: those of the fit, as to `credo.fit`. They may be left out, except networks: then the fit
        draws, predicts at new data, and has its parameters, losses, plan and verdict, and what depends on the values
        of the data raises ValueError. With `fit.save(path, with_data=True)` they are in the file.
    Returns an Exact or a Reference for a file that one of these wrote; a Reference needs no model for its draws.
    Raises ValueError, which names the path and what differs, for a file that is damaged, foreign or of a newer credo,
    and for another model, guide or data: other sites, families, shapes, densities, networks or values.

    >>> import credo, torch, tempfile, os
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> fit = credo.fit(pair.model, pair.guide, flips, steps=100, seed=1, compile=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit.save(os.path.join(folder, "coin.credo"))
    ...     again = credo.load_fit(os.path.join(folder, "coin.credo"), pair.model, pair.guide)
    >>> torch.equal(again.sample(10)["p"], fit.sample(10)["p"])
    True
    """
    saved, tensors = read(path, KINDS)
    kind = saved.get("kind", "fit")
    if kind not in PARTS or (missing := sorted(PARTS[kind] - saved.keys())):
        what = f"without {missing[0]!r}" if kind in PARTS else f"of kind {kind!r}"
        raise ValueError(f"{path}: another version of credo wrote this file ({what}); load it with that version")
    if model is None and kind != "reference":
        raise ValueError(f"{path}: this file needs the model that was fitted: credo.load_fit(path, model, guide)")
    given = () if model is None else by_name(model, data, named, ("guide",))
    try:
        if kind == "reference" or model is None:
            return reference_of(saved, tensors, model, given)
        if kind == "fit":
            return fit_of(saved, tensors, model, guide, given)
        return exact_of(saved, tensors, model, given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
