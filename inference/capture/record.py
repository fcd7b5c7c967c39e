"""A program of tensors, recorded once as a graph of torch operators that runs again without the program's Python.

    graph(*inputs, *constants) = program()        for the recorded inputs, and for others of the same shapes and types

`make_fx` records every operator below autograd and `vmap`, so gradients and batched draws are operators like others.
The graph holds the tensors that the program closes over by reference: it sees their changes in place. A graph is right
only while the program does the same thing each time. Recording notices control flow on values by itself. It is done
twice: two recordings that differ reveal a counter or a random number in Python. `replay.check_against_program` finds
more. Each refusal is a `NotCaptured`. Where the program raises LinAlgError, the graph's first output is NaN.
"""

import math
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pyro
import torch
from torch.distributions import Distribution
from torch.fx.experimental import proxy_tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ..runtime.generators import generators_kept
from ..runtime.replaced import attribute_replaced
from .gather import GatherIndices
from .outside import source_line
from .places import is_the_users_file
from .reads import Reading, Reads, reads_of


class NotCaptured(Exception):
    """A program that changes from run to run, or whose control flow depends on values: what, and the line if known."""


class Recording(NamedTuple):
    """A recorded program.

    code: the source of a function `forward(self, *inputs, *constants)`. run: the same function without `self`, as fast
    as torch runs it; it may return further outputs after those of the program. constants: the tensors that the program
    closes over.
    """

    code: str
    run: Callable[..., Sequence[torch.Tensor]]
    constants: list[torch.Tensor]
    reads: Reads | None = None  # the values that Python read from the data: the recording holds for no others


def record(
    program: Callable[[], list[torch.Tensor]],
    inputs: list[torch.Tensor],
    buffers: Iterable[torch.Tensor] = (),
    data: Iterable[int] = (),
) -> Recording:
    """Records a program that reads the tensors `inputs`. data: positions of those whose values Python may read.

    buffers: the tensors that the program may change in place; their values are put back, and so are the random
    generators. Raises NotCaptured.
    """
    known = set(pyro.get_param_store().keys())
    found = []
    buffers, data = list(buffers), list(data)
    with generators_kept(), values_kept(buffers), attribute_replaced(Distribution, "_validate_sample", _unchecked):
        for _ in range(2):
            try:
                found.append(_recorded(program, inputs, {id(b) for b in buffers}, data))
            except NotCaptured:
                raise
            except Exception as error:  # whatever the user's code may raise
                raise NotCaptured(_reason(error)) from error
        last = _interpreted(found[1], [*inputs, *found[1].constants])
    if new := sorted(set(pyro.get_param_store().keys()) - known):
        raise NotCaptured(f"parameter {new[0]!r} appears in some runs only")
    if difference := _difference(*found):
        raise NotCaptured(difference)
    return last


@contextmanager
def values_kept(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Puts the values of these tensors back afterwards, also after an error."""
    saved = [(tensor, tensor.clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in saved:
                tensor.copy_(value)


def _unchecked(self: Distribution, value: torch.Tensor) -> None:
    """Replaces `_validate_sample`, which reads values in Python; distributions made before a run still call it."""


def _recorded(
    program: Callable[[], list[torch.Tensor]], inputs: list[torch.Tensor], may_change: set[int], data: Iterable[int]
) -> Recording:
    # set_meta, private to torch, takes more than half of the time. tests/inference/capture/test_record.py checks that
    # it is still there; tried with torch 2.13.
    reading = Reading(data, may_change)

    def read(*_: torch.Tensor) -> list[torch.Tensor]:
        with reading:
            return program()

    with attribute_replaced(proxy_tensor, "set_meta", lambda proxy, value: proxy), GatherIndices():
        module = make_fx(read)(*inputs)
    reads = reads_of(reading, module)
    graph = module.graph
    places = [node for node in graph.nodes if node.op == "placeholder"]
    by_id = {id(tensor): node for tensor, node in zip(inputs, places, strict=True)}
    constants: list[torch.Tensor] = []
    read_only = set(places)
    last = places[-1]
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        tensor = getattr(module, node.target)
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise NotCaptured("it reads a sparse tensor, or an object that is not a plain tensor")
        if id(tensor) not in by_id:
            with graph.inserting_after(last):
                last = by_id[id(tensor)] = graph.placeholder(f"constant{len(constants)}")
            constants.append(tensor.detach())
            if id(tensor) not in may_change:
                read_only.add(last)
        node.replace_all_uses_with(by_id[id(tensor)])
        graph.erase_node(node)
    _refuse_writes(graph, read_only)
    _nan_for_failed_factors(graph)
    graph.eliminate_dead_code()
    constants = _used(graph, constants, list(by_id.values())[len(places) :])
    module.recompile()
    code = module.code
    # An unused draw still advances the generator. As an output of the graph, no optimisation removes it.
    unused = [node for node in graph.nodes if not node.users and _is_random(node)]
    if unused:
        (output,) = (node for node in graph.nodes if node.op == "output")
        output.args = ([*output.args[0], *unused],)
        module.recompile()
    return Recording(code, module.forward, constants, reads)


def _used(graph: torch.fx.Graph, constants: list[torch.Tensor], nodes: list[torch.fx.Node]) -> list[torch.Tensor]:
    """The constants that the graph reads; the others leave it, as the empty tensor that each pyro.plate makes."""
    used = [tensor for tensor, node in zip(constants, nodes, strict=True) if node.users]
    for node in nodes:
        if not node.users:
            graph.erase_node(node)
    return used


def _refuse_writes(graph: torch.fx.Graph, read_only: set[torch.fx.Node]) -> None:
    """Raises NotCaptured if the program changes a read-only tensor in place: a check of the step would change it too.

    Views of read-only tensors are added to the set.
    """
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            if isinstance(value, torch.fx.Node) and value in read_only and argument.alias_info is not None:
                if argument.alias_info.is_write:
                    raise NotCaptured("it changes a tensor in place that it did not create")
                read_only.add(node)  # a view


def _nan_for_failed_factors(graph: torch.fx.Graph) -> None:
    """Makes the first output NaN where a matrix has no factor or no inverse, as a Cholesky factor at a bad draw.

    The program raises LinAlgError there; a graph cannot, since interpreter and compiler drop the check that raises it.
    """
    (output,) = (node for node in graph.nodes if node.op == "output")
    first, *rest = output.args[0]
    for node in [node for node in graph.nodes if node.target is torch.ops.aten._linalg_check_errors.default]:
        with graph.inserting_before(output):
            failed = graph.call_function(torch.ops.aten.any.default, (node.args[0],))  # 0 where it succeeded
            first = graph.call_function(torch.ops.aten.masked_fill.Scalar, (first, failed, math.nan))
        graph.erase_node(node)
    output.args = ([first, *rest],)


def _is_random(node: torch.fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _interpreted(recording: Recording, inputs: list[torch.Tensor]) -> Recording:
    """The same recording, run by torch's own interpreter without Python between operators; unchanged if torch has none.

    On a GPU the interpreter would fuse operators and round differently, so the recording stays as it is there, for a
    CUDA graph. The interpreter is private to torch (tried with 2.13): `torch.jit.trace`, the public way to it, keeps
    the tensors of each trace for the life of the process.
    """
    if any(t.device.type != "cpu" for t in inputs):
        return recording
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            graph, _ = torch._C._create_graph_by_tracing(
                lambda *given: tuple(recording.run(*given)),
                tuple(t.detach() for t in inputs),
                lambda variable: "",  # its name
                True,  # strict: containers as they are
                False,  # do not force operators out of place
                None,  # no module
                [f"input{i}" for i in range(len(inputs))],
            )
            return recording._replace(run=torch._C._create_function_from_graph("step", graph))
        except Exception:  # an operator that the interpreter does not know
            return recording


def _difference(one: Recording, two: Recording) -> str | None:
    """How two recordings of one program differ, in words; None if they are equal."""
    if one.reads is not None and two.reads is not None and one.reads.values != two.reads.values:
        return f"two recordings read different values of the data ({one.reads.values} / {two.reads.values})"[:160]
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


def _reason(error: BaseException) -> str:
    """Why recording failed, in a few words, with the last line of the user's own code that led to the error."""
    text = str(error)
    if "value out of a tracing tensor" in text or "data-dependent" in text:
        text = "Python reads the value of a tensor that changes from step to step"
    elif "numpy" in text.lower():
        text = "a tensor that changes from step to step is converted to NumPy"
    else:
        text = f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"[:160]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_the_users_file(frame.filename)]
    if not frames:
        return text
    return text + source_line(frames[-1].filename, frames[-1].lineno or 0)
