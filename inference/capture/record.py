"""A program of tensors recorded once, as a graph of torch operators that can be run again without its Python.

    graph(*inputs, *constants) = program()        for the inputs that it was recorded with, and any others alike

Every operator is recorded below autograd and `vmap` (`make_fx`), so that gradients and particles are operators like any
other. What the program closes over is handed in by reference: changed in place, it is changed in the graph. A graph is
right only as long as the program does the same thing each time. Recording notices control flow on values by itself
(`NotCaptured`); it is done twice, and two recordings that differ betray a counter or a random number of Python's. What
neither sees, `shadow` may.
"""

import linecache
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pyro
import torch
from torch.distributions import Distribution
from torch.fx.experimental import proxy_tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ..runtime.generators import generators_kept
from .gather import GatherIndices
from .outside import line

_OURS = str(Path(__file__).parents[1])  # all rooms of the engine
_OTHERS = _OURS, *(str(Path(file).parent) for file in (torch.__file__, pyro.__file__, linecache.__file__))


class NotCaptured(Exception):
    """The program does not stay the same, or its control flow depends on values. Says what and, if known, the line."""


class Recording(NamedTuple):
    """code: of a function `forward(self, *inputs, *constants)`. run: the same without `self`, as fast as torch runs it,
    and with more outputs after those. constants: the tensors that the program closes over.
    """

    code: str
    run: Callable[..., Sequence[torch.Tensor]]
    constants: list[torch.Tensor]


def record(
    program: Callable[[], list[torch.Tensor]], inputs: list[torch.Tensor], buffers: Iterable[torch.Tensor] = ()
) -> Recording:
    """Records the program, which reads these very tensors. buffers: what it may change on the way; put back afterwards.

    The generators stay as they were. Raises NotCaptured.
    """
    known = set(pyro.get_param_store().keys())
    found = []
    buffers = list(buffers)
    with generators_kept(), kept(buffers), mock.patch.object(Distribution, "_validate_sample", _unseen):
        for _ in range(2):
            try:
                found.append(_recorded(program, inputs, {id(b) for b in buffers}))
            except NotCaptured:
                raise
            except Exception as error:  # whatever the user's code may raise
                raise NotCaptured(_why(error)) from error
        last = _interpreted(found[1], [*inputs, *found[1].constants])
    if new := sorted(set(pyro.get_param_store().keys()) - known):
        raise NotCaptured(f"parameter {new[0]!r} appears in some runs only")
    if why := _difference(*found):
        raise NotCaptured(why)
    return last


@contextmanager
def kept(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """These tensors hold afterwards what they held before."""
    saved = [(tensor, tensor.clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in saved:
                tensor.copy_(value)


def _unseen(self: Distribution, value: torch.Tensor) -> None:
    """A distribution made outside of a run may look at values in Python; what is recorded does not."""


def _recorded(program: Callable[[], list[torch.Tensor]], inputs: list[torch.Tensor], may_change: set[int]) -> Recording:
    # Private to torch, tried with 2.13, named by tests/inference/test_capture.py: it takes more than half of the time.
    with mock.patch.object(proxy_tensor, "set_meta", lambda proxy, value: proxy), GatherIndices():
        module = make_fx(lambda *_: program())(*inputs)
    graph = module.graph
    places = [node for node in graph.nodes if node.op == "placeholder"]
    by_id = {id(tensor): node for tensor, node in zip(inputs, places, strict=True)}
    constants: list[torch.Tensor] = []
    held = set(places)
    last = places[-1]
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        tensor = getattr(module, node.target)
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise NotCaptured("it reads a sparse tensor, or something else that is no plain tensor")
        if id(tensor) not in by_id:
            with graph.inserting_after(last):
                last = by_id[id(tensor)] = graph.placeholder(f"constant{len(constants)}")
            constants.append(tensor.detach())
            if id(tensor) not in may_change:
                held.add(last)
        node.replace_all_uses_with(by_id[id(tensor)])
        graph.erase_node(node)
    _refuse_writes(graph, held)
    graph.eliminate_dead_code()
    module.recompile()
    code = module.code
    # A draw that nothing uses moves the generator all the same: returned, no optimisation leaves it out.
    idle = [node for node in graph.nodes if not node.users and _is_random(node)]
    if idle:
        (output,) = (node for node in graph.nodes if node.op == "output")
        output.args = ([*output.args[0], *idle],)
        module.recompile()
    return Recording(code, module.forward, constants)


def _refuse_writes(graph: torch.fx.Graph, held: set[torch.fx.Node]) -> None:
    """Raises NotCaptured if the program changes one of these tensors in place: looking at it would move it on."""
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            if isinstance(value, torch.fx.Node) and value in held and argument.alias_info is not None:
                if argument.alias_info.is_write:
                    raise NotCaptured("it changes a tensor in place that is not its own")
                held.add(node)  # a view of it


def _is_random(node: torch.fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _interpreted(captured: Recording, inputs: list[torch.Tensor]) -> Recording:
    """The same operators without Python between them: torch's own interpreter, where this torch has it still. On a GPU
    it would fuse them, and round otherwise than the program: there the graph stays as it is, for a CUDA graph.

    Private to torch, tried with 2.13. `torch.jit.trace`, the same in public, keeps the tensors of a trace for ever.
    """
    if any(t.device.type != "cpu" for t in inputs):
        return captured
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            graph, _ = torch._C._create_graph_by_tracing(
                lambda *given: tuple(captured.run(*given)),
                tuple(t.detach() for t in inputs),
                lambda variable: "",  # its name
                True,  # strict: containers as they are
                False,  # no operator made to work out of place
                None,  # of no module
                [f"input{i}" for i in range(len(inputs))],
            )
            return captured._replace(run=torch._C._create_function_from_graph("step", graph))
        except Exception:  # an operator that it does not know: the graph as it is does as well
            return captured


def _difference(one: Recording, two: Recording) -> str | None:
    if one.code != two.code:
        pairs = zip(one.code.splitlines(), two.code.splitlines(), strict=False)
        line = next((f": {a.strip()} / {b.strip()}" for a, b in pairs if a != b), "")
        return f"two recordings differ, as with a counter or a random number in Python{line[:120]}"
    for a, b in zip(one.constants, two.constants, strict=True):
        same = a.data_ptr() == b.data_ptr() or (a.shape == b.shape and torch.equal(a, b))
        if not same and not (a.isnan() & b.isnan()).any():
            return f"two recordings hold different numbers ({_shown(a)} / {_shown(b)}), as with a counter in Python"
    return None


def _shown(t: torch.Tensor) -> str:
    return f"{t.item():g}" if t.numel() == 1 else f"a tensor of shape {tuple(t.shape)}"


def _why(error: BaseException) -> str:
    """The reason in a few words, and the last line of the user's own code on the way to it."""
    text = str(error)
    if "value out of a tracing tensor" in text or "data-dependent" in text:
        text = "Python looks at the value of a tensor that changes from step to step"
    elif "numpy" in text.lower():
        text = "a tensor that changes from step to step leaves torch for NumPy"
    else:
        text = f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"[:160]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    if not frames:
        return text
    return text + line(frames[-1].filename, frames[-1].lineno or 0)


def _is_users(path: str) -> bool:
    return not path.startswith(_OTHERS)
