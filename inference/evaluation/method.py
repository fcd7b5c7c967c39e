"""What `guide=None` is for a model: its closed form, one normal of all latents, or mean field by SVI, and why.

exact          where `credo.exact` finds the posterior, in at most EXACT latents
full rank      one normal of all latents in unconstrained space, finite latents summed out, up to MOST latents
mean field     a normal for each latent, by SVI: networks, parameters that are trained, densities that are not fixed
"""

import dataclasses
import warnings as python_warnings
from typing import Any

import torch
from pyro import poutine
from torch import nn

from ..exact.closed_form import exact
from ..exact.no_closed_form import NoClosedForm
from ..pair.amortised import Amortised
from ..pair.autoguide import with_guide
from ..pair.batches import rows_of
from ..pair.mean_field import MeanField
from ..pair.pair import Pair, Program
from ..planning.plan import NO_STEPS
from ..runtime.interrupts import CtrlC
from ..runtime.parameters import unconstrained
from ..runtime.reachable import find_modules
from ..runtime.sites import latent, observed, quoted
from ..runtime.state import entered, new_state
from ..stepping.begin import Begun, begin
from ..stepping.settings import Settings
from ..variational.result import Fit, finished
from ..variational.svi import SVI
from .check import examined
from .exact_guide import exact_guide
from .family_fit import FAMILIES, family_fit
from .gaussian_fit import AUTOGUIDES, METHODS, NotThisWay, gaussian_fit

EXACT = 300  # latents up to which a closed form is sought: it takes second derivatives
MIXED = 64  # values of finite latents beside others, each with a closed form of its own
MANY, SOME = 100_000, 200  # rows of data of which so many are tried first
SITES = 200  # sites of the model, each of which costs time wherever the density is taken
MATRICES = 2  # weights of a network with a hidden layer


def chosen(
    model: Program, begun: Begun, settings: Settings, data: tuple[Any, ...], warnings: list[str]
) -> tuple[Fit | None, str]:
    """(the fit, why it was chosen); (None, why) where SVI is to fit a mean-field guide.

    begun: the pair of the model and the mean-field guide. warnings: for the user, at the end of the call.
    """
    if why := _why_svi(model, begun):
        return None, why
    if (found := exact_fit(model, begun, settings, data)) is not None:
        warnings += begun.warnings
        return found, "credo.exact found the posterior in closed form"
    if not latent(begun.q):
        return None, "all latents are finite"
    try:
        fit = gaussian_fit(begun, "full_rank", settings, data, warnings, sure=True)
    except NotThisWay as error:
        return None, str(error)
    return fit, "no closed form was found, and the density is one of fixed latents"


def by_steps(fit: Fit, guide: Program | str | None, why: str) -> Fit:
    """The fit of a run of SVI, named by the guide that credo made for it. why: mean field, if credo chose."""
    if guide is None:
        return dataclasses.replace(fit, method=_name(fit.guide), why=why)
    return dataclasses.replace(fit, method=_name(fit.guide)) if isinstance(guide, str) else fit


def _name(guide: Program) -> str:
    return "amortised" if isinstance(guide, Amortised) else "mean field" if isinstance(guide, MeanField) else "svi"


def _why_svi(model: Program, begun: Begun) -> str:
    """Why SVI has to fit this model, found without a density; "" if it need not."""
    with entered(begun.state), torch.no_grad():
        trained = [name for name in unconstrained() if not name.startswith("AutoNormal.")]
        p = poutine.trace(poutine.replay(model, trace=begun.q)).get_trace(*begun.pair.data)
    if begun.fixed_part is not None:
        return begun.fixed_part
    if trained:
        return f"parameter {trained[0]!r} is trained"
    if begun.pair.followers:
        return f"{quoted(begun.pair.followers)}: latents with masked entries follow the model"
    sites = latent(begun.q)
    numbers = sum(site["value"].numel() for site in sites.values())
    rows = sum(site["value"].numel() for site in observed(p).values())
    matrices = sum(site["value"].dim() > 1 for site in sites.values())
    if _networks(model, begun) and (numbers > rows or matrices >= MATRICES):
        return f"a network with {numbers:,} latents and {rows:,} observations"
    return ""


def _networks(model: Program, begun: Begun) -> list[nn.Module]:
    return [net for net in find_modules((model, begun.pair.data)) if any(True for _ in net.parameters(recurse=True))]


def _some_rows_have_none(model: Program, begun: Begun) -> bool:
    """Whether the first rows of much data have no posterior in closed form: then all of them have none."""
    data = begun.pair.data
    if not any(isinstance(v, torch.Tensor) and v.dim() and len(v) >= MANY for v in data):
        return False
    arguments, _ = rows_of(data)
    try:
        exact(model, *(v[:SOME] if i in arguments else v for i, v in enumerate(data)))
    except NoClosedForm:
        return True
    except Exception:  # the model does not run on some of its rows
        return False
    return False


def exact_fit(model: Program, begun: Begun, settings: Settings, data: tuple[Any, ...]) -> Fit | None:
    """The posterior in closed form as a fit; None where none is found with little work."""
    with entered(begun.state), torch.no_grad():
        p = poutine.trace(poutine.replay(model, trace=begun.q)).get_trace(*begun.pair.data)
    sites = latent(begun.q) or latent(p)  # where all latents are finite, none is summed out: the guide draws them
    numbers = sum(site["value"].numel() for site in sites.values())
    if numbers > EXACT or len(latent(p)) + len(observed(p)) > SITES:
        return None
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # the pair has been checked: what there is to say is in `begun`
        if _some_rows_have_none(model, begun):
            return None
        try:
            posterior = exact(model, *data)
        except Exception:  # NoClosedForm, or a model that does not run in double precision on the CPU
            return None
    if len(posterior.components) > MIXED:
        return None
    guide = exact_guide(posterior, {name: latent(p)[name] for name in sites}, begun.dtype)
    state = new_state((model, guide, begun.pair.data), settings.seed, begun.state.device)
    pair = Pair(model, guide, begun.pair.data, begun.pair.summed if latent(begun.q) else None)
    with entered(state):
        fit = finished(model, pair, [], NO_STEPS, "converged: in closed form", settings.seed, begun.given)
    return examined(dataclasses.replace(fit, method="exact", exact=posterior), seconds=0.0)


def without_svi(runner: SVI, guide: Any, data: tuple[Any, ...], ctrl_c: CtrlC) -> tuple[list[Fit], str]:
    """(the fit that needs no SVI, or none; why). Ctrl-C returns the guide as it starts."""
    settings, warnings = runner._settings, runner._warnings
    model = settings.model
    try:
        ctrl_c.raises = settings.workers is None
        word = AUTOGUIDES.get(type(guide)) if not isinstance(guide, str) else guide if guide in METHODS else None
        in_family = guide is not None and word is None and type(runner.guide) in FAMILIES
        if guide is not None and word is None and not in_family:
            return [], ""
        own = None if guide is None or isinstance(guide, str) else guide
        any_guide = with_guide(model, None)[1] if isinstance(guide, str) and not in_family else runner.guide
        begun = begin(model, any_guide, settings, data)
        if guide is None or in_family:
            runner._looked = begun
        if guide is None:
            fit, why = chosen(model, begun, settings, data, warnings)
        elif not latent(begun.q):
            return [], ""
        elif in_family:
            fit, why = family_fit(begun, runner.guide, settings, data, warnings), ""
        else:
            fit, why = gaussian_fit(begun, word or "", settings, data, warnings, own=own, sure=own is not None), ""
        return [] if fit is None else [dataclasses.replace(fit, why=why)], why
    except NotThisWay as error:
        warnings.clear()  # SVI looks at the data again
        return [], str(error)
    except KeyboardInterrupt:
        return [runner._without_steps(data)], ""
    finally:
        ctrl_c.raises = False
