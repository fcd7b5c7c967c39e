"""The public call `credo.calibrate`: simulation-based calibration of a model with its guide.

z_s ~ p(z),   y_s ~ p(y | z_s),   q_s = fit to y_s,   r_s = #{l: z_sl < z_s},   z_s1, ..., z_sL ~ q_s
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine

from ..evaluation.fit import OPTIONS, fit
from ..exact.closed_form import exact
from ..inputs.arguments import Arguments, arguments, whole_number, works_in_double
from ..inputs.call import by_name
from ..pair.pair import Program
from ..planning.plan import Plan
from ..runtime.defaults import CPU
from ..runtime.generators import LARGEST_SEED, noise
from ..runtime.parameters import constrained, unconstrained
from ..runtime.reachable import find_modules
from ..runtime.sites import latent
from ..runtime.state import entered, new_state
from ..updates.optimiser import NATURAL, optimiser
from ..variational.result import Fit
from ..variational.svi import LR
from .calibration import Calibration
from .one_by_one import NONE, one_by_one, replaced, stacked
from .origins import origins
from .ranks import ranks_of
from .simulate import Simulated, simulate
from .together import NO_PARAMETERS, together, without_parameters

FEWEST = 20  # simulations of which ranks can be told from uniform ones
POINTS = ("map", "mle")
OWN = ("simulations", "draws", "observed", "simulator")


def calibrate(
    model: Program,
    guide: Program | str | None,
    *data: Any,
    simulations: int = 500,
    draws: int = 199,
    observed: str | Mapping[str, str] | None = None,
    simulator: Program | None = None,
    steps: int | None = None,
    lr: float = LR,
    optim: Callable[..., torch.optim.Optimizer] | None = None,
    particles: int | None = None,
    batch_size: int | None = None,
    plan: Mapping[str, str] | Plan | str | None = None,
    force: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    compile: bool = True,
    progress: bool = True,
    **named: Any,
) -> Calibration:
    """Ranks of latents drawn from the prior among posterior draws of the data drawn from them: uniform if all is right.

        z_s ~ p(z),   y_s ~ p(y | z_s),   q_s(z) fitted to y_s,   r_s = #{l: z_sl < z_s},   z_s1, ..., z_sL ~ q_s

    The whole pair is tested, for data that the model itself makes: a guide that is too narrow, too wide or off, a
    mistake in a hand-written posterior, steps that are too few.
    model, guide, data, named: as for `credo.fit`; the data gives sizes and inputs, and its observations are replaced.
    simulations: S, how many data sets; draws: L, from each posterior; ranks go from 0 to L.
    observed: the argument that the observed site takes its values from, or {site: argument}; None: it is found.
    simulator: another model with the same sites and arguments that draws the data, to see what a wrong model costs.
    steps, lr, optim, particles, batch_size, plan, force, device, compile, progress: the options of `credo.fit`, for
        each fit; steps counts those of one fit. seed: of everything that is drawn.
    Data sets are fitted at once where the model allows it, and one after another elsewhere.
    Returns `Calibration`: it prints the verdict and a table, and `credo.plots.ranks` draws it.

    Raises ValueError naming what cannot be simulated: an improper prior, a factor, values that the model computes from
    its arguments; and as `credo.fit` does.
    Source: Talts, Betancourt, Simpson, Vehtari and Gelman 2018; Modrák et al. 2023 for the log likelihood and prior.

    >>> import credo, torch
    >>> pair = credo.load("coin_toss")
    >>> found = credo.calibrate(pair.model, "full_rank", torch.ones(7), simulations=50)
    >>> found.calibrated
    True
    """
    if isinstance(guide, str) and guide in POINTS:
        raise ValueError(
            f"guide: got {guide!r}, a point estimate: all of its draws are the same, so that ranks say nothing; take a "
            f"guide with a distribution, None or 'full_rank'"
        )
    S = whole_number("simulations", simulations, FEWEST)
    L, seed = whole_number("draws", draws, 9), whole_number("seed", seed, 0, LARGEST_SEED)
    first: Fit | None = None
    data = by_name(model, data, named, (*OWN, *OPTIONS))
    given, simulated, constants = _simulated(model, guide, data, simulator, S, observed, seed)
    if constants:  # of the user's data: simulated data would give others, and so another model
        model = poutine.substitute(model, data=constants)

    def fitted(values: tuple[Any, ...], s: int) -> Any:
        if first is not None and first.method == NO_PARAMETERS:
            assert callable(guide)
            return without_parameters(model, guide, given._replace(values=values), seed)
        if first is not None and first.method == "exact":
            return exact(model, *values)
        return fit(
            model,
            guide,
            *values,
            steps=steps,
            lr=lr,
            optim=optim,
            particles=particles,
            batch_size=batch_size,
            plan=plan,
            force=force,
            seed=(seed + s) % LARGEST_SEED,
            device=device,
            compile=compile,
            progress=False,
        )

    one = given._replace(values=simulated.data(given.values, 0))
    first, notes = _first(lambda: fitted(one.values, 0), model, guide, one, seed)
    alone = batch_size or optim == NATURAL or isinstance(lr, Mapping)  # rates by name: those at once have no names
    found = "" if alone else together(first, simulated, optimiser(optim, lr), steps, L, seed)
    which = range(S) if isinstance(found, str) else found.again
    each = one_by_one(model, fitted, simulated, given.values, which, L, seed, progress) if which else NONE
    if isinstance(found, str):
        counts, how = stacked(each.counts), "one after another"
        notes = each.notes + ([f"fitted one after another, not at once: {found}"] if found else [])
    else:
        counts, how = replaced(found.counts, each, found.again), "all data sets at once"
        notes += found.notes + each.notes
        if found.again:
            notes.append(f"{len(found.again):,} of {S:,} fits did not settle at once, and were made one after another")
    ranks = ranks_of(counts, L, seed)
    method = "a guide without parameters" if first.method == NO_PARAMETERS else f"fitted by {first.method}, {how}"
    return Calibration(ranks, L, method, tuple(notes), seed)


def _first(
    fitted: Callable[[], Fit], model: Program, guide: Program | str | None, given: Arguments, seed: int
) -> tuple[Fit, list[str]]:
    """(The fit to the first data set, what it warned of)."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            fit = fitted()
        except ValueError as error:
            if "no parameters to train" not in str(error) or not callable(guide):
                raise
            fit = without_parameters(model, guide, given, seed)
    return fit, [f"the first fit warned: {warning.message}" for warning in heard]


def _simulated(
    model: Program,
    guide: Program | str | None,
    data: tuple[Any, ...],
    simulator: Program | None,
    S: int,
    observed: str | Mapping[str, str] | None,
    seed: int,
) -> tuple[Arguments, Simulated, dict[str, torch.Tensor]]:
    """(The user's data as tensors, data sets from the model, its constants) in the precision that the model takes."""
    double = works_in_double(find_modules((model, guide, data)))
    program = model if simulator is None else simulator
    for dtype in (torch.float64,) if double else (torch.float32, torch.float64):
        given = arguments(model, data, dtype, CPU, gaps=None, whole=True)
        state = new_state((model, guide, simulator, data), seed, CPU)
        try:
            with entered(state):
                places = origins(program, given.values, given.names, observed)
                simulated = simulate(program, given.values, places, S, seed, given.names)
                if trained := sorted(unconstrained()):
                    raise ValueError(
                        f"parameter {trained[0]!r}: the model has it without a prior, so no truth can be drawn for it; "
                        f"give it one (pyro.sample), or the value of a fit: poutine.substitute(model, data=fit.params)"
                    )
                if simulator is not None:
                    _refuse_other_latents(model, given.values, simulated)
                return given, simulated, constrained()
        except RuntimeError as error:
            if dtype == torch.float64 or "dtype" not in str(error):
                raise
    raise AssertionError("unreachable")


def _refuse_other_latents(model: Program, data: tuple[Any, ...], simulated: Simulated) -> None:
    """Raises ValueError if the simulator has other latents than the model, or in other shapes."""
    with noise(0), torch.no_grad(), pyro.validation_enabled(False):
        sites = latent(poutine.trace(model).get_trace(*data))
    wanted = {name: tuple(site["value"].shape) for name, site in sites.items()}
    got = {name: tuple(value.shape[1:]) for name, value in simulated.latents.items()}
    if wanted != got:
        raise ValueError(
            f"simulator: it has the latents {got}, and the model has {wanted}; wanted the same names and shapes, so "
            f"that a latent that was drawn can be looked for in the posterior"
        )
