"""Draws of all that a fit knows: the latents of its guide, finite latents that were summed out, deterministic sites.

theta ~ q(theta),   z ~ p(z | data, theta),   f(theta, z)
"""

from collections.abc import Callable, Iterator, Set
from typing import TypeVar

import torch
from pyro import poutine

from ..inputs.arguments import number_of_draws
from ..pair.backward import determined, draw_summed
from ..pair.masked import MaskedSites
from ..pair.pair import Program
from ..runtime.held import HeldSites
from ..runtime.sites import Site, deterministic, is_subsampled, latent, refuse_subsampled
from ..runtime.state import reading
from ..runtime.traced import traced
from ..runtime.vectorise import draw, draw_each, pieces, ready_to_draw, refusing_too_many
from ..storage.absent import refuse_without_data
from .approximation import Approximation

Values = dict[str, torch.Tensor]
T = TypeVar("T")
MOST = 2**26  # numbers of a site in all draws


def sample(fit: Approximation, n: int, *, seed: int = 0) -> Values:
    """n joint draws: {site: shape (n, *shape of the site)}.

    The latents of the guide come first. Finite latents that the guide leaves out are drawn given the data and the
    others, exactly. Deterministic sites of the model have their value at the draw. Sites that the guide does not have
    are left out in a subsampled plate, whose rows change from draw to draw, and above 67 million numbers in all draws.
    Raises ValueError for n below 1, and for a latent of the guide in a subsampled plate.
    """
    refuse_none(n)
    refuse_without_data(fit.data, "sample")
    wanted = {name for name, site in beyond_the_guide(fit, seed).items() if n * site["value"].numel() <= MOST}
    return draws_of(fit, n, wanted, seed=seed)


def guide_draws(fit: Approximation, n: int, *, seed: int = 0) -> Values:
    """n draws z ~ q of the latents of the guide alone, {site: (n, *shape of the site)}: the model does not run."""
    refuse_none(n)
    refuse_without_data(fit.data, "guide")
    return draws_of(fit, n, frozenset(), seed=seed)


def draws_of(fit: Approximation, n: int, wanted: Set[str], *, seed: int = 0) -> Values:
    """n draws of the latents of the guide, and the wanted ones of the sites `beyond_the_guide`: {site: (n, *shape)}."""
    with reading(fit.state, seed):
        return joint_draws(fit, n, wanted)


def joint_draws(
    fit: Approximation, n: int, wanted: Set[str], then: Callable[[Values], Values] = lambda values: values
) -> Values:
    """n times what `then` makes of a `joint_draw`. The state of the fit has been entered.

    A guide with a method `joint_draws`, as that of a closed form, makes the draws of its latents at once.
    """
    many = getattr(fit.guide, "joint_draws", None)
    if many is None or fit.followers:
        return draw(lambda: then(joint_draw(fit, wanted)), n)

    def one(values: Values) -> Values:
        return then(values | determined(fit.model, fit.data, fit.summed, values, wanted))

    return draw_each(one, many(n))


def pieces_with_guide(fit: Approximation, n: int, program: Callable[[Program], T], elements: int) -> Iterator[T]:
    """n draws of a program of the guide, in pieces. The state of the fit has been entered.

    elements: numbers of the largest tensor of a piece. A guide with a method `joint_draws` makes the draws of its
    latents at once; the program then gets `guide.holding` a draw, which has no density at the sites that it draws
    together.
    """
    many = getattr(fit.guide, "joint_draws", None)
    runs = {"": torch.zeros(n)} if many is None else many(n)

    def one(values: Values) -> T:
        return program(fit.guide if many is None else fit.guide.holding(values))  # type: ignore[attr-defined]

    with refusing_too_many(n):
        yield from pieces(*ready_to_draw(one, runs, elements), runs)


def joint_draw(fit: Approximation, wanted: Set[str]) -> Values:
    """One draw of the latents of the guide, and the wanted ones of the sites `beyond_the_guide`.

    The state of the fit has been entered. The model runs if a site is wanted, or has entries that follow the model.
    """
    guide = traced(fit.guide, fit.data)
    sites = latent(guide)
    refuse_subsampled(sites)
    if wanted or fit.followers:
        kept = poutine.Trace()
        kept.nodes.update({name: site for name, site in guide.nodes.items() if name not in fit.followers})
        model = poutine.replay(fit.model, trace=kept)
        if fit.summed is not None:
            model = HeldSites(draw_summed(fit.model, guide, fit.data, fit.summed))(model)
        drawn: dict[str, Site] = dict(guide.nodes)
        with MaskedSites({name: drawn[name]["value"] for name in fit.followers}):
            nodes: dict[str, Site] = dict(poutine.trace(model).get_trace(*fit.data).nodes)
        sites |= {name: site for name, site in nodes.items() if name in wanted | fit.followers}
    return {name: site["value"] for name, site in sites.items()}


def beyond_the_guide(fit: Approximation, seed: int = 0) -> dict[str, Site]:
    """The sites that draws of the guide and the data determine: finite latents that it leaves out, deterministic sites.

    In the order of the model; without those in a subsampled plate, and without all if a finite latent is in one.
    """
    with reading(fit.state, seed), torch.no_grad():
        guide = traced(fit.guide, fit.data)
        model = poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*fit.data)
    summed = frozenset() if fit.summed is None else fit.summed.sites
    finite = {name: site for name, site in latent(model).items() if name in summed}
    if any(is_subsampled(site) for site in finite.values()):
        return {}
    found = finite | deterministic(model)
    return {name: found[name] for name in model.nodes if name in found and not is_subsampled(found[name])}


def refuse_none(n: int) -> None:
    """Raises ValueError for fewer than one draw."""
    number_of_draws("sample", n)
