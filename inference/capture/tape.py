"""The operators that a program calls, written into a graph while it runs.

    tape = Tape(inputs, ...);  with tape: program()        tape.graph: an operator of torch's a node

The mode stands below autograd and `vmap`, where gradients and batched draws are operators like others, as torch's own
`make_fx` does, which takes five times as long: it computes what only compilers need. A tensor that the program did not
make is a constant of the graph, held by reference.
"""

import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import TensorWeakRef

from .reads import Value, is_of_the_data

aten = torch.ops.aten
WRITABLE = (int, float, complex, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
# How the value of a tensor that changes gets into Python; `record` puts it into words.
ESCAPED = "Python reads a value out of a tracing tensor"


class _Known(NamedTuple):
    """A tensor that the graph has. fixed: its value if that never changes: a small `torch.tensor(...)`, a constant."""

    tensor: TensorWeakRef
    node: torch.fx.Node
    fixed: torch.Tensor | None = None
    made: bool = False  # whether the program made it


class Tape(TorchDispatchMode):
    """Inside this mode every operator becomes a node of `graph`, which has a placeholder for each input.

    inputs: the tensors that the program reads. readable: positions of those whose values Python may read.
    changing: identities of the tensors outside of the program that it may change.
    constants: {placeholder: a tensor that the program did not make}. found: the values that Python read from the data,
    each with its node, in the order of reading.
    """

    def __init__(self, inputs: list[torch.Tensor], readable: Iterable[int], changing: set[int]) -> None:
        super().__init__()
        self.graph, self.changing = torch.fx.Graph(), changing
        self.constants: dict[torch.fx.Node, torch.Tensor] = {}
        self.changed: set[torch.fx.Node] = set()  # those of them that the program may change
        self.found: list[tuple[torch.fx.Node, Value]] = []
        self.known: dict[int, _Known] = {}
        self.places = [self.graph.placeholder(f"input{i}") for i in range(len(inputs))]
        self.last = self.places[-1] if self.places else self.graph._root
        for tensor, node in zip(inputs, self.places, strict=True):
            self.known[id(tensor)] = _Known(TensorWeakRef(tensor), node)
        self.readable = {self.places[i] for i in readable}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags:
            return self._value(func, args, kwargs)
        if func is aten.lift_fresh.default:  # of torch.tensor(...): the graph must not change its constant in place
            func = aten.lift_fresh_copy.default
        fixed = self._fixed(func, args, kwargs)
        put = self._put(list(args)), self._put(kwargs)
        out = func(*args, **kwargs)
        self._note(out, self.graph.call_function(func, tuple(put[0]), put[1]), fixed)
        return out

    def node_of(self, tensor: torch.Tensor) -> torch.fx.Node:
        """The node of a tensor; of one that the graph does not have, a constant."""
        known = self._known(tensor)
        if known is not None:
            return known.node
        if tensor.layout is not torch.strided or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            raise TypeError("it reads a sparse tensor, or an object that is not a plain tensor")
        with self.graph.inserting_after(self.last):
            self.last = self.graph.placeholder(f"constant{len(self.constants)}")
        self.constants[self.last] = tensor  # itself: below autograd a detached one counts other changes
        changes = id(tensor) in self.changing
        if changes:
            self.changed.add(self.last)
        self.known[id(tensor)] = _Known(TensorWeakRef(tensor), self.last, None if changes else tensor)
        return self.last

    def _known(self, tensor: torch.Tensor) -> _Known | None:
        found = self.known.get(id(tensor))
        return found if found is not None and found.tensor() is tensor else None  # or another has its place in memory

    def _put(self, value: Any) -> Any:
        """An argument of an operator, tensors replaced by their nodes."""
        if isinstance(value, torch.Tensor):
            return self.node_of(value)
        if isinstance(value, list | tuple):
            return type(value)(map(self._put, value))
        if isinstance(value, dict):
            return {key: self._put(v) for key, v in value.items()}
        if not isinstance(value, WRITABLE):
            raise TypeError(f"an operator gets an argument of type {type(value).__name__}")
        return value

    def _note(self, out: Any, node: torch.fx.Node, fixed: torch.Tensor | None) -> None:
        """Remembers the tensors that a node returns."""
        if isinstance(out, torch.Tensor):
            self.known[id(out)] = _Known(TensorWeakRef(out), node, fixed, True)
        elif isinstance(out, list | tuple):
            for i, part in enumerate(out):
                if isinstance(part, torch.Tensor | list | tuple):
                    self._note(part, self.graph.call_function(operator.getitem, (node, i)), None)

    def _fixed(self, func: Any, args: Any, kwargs: Any) -> torch.Tensor | None:
        """The value of what an operator returns, one number, if it is computed from `torch.tensor(...)` alone."""
        if func is aten.lift_fresh_copy.default:
            return args[0].clone() if args[0].numel() == 1 else None
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        known = [found for t in tensors if (found := self._known(t)) is not None]
        if not any(found.made and found.fixed is not None for found in known):
            return None
        is_fixed = all(found.fixed is not None for found in known)
        if func._schema.is_mutable and not (is_fixed and len(known) == len(tensors) and all(k.made for k in known)):
            self.known = {key: k._replace(fixed=None) if k.made else k for key, k in self.known.items()}  # views too
            return None
        if not is_fixed or torch.Tag.nondeterministic_seeded in func.tags:
            return None
        fixed = func(*map(self._value_of, args), **{key: self._value_of(v) for key, v in kwargs.items()})
        return fixed if isinstance(fixed, torch.Tensor) and fixed.numel() == 1 else None

    def _value_of(self, value: Any) -> Any:
        known = self._known(value) if isinstance(value, torch.Tensor) else None
        return value if known is None else known.fixed

    def _value(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What an operator returns whose result goes into Python. Raises RuntimeError if that changes with the step."""
        known = [self._known(value) for value in args if isinstance(value, torch.Tensor)]
        is_number = (
            func is aten._local_scalar_dense.default
        )  # of a tensor outside of the program it is read again later
        if all(k.fixed is not None and (k.made or not is_number) if k else not is_number for k in known):
            return func(*map(self._value_of, args), **kwargs)
        node = self.node_of(args[0])
        readable = self.readable | (self.constants.keys() - self.changed)
        if not is_number or not is_of_the_data(node, readable):
            raise RuntimeError(ESCAPED)
        value: Value = func(*args)
        self.found.append((node, value))
        return value
