"""A program of tensors, recorded once as a graph of torch operators that runs again without the program's Python.

    graph(*inputs, *constants) = program()        for the recorded inputs, and for others of the same shapes and types

A tape (`tape`) takes down every operator below autograd and `vmap`: gradients and batched draws are operators too.
The graph holds the tensors that the program closes over by reference: it sees their changes in place. A graph is right
only while the program does the same thing each time. Recording notices control flow on values by itself. It is done
twice: two recordings that differ reveal a counter or a random number in Python. `replay.check_against_program` finds
more. Each refusal is a `NotCaptured`. Where the program raises LinAlgError, the graph's first output is NaN.
"""

import itertools
import math
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pyro
import torch
from torch.distributions import Distribution

from ..inputs.places import is_the_users_file
from ..runtime.generators import generators_kept
from ..runtime.replaced import attribute_replaced
from .gather import GatherIndices
from .outside import source_line
from .reads import Reads, reads_of
from .tape import Tape

OFTEN = 2000  # calls of a recording


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
                found.append(_on_tape(program, inputs, {id(b) for b in buffers}, data))
            except NotCaptured:
                raise
            except Exception as error:  # whatever the user's code may raise
                raise NotCaptured(_reason(error)) from error
        if new := sorted(set(pyro.get_param_store().keys()) - known):
            raise NotCaptured(f"parameter {new[0]!r} appears in some runs only")
        lines, others = (_lines(tape) for tape in found)
        recording, used = _finished(found[1])
        if difference := _difference(found[0], found[1], lines, others, used):
            raise NotCaptured(difference)
        return _interpreted(recording, [*inputs, *recording.constants])


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


def _on_tape(
    program: Callable[[], list[torch.Tensor]], inputs: list[torch.Tensor], may_change: set[int], data: Iterable[int]
) -> Tape:
    """The program's operators, whose outputs are the tensors that it returns."""
    tape = Tape(inputs, data, may_change)
    with tape, GatherIndices():
        found = program()
    tape.graph.output([tape.node_of(tensor) for tensor in found])
    return tape


def _finished(tape: Tape) -> tuple[Recording, list[int]]:
    """The recording of a tape, and which of the tape's constants it uses. It changes the tape's graph."""
    reads = reads_of(tape.found, tape.places, tape.constants)
    graph = tape.graph
    _refuse_writes(graph, {*tape.places, *(tape.constants.keys() - tape.changed)})
    _nan_for_failed_factors(graph)
    graph.eliminate_dead_code()
    used = [i for i, node in enumerate(tape.constants) if node.users]
    constants = [tensor.detach() for node, tensor in tape.constants.items() if node.users]
    for node in tape.constants:  # as the empty tensor that each pyro.plate makes
        if not node.users:
            graph.erase_node(node)
    module = torch.fx.GraphModule({}, graph)
    code = module.code
    # An unused draw still advances the generator. As an output of the graph, no optimisation removes it.
    unused = [node for node in graph.nodes if not node.users and _is_random(node)]
    if unused:
        (output,) = (node for node in graph.nodes if node.op == "output")
        output.args = ([*output.args[0], *unused],)
        module.recompile()
    return Recording(code, module.forward, constants, reads), used


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
            return recording._replace(run=_optimised_late(torch._C._create_function_from_graph("step", graph)))
        except Exception:  # an operator that the interpreter does not know
            return recording


def _optimised_late(run: Callable[..., Sequence[torch.Tensor]]) -> Callable[..., Sequence[torch.Tensor]]:
    """The same function, optimised after OFTEN calls: that takes 15 ms for 100 operators and wins a tenth of a call."""
    calls = itertools.count()

    def calling(*given: torch.Tensor) -> Sequence[torch.Tensor]:
        if next(calls) >= OFTEN:
            return run(*given)
        with torch.jit.optimized_execution(False):
            return run(*given)

    return calling


def _lines(tape: Tape) -> list[str]:
    """The operators of a tape as text."""
    return [f"{node.name} = {node.target}{node.args}{node.kwargs or ''}" for node in tape.graph.nodes]


def _difference(one: Tape, two: Tape, lines: list[str], others: list[str], used: list[int]) -> str | None:
    """How two recordings of one program differ, in words; None if they are equal. used: constants that count."""
    read, again = ([value for _, value in tape.found] for tape in (one, two))
    if read != again:
        return f"two recordings read different values of the data ({tuple(read)} / {tuple(again)})"[:160]
    if lines != others:
        line = next((f": {a} / {b}" for a, b in zip(lines, others, strict=False) if a != b), "")
        return f"two recordings differ, as with a counter or a random number in Python{line[:120]}"
    constants = list(one.constants.values()), list(two.constants.values())
    for a, b in ((constants[0][i], constants[1][i]) for i in used):
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
        return f"{text}, in a library, called by the program"
    return text + source_line(frames[-1].filename, frames[-1].lineno or 0)
