"""Local reparametrisation: a Normal weight acts on each row with noise of its own (see `pair/local_reparam`).

The layer's output then has the right distribution row by row, but not for rows together. The mean of a cost stays as it
is if the cost reads one row alone: what moves with one half of the rows does not move with the other half, for any two
halves. And the layer must be all that reads the weight, except the weight's own KL from its prior.

Source: Kingma, Salimans and Welling 2015 (arXiv:1506.02557, eq. 6).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from ..distributions.unwrap import kind
from ..pair.costs import Costs, Key, Terms, run
from ..pair.local_reparam import LAYERS, bound, spatial
from ..pair.pair import Pair, Program
from ..runtime.generators import noise
from ..runtime.probes import at_a_draw, differing, look_near, probing
from ..runtime.sites import Site, drawn_sites, has_rsample
from ..runtime.traced import first_line, traced
from .estimator import ANALYTIC_KL, Choice, Estimator, Findings
from .recipe import Recipe

CHECKS = 6  # two rows that are read together fall into different halves in every second one
_LAYER = "layer"
APART = (
    "which 'local' draws apart, a network whose places do not share one weight as the model's do; 'flipout' keeps a "
    "row's together (force=True takes the other network, as Kingma et al. 2015 do for convolutions)"
)
_READS_NOTHING = {  # asks for nothing of a tensor's value
    *("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf", "grad_fn", "is_cuda", "is_sparse"),
    *("dim", "size", "numel", "stride", "__len__", "element_size", "is_floating_point", "is_contiguous"),
}
# (a layer's output, how many of its dimensions are space) -> that, or something in its place
Instead = Callable[[torch.Tensor, int], torch.Tensor]


def why_not(seen: Findings) -> dict[str, str | None]:
    """{site: None if "local" is unbiased, else why not}."""
    return per_row(seen, "local")


def per_row(seen: Findings, how: str) -> dict[str, str | None]:
    """{site: None if its weight may act on each row with noise of its own, else why not}. how: "local" or "flipout"."""
    paths = [
        name
        for name, site in seen.sites.items()
        if has_rsample(site) and name not in seen.jumps and name in seen.trained
    ]
    found = local_sites(seen.pair, paths, seen.facts.kl, how)
    return {name: found.get(name, "it is not differentiated along its draw") for name in seen.sites}


def local_sites(pair: Pair, names: list[str], kl: Mapping[str, str], how: str) -> dict[str, str | None]:
    """{site: None where its weight may act on each row with noise of its own, else why not}.

    names: latent sites of the guide. kl: those whose KL from the prior takes the place of log q - log p.
    how: "local" or "flipout".
    """
    why: dict[str, str | None] = dict.fromkeys(names)
    with probing(tuple(pair)):
        drawn = drawn_sites(traced(pair.guide, pair.data))
        for name in names:
            if name not in drawn:
                why[name] = "the guide does not draw it in every run"
                continue
            fn = drawn[name]["fn"]
            if kind(fn) != "Normal" or not fn.has_rsample:
                why[name] = f"its distribution is {kind(fn)}, and sums of draws are known for Normal alone"
            elif name not in kl:
                why[name] = "its KL from the prior is not known in closed form"
        left = [name for name in names if why[name] is None]
        layers: dict[int, list[str]] = {}  # the weight and the bias of a layer are looked at together
        if left:
            misused = at_a_draw(lambda _: _misused(pair, left))
            why |= {name: reason for name, (reason, _) in misused.items()}
            for name, (reason, call) in misused.items():
                if reason is None:
                    layers.setdefault(call, []).append(name)
        return why | {n: r for each in layers.values() for n, r in _coupled_rows(pair, each, kl, how).items()}


def because(name: str, seen: Findings, options: Mapping[str, str | None]) -> str:
    return "a weight of one layer: the layer's outputs are drawn for each row, so rows do not share its noise"


def enter(recipe: Recipe, chosen: Choice) -> Recipe:
    """The layers of these weights get noise for each row."""
    return enter_as("local", recipe, chosen)


def enter_as(how: str, recipe: Recipe, chosen: Choice) -> Recipe:
    """Adds the sites to the recipe's terms, so that their layers get noise for each row. how: as for `per_row`."""
    local = {**recipe.terms.local, **dict.fromkeys(chosen.sites, how)}
    return recipe._replace(terms=recipe.terms._replace(local=local))


def is_normal(site: Site) -> bool:
    return kind(site["fn"]) == "Normal"


def is_apart(site: Site, why: str) -> bool:
    """Whether the places of a convolution are all that stands against it: the published form for convolutions."""
    return why.endswith(APART)


def _misused(pair: Pair, names: list[str]) -> dict[str, tuple[str | None, int]]:
    """{site: (why not, by what reads its draw; the number of the layer whose weight or bias it is)}.

    What reads a draw: torch functions by name, `_LAYER` for each layer whose weight or bias it is.
    """
    guide, model = _Watch(names), _Watch(names)
    run(pair._replace(model=model.around(pair.model), guide=guide.around(pair.guide)))
    return {name: (_reason(guide.uses[name], model.uses[name]), model.layer.get(name, -1)) for name in names}


def _reason(guide: list[str], model: list[str]) -> str | None:
    others = sorted({use for use in model if use != _LAYER})
    if guide:
        return f"the guide goes on to read it ({guide[0].replace(_LAYER, 'a layer')})"
    if others:
        return f"the model reads it in {', '.join(others)}, not as the weight or bias of one layer alone"
    if len(model) > 1:
        return f"the model takes it for a weight of {len(model)} layers, which share one draw"
    return None if model else "the model does not take it for the weight or bias of a linear layer or convolution"


def _coupled_rows(pair: Pair, names: list[str], kl: Mapping[str, str], how: str) -> dict[str, str | None]:
    """Why not, found by running it at the parameters and near them. names: the weight, the bias of one layer."""
    try:
        for check in range(CHECKS):
            if reason := look_near(lambda: _coupled(pair, names, kl, how), 0.1 if check else 0.0):
                return dict.fromkeys(names, reason)
        run(pair, terms=Terms(kl=kl, local=dict.fromkeys(names, how)))
    except Exception as error:  # a layer of the user's own may raise anything: the pair itself has run before
        return dict.fromkeys(names, f"its layer cannot be run with noise for each row ({first_line(error)})")
    return dict.fromkeys(names)


def _coupled(pair: Pair, names: list[str], kl: Mapping[str, str], how: str) -> str | None:
    """Why not, by what moves with the layer's output: one look, at one set of latents."""
    sites = drawn_sites(traced(pair.guide, pair.data))
    held = {n: site["value"] for n, site in sites.items()}
    seen: list[tuple[torch.Tensor, int]] = []

    def costs(instead: Instead, values: dict[str, torch.Tensor] = held) -> Costs:
        watch = _Watch(names, instead)
        with noise(0):
            return run(pair._replace(model=watch.around(pair.model)), values, Terms(kl=kl)).costs

    def watched(out: torch.Tensor, space: int) -> torch.Tensor:
        seen.append((out, space))
        return out

    before = costs(watched)
    if len(seen) != 1:
        return "whether the model reads it depends on the values that it draws"
    out, space = seen[0]
    half = _half(out, space, how)
    size = 1 + out.std(correction=0)
    one, other = (out + torch.where(rows, size * torch.randn_like(out), 0.0) for rows in (half, ~half))
    other_draws = held | {name: sites[name]["fn"].sample() for name in names}
    if any(moved.any() for moved in _moved(before, costs(lambda *_: out, other_draws)).values()):
        return "the model reads it elsewhere too, out of sight of torch's functions"
    if half.all():  # one row
        return None
    first, second = _moved(before, costs(lambda *_: one)), _moved(before, costs(lambda *_: other))
    for key, moved in first.items():
        if (moved & second[key]).any():
            what, remedy = "rows", "(no plate over them? batch norm? a mean over rows?)"
            if how == "local" and out.dim() > 2:
                what, remedy = "places", APART
            return f"a log density of {key[1]!r} reads several {what} of its layer's output {remedy}"
    return None


def _half(out: torch.Tensor, space: int, how: str) -> torch.Tensor:
    """A random half of what gets noise of its own, to be broadcast against the output."""
    channels = out.dim() - 1 - space
    if how == "local":
        shape = [1 if d == channels else length for d, length in enumerate(out.shape)]
    else:
        shape = [length if d == 0 < channels else 1 for d, length in enumerate(out.shape)]
    n = torch.Size(shape).numel()
    return (torch.randperm(n, device=out.device) < (n + 1) // 2).reshape(shape)


def _moved(before: Costs, after: Costs) -> dict[Key, torch.Tensor]:
    return {key: differing(cost, after.get(key)) for key, cost in before.items()}


class _Watch(TorchFunctionMode):
    """Notes what reads the draws of these sites, and may put something in place of their layers' outputs."""

    def __init__(self, names: list[str], instead: Instead | None = None) -> None:
        super().__init__()
        self.draws: dict[int, tuple[str, torch.Tensor]] = {}  # by who they are: the value says nothing under vmap
        self.uses: dict[str, list[str]] = {name: [] for name in names}
        self.layer: dict[str, int] = {}  # which of the layers with such a weight or bias reads it, in their order
        self.layers = 0
        self.instead = instead

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        read = [id(leaf) for leaf in tree_leaves((args, kwargs)) if id(leaf) in self.draws]
        call = bound(args, kwargs) if read and func in LAYERS else {}
        taken = {id(call[key]) for key in ("weight", "bias") if key in call} & set(read)
        for draw in read:
            name = str(resolve_name(func) or getattr(func, "__name__", func))
            name += " (its input)" if id(call.get("input")) == draw else ""
            if draw in taken:
                self.layer[self.draws[draw][0]] = self.layers
            if not _READS_NOTHING & set(name.split(".")):
                self.uses[self.draws[draw][0]].append(_LAYER if draw in taken else name)
        self.layers += bool(taken)
        return self.instead(out, spatial(func, call["weight"])) if self.instead is not None and taken else out

    def around(self, program: Program) -> Program:
        """The program, watched."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            with self, _Given(self):
                return program(*args, **kwargs)

        return watched


class _Given(Messenger):
    """Tells a watch what the program is given for its sites."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.watch.uses:
            self.watch.draws[id(msg["value"])] = msg["name"], msg["value"]


ESTIMATOR = Estimator(
    "local", (ANALYTIC_KL,), why_not, because, enter, along_draw=True, comes_to_mind=is_normal, can_be_forced=is_apart
)
