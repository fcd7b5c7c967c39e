"""Finds mistakes about parameters: one name for two things, tensors that are not trained, sites that cannot differ.

Tied weights, networks that model and guide share, and a parameter that is fetched again by its name are sound.
"""

import inspect
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import nn
from torch.distributions import constraints

from ..distributions.unwrap import unwrapped
from ..inputs.places import Place, calling_places
from ..runtime.parameters import leaves_behind, unconstrained
from ..runtime.reachable import reachable
from ..runtime.sites import latent, quoted

CALLERS = 4  # lines of the user's program that tell two calls of pyro.param apart: helpers that call helpers
FEW = 16  # operators from a parameter to the distribution of a site that has it for its own


class ParameterCall(NamedTuple):
    """One call of pyro.param: the parameter, the line and its callers, and whether a starting value was given."""

    name: str
    places: tuple[Place, ...]
    starts: bool

    @property
    def place(self) -> Place | None:
        """The line of the call."""
        return self.places[0] if self.places else None


class ParameterCalls(Messenger):
    """Records the calls of pyro.param inside, and gives each parameter a starting tensor of its own.

    Pyro would train the tensor that it is given in place: two parameters that start from one tensor would be one, and
    data that a parameter starts from would change. Parameters of modules are left as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[ParameterCall] = []

    def _pyro_param(self, msg: Any) -> None:
        if "." not in msg["name"] and "$$$" not in msg["name"]:
            self.calls.append(ParameterCall(msg["name"], calling_places(CALLERS), len(msg["args"]) > 1))
            name, *start = msg["args"]
            constraint = msg["kwargs"].get("constraint", constraints.real)
            if start and isinstance(start[0], torch.Tensor) and name not in pyro.get_param_store():
                _refuse_start(name, start[0], constraint)
            if start and isinstance(start[0], torch.Tensor) and not start[0].requires_grad:
                msg["args"] = (name, start[0].clone())


def _refuse_start(name: str, start: torch.Tensor, constraint: Any) -> None:
    """Raises ValueError for a starting value outside of the constraint of its parameter, or one that is not finite."""
    try:
        inside = torch.as_tensor(constraint.check(start.detach()))
    except (NotImplementedError, RuntimeError, TypeError):  # a constraint that cannot be checked
        return
    if not (inside.all() and torch.isfinite(start).all()):
        raise ValueError(
            f"parameter {name!r}: its starting value {start.detach().flatten()[:4].tolist()} does not satisfy its "
            f"constraint, {constraint}; start it inside"
        )


def one_name_twice(model: list[ParameterCall], guide: list[ParameterCall]) -> list[str]:
    """A warning for each parameter of both model and guide, and for each that two lines of one program create."""
    found = []
    both = {call.name for call in model} & {call.name for call in guide}
    for name in sorted(both):
        found.append(
            f"parameter {name!r} is in the model and in the guide ({_places(name, model)}; {_places(name, guide)}): "
            f"they share one value, and each pulls it its own way. Give the one of the guide another name, unless this "
            f"is meant"
        )
    for what, calls in (("model", model), ("guide", guide)):
        created = {call.name: [c for c in calls if c.name == call.name and c.starts and c.place] for call in calls}
        for name, places in created.items():
            if name not in both and len({c.place for c in places}) > 1:
                found.append(
                    f"parameter {name!r} is created twice in the {what} ({_places(name, places)}): both get the first "
                    f"value and are trained as one. Give each its own name; if one is meant, write "
                    f"pyro.param({name!r}) the second time, without a starting value"
                )
    return found


def tied_sites(guide: poutine.Trace) -> list[str]:
    """A warning for sites that the guide draws from the same parameters: they have one distribution for ever."""
    groups: dict[Any, list[str]] = {}
    sites = {n: s for n, s in latent(guide).items() if all(f.vectorized for f in s["cond_indep_stack"])}  # no loop's
    for name, site in sites.items() if len(sites) > 1 else ():
        fn = unwrapped(site["fn"])
        own = [_own_leaves(t) for t in vars(fn).values() if isinstance(t, torch.Tensor)]
        if None not in own and any(own) and torch.is_tensor(site["value"]):
            key = (frozenset(i for leaves in own for i in leaves or ()), type(fn), site["fn"].batch_shape)
            groups.setdefault(key, []).append(name)
    found = []
    for names in groups.values():
        if len(names) > 1 and _same_for_ever([sites[name]["fn"] for name in names], sites[names[0]]["value"]):
            found.append(
                f"{quoted(names)}: the guide draws them from one distribution with the same parameters, so that they "
                f"cannot differ; give each site parameters of its own, unless this is meant"
            )
    return found


def one_for_two_sites(guide: poutine.Trace, calls: list[ParameterCall]) -> list[str]:
    """A warning for each parameter that the guide creates for one site and again for another, in a helper or a loop.

    A scale that a loop shares, and a parameter that is created once and used twice, are taken as meant.
    """
    starts = [call for call in calls if call.starts]
    many = {name for name, count in Counter(call.name for call in starts).items() if count > 1}
    again = {name: {call.places for call in starts if call.name == name} for name in many}
    found, leaves = [], unconstrained() if again else {}
    for name in again.keys() & leaves.keys():
        uses: dict[str, dict[str, torch.Tensor]] = {}
        for site, message in latent(guide).items():
            for argument, value in _arguments(message["fn"]).items():
                if _own_leaves(value) == {id(leaves[name])}:
                    uses.setdefault(argument, {})[site] = value
        for argument, values in uses.items():
            helper = len({places[:1] for places in again[name]}) == 1 < len(again[name])
            first = next(iter(values.values()))
            same = [site for site, value in values.items() if value.shape == first.shape and torch.equal(value, first)]
            if len(same) > 1 and (helper or argument == "loc"):
                found.append(
                    f"parameter {name!r} is created anew for each of {quoted(same)} in the guide, and is the "
                    f"{argument} of all: they get one value. Give each its own name; if one is meant, create it once, "
                    f"{argument} = pyro.param({name!r}, ...), and use it for all"
                )
    return found


def _arguments(fn: Any) -> dict[str, torch.Tensor]:
    """The arguments of a distribution by name; of a transformed one those of its base."""
    fn = unwrapped(fn)
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    known = {name: getattr(fn, name, None) for name in getattr(fn, "arg_constraints", {})}
    return {name: value for name, value in known.items() if isinstance(value, torch.Tensor)}


def _same_for_ever(fns: list[Any], value: torch.Tensor) -> bool:
    """Whether densities and their gradients are equal at this value; those of entries m[0], m[1] of one m differ."""
    if len({fn.shape() for fn in fns}) > 1:  # the sites of AutoMultivariateNormal hang on one normal, in any shape
        return False
    with torch.enable_grad():
        costs = [fn.log_prob(value.detach()).sum() for fn in fns]
    if not all(cost.requires_grad for cost in costs):  # points: the sites of AutoDiagonalNormal, say
        return False
    leaves = list({id(leaf): leaf for leaf in leaves_behind(costs)}.values())
    if not leaves or not all(cost.requires_grad for cost in costs):  # points, of an autoguide say
        return False
    slopes = [torch.autograd.grad(cost, leaves, retain_graph=True, allow_unused=True) for cost in costs]
    equal = all(torch.equal(one, two) for one, two in pairwise(costs))
    return equal and all(
        (one is None) == (two is None) and (one is None or two is None or torch.equal(one, two))
        for first, second in pairwise(slopes)
        for one, two in zip(first, second, strict=True)
    )


def untrained(model: poutine.Trace, guide: poutine.Trace, things: tuple[Any, ...], data: tuple[Any, ...]) -> list[str]:
    """A warning for each tensor that requires a gradient, enters a density and is no parameter: it is never trained.

    Raises ValueError if no density depends on any parameter.
    model, guide: traces, already scored. things: where to look for the names of such tensors. A network in evaluation
    mode is taken as frozen on purpose.
    """
    costs = [site["log_prob"] for trace in (model, guide) for site in trace.nodes.values() if "log_prob" in site]
    leaves = {id(leaf): leaf for leaf in leaves_behind(costs)}
    own = unconstrained()
    known = {id(t) for t in (*own.values(), *(v for v in data if isinstance(v, torch.Tensor)))}
    loose = {i: leaf for i, leaf in leaves.items() if i not in known}
    found = []
    networks = [] if not loose else [thing for thing in reachable(things) if isinstance(thing, nn.Module)]
    for network in networks:
        weights = {id(p) for p in network.parameters()} & loose.keys()
        if weights and network.training:
            found.append(
                f"{len(weights)} weights of a network ({type(network).__name__}) are not trained: the pair uses it "
                f"without registering it. Write pyro.module('net', net) in the model or the guide; if it is to stay "
                f"as it is, freeze it with net.requires_grad_(False)"
            )
        loose = {i: leaf for i, leaf in loose.items() if i not in weights}
    names = dict(_named_tensors(things)) if loose else {}
    for i, leaf in loose.items():
        name = f"{names[i]!r}" if i in names else f"of shape {tuple(leaf.shape)}"
        found.append(
            f"the tensor {name} requires a gradient but is no parameter, so it is never trained; write "
            f"pyro.param({names.get(i, 'name')!r}, starting value), or give it requires_grad=False"
        )
    if own and torch.is_grad_enabled() and not any(id(p) in leaves for p in own.values()):
        reasons = "; ".join(found) or "are they detached, read as numbers (.item()), or used by no site?"
        raise ValueError(f"no density depends on a parameter ({', '.join(map(repr, list(own)[:4]))}): {reasons}")
    return found


def _places(name: str, calls: list[ParameterCall]) -> str:
    return ", ".join(dict.fromkeys(str(call.place or name) for call in calls if call.name == name))


def _own_leaves(tensor: torch.Tensor) -> frozenset[int] | None:
    """The ids of the leaf tensors a few operators behind this one; None if there is more behind it."""
    if tensor.grad_fn is None:
        return frozenset([id(tensor)]) if tensor.requires_grad else frozenset()
    todo, seen, found = [tensor.grad_fn], 0, set()
    while todo:
        function: Any = todo.pop()
        seen += 1
        if seen > FEW:
            return None
        if (leaf := getattr(function, "variable", None)) is not None:
            found.add(id(leaf))
        todo.extend(f for f, _ in function.next_functions if f is not None)
    return frozenset(found)


def _named_tensors(things: tuple[Any, ...]) -> Iterator[tuple[int, str]]:
    """(id, name) of the tensors that functions close over, read as globals, or that objects hold."""
    for thing in reachable(things):
        named: dict[str, Any] = {}
        if inspect.isfunction(thing):
            scope = inspect.getclosurevars(thing)
            named = {**scope.nonlocals, **scope.globals}
        elif isinstance(thing, dict):
            named = {str(k): v for k, v in thing.items()}
        for name, value in named.items():
            if isinstance(value, torch.Tensor):
                yield id(value), name
            elif isinstance(value, list | tuple):
                yield from ((id(v), f"{name}[{i}]") for i, v in enumerate(value) if isinstance(v, torch.Tensor))
