"""Finds programs that do not repeat themselves: noise and counters outside of sample sites.

At the same latents a density must be the same number. Noise that no site holds is averaged over by the gradient,
E_e[log p(x | z, e)], where the posterior has log E_e[p(x | z, e)]. Taken as meant: dropout, random minibatches (in a
plate with a larger size, or with a scale), and a little noise on the observations (dequantisation, augmentation).
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import nn
from torch.overrides import TorchFunctionMode

from ..distributions.unwrap import unwrapped
from ..inputs.places import Place, is_the_users_file
from ..pair.pair import Program
from ..runtime.generators import generators_kept, torch_states
from ..runtime.parameters import leaves_behind
from ..runtime.probes import nearly_equal, without_dropout
from ..runtime.reachable import reachable
from ..runtime.sites import Site, is_index, latent

SHOWN = 3  # lines in a message
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)


def run_again(program: Program, trace: poutine.Trace, data: tuple[Any, ...], seed: int = 1) -> poutine.Trace | None:
    """Another trace at the draws of the first, scored, with noise of its own. None if the program fails now.

    The indices of subsampled plates are chosen anew, whoever chooses them.
    """
    held = trace.copy()
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and is_index(site) and _is_part(site):
            held.remove_node(name)
    with generators_kept():
        pyro.set_rng_seed(seed)
        try:
            again = poutine.trace(poutine.replay(program, trace=held)).get_trace(*data)
            again.compute_log_prob()
        except Exception:  # whatever the user's code may raise in a second run: it is not known whether it repeats
            return None
    return again


def unsteady(
    what: str, program: Program, first: poutine.Trace, again: poutine.Trace | None, data: tuple[Any, ...]
) -> list[str]:
    """A warning if the densities in two traces at the same draws differ. what: "model" or "guide", for the message."""
    if again is None or _moved(first, again) is None:
        return []
    held, latents = _leaves(first) if what == "model" else (first, frozenset[int]())
    with _DropoutOff(latents), without_dropout((program, data)):
        third = run_again(program, held, data, seed=2)
        fourth = None if third is None else run_again(program, third, data, seed=3)
    if third is None or fourth is None or (name := _moved(third, fourth)) is None:
        return []  # dropout alone
    lines = _lines_that_draw(program, held, data, latents)
    if not lines:
        return [
            f"site {name!r}: the {what} gives it another density each time it is run at the same latents, although it "
            f"draws from no generator of torch, NumPy or Python: does it count its calls, read a clock, or change a "
            f"global? Make the number an argument, or a latent with pyro.sample"
        ]
    shown = ", ".join(map(str, lines[:SHOWN]))
    return [
        f"{shown}: the {what} draws random numbers outside of a sample site, so that site {name!r} has another density "
        f"each time at the same latents, and the fit is not the posterior (its sds are too small, as a rule). Draw "
        f"them with pyro.sample, as latents; noise that only augments the data may stay"
    ]


def _moved(one: poutine.Trace, two: poutine.Trace) -> str | None:
    """The name of the first site whose density differs."""
    for name, site in one.nodes.items():
        other = two.nodes.get(name)
        if site["type"] != "sample" or is_index(site) or other is None or _is_weighted(site):
            continue
        before, after = _density(site), _density(other)
        if before.shape == after.shape and nearly_equal(before, after):
            continue
        if not (site["is_observed"] and _is_augmented(site, other)):
            return str(name)
    return None


def _density(site: Site) -> torch.Tensor:
    """The log density of a site at its value; the point itself for a guide that holds the site at a point."""
    point = getattr(unwrapped(site["fn"]), "v", None)
    if site["infer"].get("_deterministic"):  # in a plate of N rows the point has N x N numbers
        point = site["value"]
    value: torch.Tensor = site["unscaled_log_prob"] if point is None else point
    return value if value.is_floating_point() else value.double()


def _is_part(index: Site) -> bool:
    return bool(torch.as_tensor(index["value"]).numel() < index["fn"].size)


def _is_weighted(site: Site) -> bool:
    """Whether a site stands for more than itself: in a plate of which it has a part, or with a scale."""
    part = any(f.full_size is not None and f.full_size > f.size for f in site["cond_indep_stack"])
    return part or bool((torch.as_tensor(site["scale"]) != 1).any())


def _is_augmented(site: Site, other: Site) -> bool:
    """Whether only the observed value differs, and by less than half of its spread."""
    x, y = site["value"], other["value"]
    if not (torch.is_tensor(x) and torch.is_tensor(y)) or x.shape != y.shape or torch.equal(x, y) or x.numel() < 2:
        return False
    try:
        same = nearly_equal(site["unscaled_log_prob"], other["fn"].log_prob(x))
    except (ValueError, RuntimeError):
        return False
    x, y = x.double(), y.double()
    return same and bool((x - y).std() < 0.5 * x.std())


def _leaves(trace: poutine.Trace) -> tuple[poutine.Trace, frozenset[int]]:
    """(a copy of a trace whose latents are leaves with a gradient, the ids of these leaves)."""
    held, found = trace.copy(), []
    for name, site in latent(trace).items():
        value = site["value"]
        if torch.is_tensor(value) and value.is_floating_point():
            held.nodes[name] = {**site, "value": value.detach().requires_grad_()}
            found.append(id(held.nodes[name]["value"]))
    return held, frozenset(found)


class _DropoutOff(TorchFunctionMode):
    """Functions of torch called dropout return their input inside, except for what is computed from latents.

    Dropout of a network's activations is meant, also where its method calls F.dropout. A latent that the program itself
    hides by chance is noise without a site. latents: the ids of the leaves that they are.
    """

    def __init__(self, latents: frozenset[int]) -> None:
        super().__init__()
        self.latents = latents

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if "dropout" in name and args and isinstance(args[0], torch.Tensor):
            if _in_a_network() or self.latents.isdisjoint(map(id, leaves_behind([args[0]]))):
                return args[0]
        return func(*args, **(kwargs or {}))


def _in_a_network() -> bool:
    """Whether the line of the user that runs now is in a method of a network that draws no site of its own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_the_users_file(frame.f_code.co_filename):
        frame = frame.f_back
    names = () if frame is None else frame.f_code.co_varnames[: frame.f_code.co_argcount]
    owner = None if frame is None or not names else frame.f_locals.get(names[0])
    return isinstance(owner, nn.Module) and not isinstance(owner, PyroModule)


def _lines_that_draw(
    program: Program, trace: poutine.Trace, data: tuple[Any, ...], latents: frozenset[int]
) -> list[Place]:
    """The lines of the user that draw random numbers while the program is replayed at the draws of this trace."""
    own = [thing for thing in reachable((program, data)) if isinstance(thing, GENERATORS)]
    with generators_kept(), _DropoutOff(latents), without_dropout((program, data)), _watching(own) as found:
        try:
            poutine.trace(poutine.replay(program, trace=trace)).get_trace(*data)
        except Exception:  # the lines until then are right
            pass
    return list(dict.fromkeys(found))


@contextmanager
def _watching(own: list[Any]) -> Iterator[list[Place]]:
    """Inside: each line of the user after which a generator, global or one of these, has another state is noted."""
    found: list[Place] = []
    state = [_fingerprint(own)]
    running: list[Place | None] = [None]

    def moved(now: Place | None) -> None:
        if (current := _fingerprint(own)) != state[0]:
            state[0] = current
            if running[0] is not None:
                found.append(running[0])
        running[0] = now

    def watch(frame: Any, event: str, argument: Any) -> Any:
        if not is_the_users_file(frame.f_code.co_filename):
            return None
        if event == "return":
            back = frame.f_back
            while back is not None and not is_the_users_file(back.f_code.co_filename):
                back = back.f_back
            moved(None if back is None else Place(back.f_code.co_filename, back.f_lineno, 0))
        else:
            moved(Place(frame.f_code.co_filename, frame.f_lineno, 0))
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield found
    finally:
        sys.settrace(before)


def _fingerprint(own: list[Any]) -> tuple[Any, ...]:
    """The states of the global generators and of these."""
    _, keys, *rest = np.random.get_state()
    held = tuple(map(_state, own))
    return *(state.numpy().tobytes() for state in torch_states()), keys[0], rest, random.getstate(), held


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return repr(generator.get_state(legacy=False))
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state().numpy().tobytes()
