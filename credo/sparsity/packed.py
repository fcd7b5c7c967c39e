"""A sparse network as one function: weights of 32 bits with columns of 16 bits, all layers in one call.

y_o = b_o + sum_k v_k x[c_k],     k from rows[o] to rows[o + 1]

At one row the calls of torch's layers cost more than the arithmetic of a sparse network; here there is one call.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from .native import native

LINEAR, CONVOLUTION, POOL, RELU, TANH, SIGMOID = range(6)
APPLIED = {RELU: torch.relu, TANH: torch.tanh, SIGMOID: torch.sigmoid}
COLUMNS = 1 << 16  # inputs of a layer that 16 bits can number


class Operation(NamedTuple):
    """A layer of the program, as packed.cpp reads it; kernel, pad and stride are of convolutions and pooling."""

    kind: int
    inputs: int = 0
    outputs: int = 0
    kernel: tuple[int, int] = (0, 0)
    pad: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (1, 1)
    rows_at: int = 0
    bias_at: int = -1

    def numbers(self) -> list[int]:
        return [self.kind, self.inputs, self.outputs, *self.kernel, *self.pad, *self.stride, self.rows_at, self.bias_at]


class Packed(nn.Module):
    """A network for prediction whose weights lie packed, and which is one call of machine code on a CPU.

    x: shape (..., D); (N, channels, height, width) for a network that begins with a convolution; (N, ...) for one that
    begins with nn.Flatten. Returns what the network did. On other devices, in other precisions, under gradients and
    transforms, and without a C++ compiler the same weights go through torch: right, and slower. Machine code uses one
    core. Its state: values and biases (32 bits), columns (16 bits), rows (32 bits); it is read anew at each call.
    Raises ValueError for x of another shape, and for a state whose columns or rows do not fit.
    """

    values: torch.Tensor
    columns: torch.Tensor
    rows: torch.Tensor
    biases: torch.Tensor

    def __init__(
        self, program: list[Operation], columns: torch.Tensor, parts: dict[str, torch.Tensor], flattens: bool = False
    ) -> None:
        super().__init__()
        self.program, self.flattens = tuple(program), flattens
        self.images = program[0].kind == CONVOLUTION
        self.register_buffer("values", parts["values"])
        self.register_buffer("columns", columns.to(torch.uint16).view(torch.int16))
        self.register_buffer("rows", parts["rows"])
        self.register_buffer("biases", parts["biases"])
        numbers = [number for operation in program for number in operation.numbers()]
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int32), persistent=False)
        self.register_load_state_dict_post_hook(_check)
        self._spans = _spans(self)
        self._last: tuple[torch.Size, list[int], torch.Tensor] | None = None  # what the last shape of x leads to

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A dictionary: a look-up by nn.Module takes as long as a layer.
        parts = cast(dict[str, torch.Tensor], self._buffers)
        values = parts["values"]
        if type(x) is not torch.Tensor or torch.compiler.is_compiling() or not _plain(x, values):
            return self.by_torch(x)
        if (code := native()) is None:
            return self.by_torch(x)
        last = self._last  # read once: another thread may change it
        if last is None or last[0] != x.shape:
            shape, numbers = self._sizes(x)
            self._last = last = x.shape, shape, torch.tensor([len(self.program), *numbers])
        _, shape, form = last
        x, y = x.contiguous(), x.new_empty(shape)
        code(
            *(form.data_ptr(), parts["numbers"].data_ptr(), parts["rows"].data_ptr(), parts["columns"].data_ptr()),
            *(values.data_ptr(), parts["biases"].data_ptr(), x.data_ptr(), y.data_ptr()),
        )
        return y

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "Packed":
        """Whole numbers keep their type where a network is cast, as by `type`: machine code reads it."""
        return super()._apply(lambda t: fn(t) if t.is_floating_point() else fn(t).to(t.dtype), recurse)

    def by_torch(self, x: torch.Tensor) -> torch.Tensor:
        """The same network by torch's layers, each weight unpacked: on every device, with gradients of x."""
        self._sizes(x)
        x = x.flatten(1) if self.flattens else x
        for operation in self.program:
            if operation.kind in APPLIED:
                x = APPLIED[operation.kind](x)
            elif operation.kind == POOL:
                x = F.max_pool2d(x, operation.kernel, operation.stride)
            elif operation.kind == CONVOLUTION:
                x = F.conv2d(x, *self._unpacked(operation), padding=operation.pad)
            else:
                x = F.linear(x.flatten(1) if self.images else x, *self._unpacked(operation))
        return x

    def _unpacked(self, operation: Operation) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows = self.rows[operation.rows_at : operation.rows_at + operation.outputs + 1].long()
        # What is exported has no numbers yet to read: those of the state that was loaded last.
        exporting = torch.compiler.is_compiling()
        begin, end = self._spans[operation.rows_at] if exporting else (int(rows[0]), int(rows[-1]))
        part = slice(begin, end)
        size = operation.inputs * max(1, math.prod(operation.kernel))
        number = torch.arange(operation.outputs, device=rows.device)
        row = torch.repeat_interleave(number, rows.diff(), output_size=end - begin)
        weight = self.values.new_zeros(operation.outputs, size)
        weight[row, self.columns[part].long() % COLUMNS] = self.values[part]
        at = operation.bias_at
        bias = None if at < 0 else self.biases[at : at + operation.outputs]
        if operation.kind == CONVOLUTION:
            weight = weight.reshape(operation.outputs, operation.inputs, *operation.kernel)
        return weight, bias

    def _sizes(self, x: torch.Tensor) -> tuple[list[int], list[int]]:
        """(the shape of the outputs, the numbers of `Form` after its count). Raises ValueError if x does not fit."""
        if not isinstance(x, torch.Tensor):
            raise ValueError(f"x: got {type(x).__name__}, wanted a tensor")
        inputs = self.program[0].inputs
        wanted = f"(N, {inputs}, height, width)" if self.images else f"({'N' if self.flattens else '...'}, {inputs})"
        each = x.shape[1:] if self.images or self.flattens else x.shape[-1:]
        here = list(each) if self.images else [math.prod(each) if x.dim() else 0, 1, 1]
        if (self.images and x.dim() != 4) or here[0] != inputs:
            raise ValueError(f"x: got shape {tuple(x.shape)}, wanted {wanted}")
        before = list(x.shape[:1] if self.images or self.flattens else x.shape[:-1])
        start, largest = here, math.prod(here)
        for operation in self.program:
            if operation.kind == LINEAR:
                if math.prod(here) != operation.inputs:
                    raise ValueError(
                        f"x: got shape {tuple(x.shape)}, which gives {math.prod(here)} units where the network reads "
                        f"{operation.inputs}"
                    )
                here = [operation.outputs, 1, 1]
            elif operation.kind in (CONVOLUTION, POOL):
                sides = zip(here[1:], operation.kernel, operation.pad, operation.stride, strict=True)
                height, width = ((side + 2 * pad - kernel) // stride + 1 for side, kernel, pad, stride in sides)
                if min(height, width) < 1:
                    raise ValueError(f"x: got shape {tuple(x.shape)}, images too small for the network")
                here = [operation.outputs or here[0], height, width]
            largest = max(largest, math.prod(here))
        return [*before, here[0]], [math.prod(before), *start, here[0], largest]

    def stored(self) -> list[int]:
        """Bytes of each weight with its columns, rows and bias, in the order of the program."""
        weighted = [operation for operation in self.program if operation.kind in (LINEAR, CONVOLUTION)]
        sizes = []
        for i, operation in enumerate(weighted):
            first, last = self.rows[operation.rows_at], self.rows[operation.rows_at + operation.outputs]
            numbers = operation.outputs * (1 if operation.bias_at < 0 else 2) + (i == 0)  # rows begin with a 0
            sizes.append(6 * int(last - first) + 4 * numbers)
        return sizes

    def extra_repr(self) -> str:
        return f"layers={len(self.program)}, weights={len(self.values)}"


def _plain(x: torch.Tensor, values: torch.Tensor) -> bool:
    """Whether machine code may read and answer for both: numbers of 32 bits as they lie on a CPU, no gradient, no
    transform, nothing that traces calls of torch.
    """
    if not (x.dtype is values.dtype is torch.float32 and x.is_cpu and values.is_cpu) or x.is_neg():
        return False
    if torch._C._get_tracing_state() is not None or forward_ad._current_level >= 0:
        return False
    if (x.requires_grad or values.requires_grad) and torch.is_grad_enabled():
        return False
    return torch._C._functorch.maybe_current_level() is None and not torch._C._is_torch_function_mode_enabled()


def _spans(packed: Packed) -> dict[int, tuple[int, int]]:
    """{where the rows of a layer begin: (its first weight, the one after its last)}."""
    ends = {o.rows_at: o.rows_at + o.outputs for o in packed.program if o.kind in (LINEAR, CONVOLUTION)}
    return {at: (int(packed.rows[at]), int(packed.rows[end])) for at, end in ends.items()}


def _check(packed: Packed, keys: Any = None) -> None:
    """Raises ValueError for a state that would read beyond its weights."""
    if packed.columns.dtype != torch.int16 or packed.rows.dtype != torch.int32:
        raise ValueError(
            f"state_dict: its columns are {packed.columns.dtype} and its rows {packed.rows.dtype}, wanted torch.int16 "
            f"and torch.int32"
        )
    columns = packed.columns.long() % COLUMNS
    for operation in packed.program:
        if operation.kind not in (LINEAR, CONVOLUTION):
            continue
        rows = packed.rows[operation.rows_at : operation.rows_at + operation.outputs + 1].long()
        size = operation.inputs * max(1, math.prod(operation.kernel))
        fits = bool((rows.diff() >= 0).all()) and 0 <= int(rows[0]) and int(rows[-1]) <= len(columns)
        if not fits or (columns[int(rows[0]) : int(rows[-1])] >= size).any():
            raise ValueError("state_dict: its columns or rows are not those of this network")
    packed._spans = _spans(packed)
