"""Data sets drawn from a model, with the latents that they came from.

    z_s ~ p(z),   y_s ~ p(y | z_s),   s = 1, ..., S

The observed sites are drawn like latents, and what they draw takes the place of the observations in the data. Where a
model reads what it observes (an autoregression: y_t depends on y_{t-1}), the run is repeated with the same noise on the
data of the run before: with each run at least one more observation has the data that it depends on, until nothing
changes any more.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..distributions.unwrap import is_masked
from ..pair.followers import without_masks
from ..pair.pair import Program
from ..runtime.generators import noise
from ..runtime.sites import is_factor, is_index, latent, quoted, refuse_subsampled
from ..runtime.vectorise import Differing, draw_each
from .origins import Origin, naming_undrawable, placed

Values = dict[str, torch.Tensor]
MOST = 2000  # runs on the data of the run before: observations in a row that depend on each other


class Simulated(NamedTuple):
    """S data sets and where they came from."""

    arguments: dict[int, torch.Tensor]  # {index of an argument that is observed: shape (S, *its shape)}
    latents: Values  # {site: shape (S, *shape of the site)}

    @property
    def number(self) -> int:
        """S."""
        return len(next(iter(self.latents.values())))

    def data(self, given: tuple[Any, ...], s: int) -> tuple[Any, ...]:
        """The arguments of data set s; given: those of the user, for what is not observed."""
        return tuple(self.arguments[i][s] if i in self.arguments else value for i, value in enumerate(given))


def simulate(
    model: Program, data: tuple[Any, ...], origins: Mapping[str, Origin], S: int, seed: int, names: list[str]
) -> Simulated:
    """S data sets from the model; data: the user's, for sizes and inputs. names: of the arguments.

    Raises ValueError naming a site that has no draws, or whose prior is improper or depends on the observations.
    """
    _refuse_improper(model, data)
    now = {i: data[i].expand(S, *data[i].shape) for i in sorted({origin.argument for origin in origins.values()})}
    before: Values = {}
    unchanged = -1
    for run in range(MOST + 2):
        drawn = _drawn(model, data, now, seed)
        new = placed(data, origins, {name: drawn[name] for name in origins})
        latents = {name: value for name, value in drawn.items() if name not in origins}
        if run == 0:  # the user's own data took no part in the second run
            now, before = new, latents
            continue
        same = torch.cat([_same(now[i], new[i]) for i in now], 1)
        if run == 1 and (moved := [name for name in latents if not _same(before[name], latents[name]).all()]):
            _refuse_own_prior(model, data, moved, origins, names)
        if same.all() and all(_same(before[name], latents[name]).all() for name in latents):
            return Simulated(new, latents)
        count = int(same.sum(1).min())
        if run > 1 and count <= unchanged:  # each run settles one more, unless they depend on each other
            break
        now, before, unchanged = new, latents, count
    shown = ", ".join(repr(names[i]) for i in now)
    raise ValueError(
        f"the model computes {quoted(origins)} from {shown}, which they observe, and not from earlier observations "
        f"alone (an autoregression of at most {MOST:,} steps), so there is no order in which to draw data; compute "
        f"means and scales of the observations before the call, or leave them out"
    )


class _Unobserved(Messenger):
    """Draws observed sites. Raises ValueError for a site that has no draws."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["infer"].get("_deterministic") or is_factor(msg) or is_index(msg):
            return
        if msg["is_observed"]:
            msg["is_observed"], msg["value"], msg["done"] = False, None, False
            msg["infer"] = {**msg["infer"], "was_observed": True}


def _drawn(model: Program, data: tuple[Any, ...], now: dict[int, torch.Tensor], seed: int) -> Values:
    """One run of the model for each of the data sets: {site, latent or observed: shape (S, *shape of the site)}."""

    def one(arguments: dict[int, torch.Tensor]) -> Values:
        values = [arguments.get(i, value) for i, value in enumerate(data)]
        with _Unobserved():
            trace = poutine.trace(model).get_trace(*values)
        sites = latent(trace, auxiliary=True)
        refuse_subsampled(sites)
        return {name: site["value"] for name, site in sites.items()}

    try:
        with noise(seed), pyro.validation_enabled(False), naming_undrawable():
            return draw_each(one, now)
    except Differing as error:
        raise ValueError(f"data cannot be simulated: {error}; sample all sites in every run, and mask them") from None


def _refuse_improper(model: Program, data: tuple[Any, ...]) -> None:
    """Raises ValueError naming a latent whose density is masked, so that its prior is flat where it matters."""
    with noise(0), torch.no_grad(), pyro.validation_enabled(False), suppress(NotImplementedError):
        for name, site in latent(poutine.trace(without_masks(model, data)).get_trace(*data)).items():
            if is_masked(site["fn"]) or (site["mask"] is not None and not torch.as_tensor(site["mask"]).all()):
                raise ValueError(
                    f"site {name!r}: its prior is masked, which makes it flat and improper, so no truth can be drawn; "
                    f"leave the mask out, or give it a wide prior"
                )


def _refuse_own_prior(
    model: Program, data: tuple[Any, ...], moved: list[str], origins: Mapping[str, Origin], names: list[str]
) -> None:
    """Raises ValueError if a latent that depends on the observed arguments comes before all that observe them."""
    with noise(0), torch.no_grad(), pyro.validation_enabled(False):
        order = list(poutine.trace(model).get_trace(*data).nodes)
    first = min(order.index(name) for name in origins)
    early = [name for name in moved if order.index(name) < first]
    if early:
        shown = ", ".join(sorted({names[origin.argument] for origin in origins.values()}))
        raise ValueError(
            f"site {early[0]!r}: its prior depends on {shown}, which the model observes, so it is no prior from which "
            f"data could be drawn; write its numbers down, or compute them from other arguments"
        )


def _same(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Which entries are the same, shape (S, entries)."""
    one, other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    return (one == other) | ((one != one) & (other != other))
