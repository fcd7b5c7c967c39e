"""Which latents of a guide are independent normals with one parameter for loc and one for scale: natural gradients move
those.

    q(z) = N(loc, f(raw)²), elementwise, or T(z) of it      f: softplus, exp, or exp(raw / 2) for raw = log sd²

It is found out by a run of the guide: each parameter gets numbers of its own, and the distribution of the site must
have these very numbers as its loc and scale, with the derivatives to match.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch.nn.functional import softplus

from ..distributions.unwrap import unmasked
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.parameters import leaves_behind, unconstrained
from ..runtime.sites import latent, quoted
from .natural import Normal

FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softplus": softplus,
    "exp": torch.exp,
    "half_exp": lambda raw: (0.5 * raw).exp(),
}
CLOSE = 1e-4  # relative, between the scale of a site and f of its parameter, in single precision


class NotNatural(ValueError):
    """No latent of the guide is a normal that natural gradients could move: why not, for each."""


class Normals(NamedTuple):
    """The normals among the parameters of a run.

    pairs: of each normal, the places of loc and scale among `unconstrained()`. words: which sites they are, and why
    others are not.
    """

    pairs: tuple[Normal, ...]
    words: str


def normals(pair: Pair, seed: int) -> Normals:
    """The normals of the guide, whose parameters exist. No parameter or generator is changed.

    pair: on the data of a step. Raises NotNatural if there are none.
    """
    leaves = unconstrained()
    place = {id(leaf): i for i, leaf in enumerate(leaves.values())}
    with noise(seed), torch.enable_grad():
        sites = _sites(pair)
        found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        why: dict[str, str] = {}
        for name, site in sites.items():
            base = _normal(site["fn"])
            if isinstance(base, str):
                why[name] = base
                continue
            behind = [list({id(t): t for t in leaves_behind([part])}.values()) for part in (base.loc, base.scale)]
            known = [[t for t in part if id(t) in place] for part in behind]
            if [len(part) for part in known] != [1, 1] or known[0][0] is known[1][0]:
                why[name] = "its loc and scale are not one parameter each"
            else:
                found[name] = known[0][0], known[1][0]
        shared = _shared(sites, place)
        for name in [name for name, both in found.items() if any(id(t) in shared for t in both)]:
            del found[name]
            why[name] = "another site depends on its parameters"
        forms = _forms(pair, found, why)
    pairs = tuple((place[id(found[name][0])], place[id(found[name][1])], form) for name, form in forms.items())
    if not pairs:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(why.items())[:4]) or "it has no latent sites"
        raise NotNatural(
            f"optim: 'natural' moves independent normals, and the guide has none ({reasons}). Write "
            f"dist.Normal(loc, scale) with a pyro.param for each, scale with constraint softplus_positive or positive; "
            f"or use guide='mean_field', credo.nn.mean_field(net), or optim=None, which is Adam"
        )
    return Normals(pairs, _words(list(forms), why, len(leaves) > 2 * len(pairs)))


def _sites(pair: Pair) -> dict[str, Any]:
    """The sites of a run of the guide, given draws without a gradient: what a distribution depends on is its own."""
    drawn = poutine.trace(pair.guide).get_trace(*pair.data)
    for site in drawn.nodes.values():
        if site["type"] == "sample" and isinstance(site["value"], torch.Tensor):
            site["value"] = site["value"].detach()
    return latent(poutine.trace(poutine.replay(pair.guide, trace=drawn)).get_trace(*pair.data), auxiliary=True)


def _normal(fn: Any) -> Any:
    """The normal that a site draws from, also behind a transform without parameters; a str says why there is none."""
    while True:
        fn, kind = unmasked(fn), type(fn).__name__
        if kind == "Normal":
            return fn
        if kind == "Delta":
            return "a point"
        if kind not in ("Independent", "LogNormal", "TransformedDistribution") or not hasattr(fn, "base_dist"):
            return f"a {kind}, no independent normal"
        fn = fn.base_dist


def _shared(sites: dict[str, Any], place: dict[int, int]) -> set[int]:
    """The parameters that more than one site depends on."""
    seen: set[int] = set()
    twice: set[int] = set()
    for site in sites.values():
        now = {id(t) for t in leaves_behind(_tensors(site["fn"])) if id(t) in place}
        twice |= now & seen
        seen |= now
    return twice


def _tensors(fn: Any) -> list[torch.Tensor]:
    """The tensors in a distribution and in those that it wraps."""
    found = [value for value in vars(fn).values() if isinstance(value, torch.Tensor)]
    return found + [t for value in vars(fn).values() if hasattr(value, "log_prob") for t in _tensors(value)]


def _forms(pair: Pair, found: dict[str, tuple[torch.Tensor, torch.Tensor]], why: dict[str, str]) -> dict[str, str]:
    """{site: how its scale depends on its parameter}, where numbers of their own in the parameters show it."""
    forms: dict[str, str] = {}
    with _other_numbers(list(found.values())):
        sites = _sites(pair)
        for name, (loc, raw) in found.items():
            base: Any = _normal(sites[name]["fn"]) if name in sites else "not always there"
            form = None if isinstance(base, str) else next((f for f in FORMS if _is(f, raw, base.scale)), None)
            if form is None or not _is("", loc, base.loc):
                why[name] = "its loc is not a parameter itself, or its scale no softplus or exp of one"
            else:
                forms[name] = form
    return forms


@contextmanager
def _other_numbers(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[None]:
    """Inside, each of these parameters has different numbers, those of scales between -2 and 1."""
    before = [[t.detach().clone() for t in both] for both in pairs]
    try:
        with torch.no_grad():
            for loc, raw in pairs:
                loc.add_(0.1 * torch.randn_like(loc))
                raw.copy_(3 * torch.rand_like(raw) - 2)
        yield
    finally:
        with torch.no_grad():
            for both, values in zip(pairs, before, strict=True):
                for t, value in zip(both, values, strict=True):
                    t.copy_(value)


def _is(form: str, leaf: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether a tensor is this function of a parameter, number for number; "": the parameter itself."""
    if value.numel() != leaf.numel() or not value.requires_grad:
        return False
    wanted = FORMS[form](leaf) if form else leaf * 1
    if not torch.allclose(value.detach().flatten(), wanted.detach().flatten(), rtol=CLOSE, atol=0 if form else CLOSE):
        return False
    # J^T v for random v: J is diagonal, with the derivatives of f, or these would differ.
    v = torch.randn_like(value)
    both = [(value, v), (wanted, v.reshape(wanted.shape))]
    a, b = (torch.autograd.grad(y, leaf, u, retain_graph=True)[0] for y, u in both)
    return torch.allclose(a, b, rtol=CLOSE, atol=CLOSE * float(b.abs().max()))


def _words(moved: list[str], why: dict[str, str], others: bool) -> str:
    """What moves by natural gradients, and what by Adam and why, in a line."""
    text = f"natural gradients for {quoted(moved)}"
    reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(why.items())[:4])
    more = f"; and {len(why) - 4} more" if len(why) > 4 else ""
    return text + (f", Adam for all other parameters{f' ({reasons}{more})' if reasons else ''}" if others else "")
