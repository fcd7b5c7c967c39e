"""Which entries of the data each observed site takes its values from, so that simulated values can be put there.

    site value v = data[argument].flatten()[places].reshape(v.shape)

A value that is a view of an argument (y, y[:, 0], y[1:], y.T) shares its memory; a copy in another dtype (y.long())
equals it; a copy of some entries (y[mask], torch.stack) is found by a run on data that numbers its entries.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..distributions.unwrap import kind
from ..pair.pair import Program
from ..runtime.generators import noise
from ..runtime.sites import Site, is_factor, observed, quoted, refuse_subsampled

NUMBERS = 0.125  # the first number of an entry on numbered data: no count, no index, and exact in single precision


class Origin(NamedTuple):
    """Where the values of an observed site stand in the data."""

    argument: int  # the index of the argument
    places: torch.Tensor  # indices into its flattened entries, in the shape of the site's value


def origins(
    model: Program, data: tuple[Any, ...], names: list[str], named: str | Mapping[str, str] | None = None
) -> dict[str, Origin]:
    """The origin of each observed site. names: of the arguments.

    named: the argument that the sites observe, or {site: argument}, where credo cannot find it by itself.
    Raises ValueError naming a site that cannot be simulated: a factor, a subsampled plate, values that are computed.
    """
    wanted = {} if named is None else _named(named, names)
    with noise(0), torch.no_grad(), pyro.validation_enabled(False), naming_undrawable():
        sites = observed(poutine.trace(model).get_trace(*data))
    if not sites:
        raise ValueError("the model observes nothing, so no data can be simulated; pass the observations: obs=y")
    refuse_subsampled(sites)
    for site in wanted.keys() - sites.keys() - {""}:
        raise ValueError(f"observed: got site {site!r}; the observed sites of the model are {quoted(sites)}")
    found = {}
    for name, site in sites.items():
        if is_factor(site):
            raise ValueError(
                f"site {name!r}: pyro.factor adds to the log density, and no draw of the data follows from it; write "
                f"it as a distribution, pyro.sample({name!r}, ..., obs=y)"
            )
        argument = wanted.get(name, wanted.get("") if len(sites) == 1 else None)
        found[name] = _origin(model, data, names, name, site, argument)
        _refuse_repeated(name, found[name], names)
    return found


@contextmanager
def naming_undrawable() -> Iterator[None]:
    """A site inside whose distribution has no draws raises ValueError, which names it."""
    last = _Last()
    try:
        with last:
            yield
    except NotImplementedError as error:
        raise ValueError(
            f"site {last.name!r}: {last.kind} has no draws (an improper prior), so data cannot be simulated; give it "
            f"a prior that integrates to 1: dist.Normal(0., 10.), say"
        ) from error


class _Last(Messenger):
    """Remembers the site that a program reached last."""

    name, kind = "", ""

    def _pyro_sample(self, msg: Any) -> None:
        self.name, self.kind = msg["name"], kind(msg["fn"])


def placed(
    data: tuple[Any, ...], found: Mapping[str, Origin], values: Mapping[str, torch.Tensor]
) -> dict[int, torch.Tensor]:
    """{argument: shape (S, *its shape)}: the data with the values (S, *shape) of the sites in place of its own.

    Entries that were not finite, missing values that the model leaves out, stay missing. An argument of whole numbers
    becomes floating point where a site draws others.
    """
    new: dict[int, torch.Tensor] = {}
    for name, origin in found.items():
        given, value = data[origin.argument], values[name]
        into = new.get(origin.argument, given.expand(len(value), *given.shape).clone())
        if not into.is_floating_point() and value.is_floating_point() and (value != value.round()).any():
            into = into.to(value.dtype)
        flat = into.reshape(len(value), -1)
        flat[:, origin.places.flatten()] = value.reshape(len(value), -1).to(into.dtype)
        into = flat.reshape(into.shape)
        new[origin.argument] = torch.where(given.isnan(), given, into) if given.is_floating_point() else into
    return new


def _named(named: str | Mapping[str, str], names: list[str]) -> dict[str, int]:
    """{site: index of the argument}; the site "" stands for a name alone."""
    by_site = {"": named} if isinstance(named, str) else dict(named)
    for argument in by_site.values():
        if argument not in names:
            raise ValueError(f"observed: got {argument!r}; the arguments of the model are {', '.join(names)}")
    return {site: names.index(argument) for site, argument in by_site.items()}


def _origin(
    model: Program, data: tuple[Any, ...], names: list[str], name: str, site: Site, argument: int | None
) -> Origin:
    value = site["value"]
    tensors = {i: v for i, v in enumerate(data) if isinstance(v, torch.Tensor) and argument in (None, i)}
    if isinstance(value, torch.Tensor):
        for i, given in tensors.items():
            if given.untyped_storage().data_ptr() == value.untyped_storage().data_ptr():
                places = torch.arange(given.untyped_storage().nbytes() // given.element_size())
                of_value = places.as_strided(value.shape, value.stride(), value.storage_offset())
                return Origin(i, of_value - int(given.storage_offset()))
        equal = [i for i, given in tensors.items() if _equal(given, value)]
        if len(equal) == 1 or (equal and argument is not None):
            return Origin(equal[0], torch.arange(value.numel()).reshape(value.shape))
        if not equal:
            for i, given in tensors.items():
                if (numbered := _by_numbers(model, data, name, i)) is not None and numbered.shape == value.shape:
                    if _equal(given.flatten()[numbered.flatten()], value):
                        return Origin(i, numbered)
    among = f"argument {names[argument]!r}" if argument is not None else f"the arguments ({', '.join(names)})"
    raise ValueError(
        f"site {name!r}: {kind(site['fn'])} observes values that are no entries of {among}, so simulated values have "
        f"no place in the data; pass the model what it observes (compute logarithms and standardise before the call), "
        f"as a tensor of its own, or name the argument if several hold the same numbers: observed={{{name!r}: 'y'}}"
    )


def _equal(given: torch.Tensor, value: torch.Tensor) -> bool:
    same = given.numel() == value.numel()
    return same and torch.equal(given.flatten().double().nan_to_num(), value.flatten().double().nan_to_num())


def _by_numbers(model: Program, data: tuple[Any, ...], name: str, argument: int) -> torch.Tensor | None:
    """The places of the site's values in the argument, by a run on data that numbers its entries; None if it fails."""
    given = data[argument]
    numbers = (torch.arange(given.numel()).reshape(given.shape)).to(given.dtype)
    numbers = numbers + NUMBERS if given.is_floating_point() else numbers
    try:
        with noise(0), torch.no_grad(), pyro.validation_enabled(False):
            trace = poutine.trace(model).get_trace(*data[:argument], numbers, *data[argument + 1 :])
        found = observed(trace)[name]["value"].double() - (NUMBERS if given.is_floating_point() else 0)
    except Exception:  # of a model that such data does not suit
        return None
    known = (found == found.round()).all() and found.min() >= 0 and found.max() < given.numel()
    return found.long() if known else None


def _refuse_repeated(name: str, origin: Origin, names: list[str]) -> None:
    if origin.places.unique().numel() < origin.places.numel():
        raise ValueError(
            f"site {name!r}: some entries of {names[origin.argument]} are observed several times, and draws of them "
            f"would differ; observe each entry once, in a plate that has it once"
        )
