"""What a plan asks of a gradient estimator. Each estimator is one file of this room that ends with an `Estimator`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from pyro import poutine

from ..pair.costs import Plates
from ..pair.pair import Pair
from ..runtime.sites import Site, has_rsample
from .dependencies import Dependencies
from .recipe import Recipe

LOG_Q, ANALYTIC_KL, STICKING = "log q", "analytic KL", "sticking the landing"  # how log q enters, as a plan prints it


class Facts(NamedTuple):
    """What a plan keeps of the checks of its pair.

    options: {site: {estimator: None where it is legal, else why not}}. reads: which draws each cost depends on.
    kl: {site of the guide: the site of the model whose prior it is compared with} where KL(q || p) is known in closed
    form and right; no_kl: {site: why there is none}. improper: whether the KL is all that can be said of a prior.
    no_sticking: why sticking the landing is not legal, or None. again: sites whose log q must be computed once more
    for it. values: {finite site: its support, shape (K, *event)}. coupled: {site: the plates in which the draw of one
    row moves the costs of other rows}. partly: sites in a loop over a part of their plate's rows, which a run may lack.
    """

    options: Mapping[str, Mapping[str, str | None]] = {}
    reads: Dependencies = Dependencies({})
    kl: Mapping[str, str] = {}
    no_kl: Mapping[str, str] = {}
    improper: bool = False
    no_sticking: str | None = None
    again: frozenset[str] = frozenset()
    values: Mapping[str, torch.Tensor] = {}
    coupled: Mapping[str, frozenset[str]] = {}
    partly: frozenset[str] = frozenset()


class Findings(NamedTuple):
    """What the checks of a pair have found, for estimators to judge by.

    guide: a trace of the guide; sites: its latent sites, auxiliary ones too. vectorised: whether `vmap` accepts the
    pair. trained: sites whose distribution depends on parameters. finite: trained sites without `rsample`. plates: of
    each cost, the names of its plates; empty without finite sites. unsummed: {finite site: why it cannot be summed
    over}. jumps: {site with `rsample`: why its draw must not be differentiated}. facts: without the options yet.
    """

    pair: Pair
    guide: poutine.Trace
    vectorised: bool
    sites: dict[str, Site]
    trained: frozenset[str]
    finite: tuple[str, ...]
    plates: Plates
    unsummed: Mapping[str, str]
    jumps: Mapping[str, str]
    facts: Facts


class Choice(NamedTuple):
    """The sites that take one estimator in a plan. kl: {site: site of the model} where the term is analytic KL."""

    sites: list[str]
    kl: Mapping[str, str]
    facts: Facts


def always(site: Site) -> bool:
    return True


def lacks_rsample(site: Site) -> bool:
    return not has_rsample(site)


def never(*_: object) -> bool:
    return False


def as_it_is(recipe: Recipe, chosen: Choice) -> Recipe:
    """The sites need nothing beyond their draws."""
    return recipe


class Estimator(NamedTuple):
    """A gradient estimator: when it is unbiased, why it would be taken, and how its sites enter the objective.

    name: the word that a plan prints; the file has the same name. terms: how log q may enter beside it.
    why_not: {latent site: None where the estimator is unbiased, else why it is not}, of all sites at once.
    because: (site, findings, {estimator: why not} of the site) -> the reason that a plan prints.
    enter: adds the sites that take it to a recipe. baseline: what is subtracted from its costs, as a plan prints it.
    paired: whether antithetic pairs of particles quiet it.
    along_draw: whether its gradient is taken along the draw. comes_to_mind: whether a plan says why a site does not get
    it. can_be_forced: (site, why it is biased) -> whether `force=True` may carry it out all the same. beaten_by: (name
    of another estimator) -> whether that one, where legal, does the same with less noise in every case, so that no race
    is due.
    """

    name: str
    terms: tuple[str, ...]
    why_not: Callable[[Findings], Mapping[str, str | None]]
    because: Callable[[str, Findings, Mapping[str, str | None]], str]
    enter: Callable[[Recipe, Choice], Recipe] = as_it_is
    baseline: str = "-"
    paired: bool = False
    along_draw: bool = False
    comes_to_mind: Callable[[Site], bool] = always
    can_be_forced: Callable[[Site, str], bool] = never
    beaten_by: Callable[[str], bool] = never
