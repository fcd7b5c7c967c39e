"""How the output of a network depends on the weights of its layers, and what that makes of the data's curvature.

    J_n    = d f_n / d theta                 (C, P) for row n, of a layer with inputs a and pre-activations h = W a:
             d f_nc / d W = Σ_t g_nct a_nt'  g_nct = d f_nc / d h_nt;  t: places of a convolution, one for nn.Linear
    GGN    = Σ_n J_n' H_n J_n                H_n = diag p_n - p_n p_n' for classes, 1 for numbers of unit noise
    KFAC   = (Σ_n,t a a') ⊗ (Σ_n,t g' H g) / (N T)       Martens and Grosse 2015; convolutions: Grosse and Martens 2016

The generalised Gauss-Newton matrix is the Hessian of -log p(y | theta) where f is linear in theta.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

ELEMENTS = 2**25  # numbers in memory at once


class Layer(NamedTuple):
    """A layer whose weights are uncertain. Its weights are a matrix (outputs, inputs), the bias the last column."""

    name: str
    module: Any  # nn.Linear or nn.Conv2d

    @property
    def matrix(self) -> torch.Tensor:
        """Weight and bias, (O, I)."""
        weight, bias = self.module.weight, self.module.bias
        rows: torch.Tensor = weight.detach().flatten(1)
        return rows if bias is None else torch.cat([rows, bias.detach()[:, None]], 1)


class Part(NamedTuple):
    """What a layer does in a batch. a: its inputs, (N, T, I). g: gradients of its outputs, (N, C, T, O)."""

    a: torch.Tensor
    g: torch.Tensor

    @property
    def of_one_place(self) -> bool:
        """Whether the layer sees each row once, so that its part of J is an outer product."""
        return self.a.shape[1] == 1

    def along(self, vectors: torch.Tensor) -> torch.Tensor:
        """d f / d matrix times vectors, shape (N, C, K). vectors: shape (O * I, K)."""
        if not self.of_one_place:
            return self.jacobian() @ vectors
        count, inputs = self.g.shape[-1], self.a.shape[-1]
        of_outputs = self.a[:, 0] @ vectors.reshape(count, inputs, -1).movedim(0, 1).flatten(1)  # (N, O * K)
        return self.g[:, :, 0] @ of_outputs.unflatten(1, (count, -1))

    def jacobian(self) -> torch.Tensor:
        """d f / d matrix, shape (N, C, O * I)."""
        return torch.einsum("ncto,nti->ncoi", self.g, self.a).flatten(2)


def layers_of(net: nn.Module) -> list[Layer]:
    """The linear layers and convolutions over images whose weights are not frozen, in the order of the network."""
    return [
        Layer(name, module)
        for name, module in net.named_modules()
        if _is_known(module) and all(p.requires_grad for p in module.parameters())
    ]


def others(net: nn.Module, layers: list[Layer]) -> list[str]:
    """The parameters of the network that belong to none of these layers, which stay points."""
    inside = {id(p) for layer in layers for p in layer.module.parameters()}
    return [name for name, p in net.named_parameters() if id(p) not in inside]


def parts(net: nn.Module, layers: list[Layer], x: torch.Tensor) -> tuple[torch.Tensor, list[Part]]:
    """(the outputs, (N, C), what each layer does). The network is in evaluation mode and treats rows one by one.

    Raises ValueError for a layer that is called more than once, or not at all.
    """
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {layer.name: [] for layer in layers}
    hooks = [
        layer.module.register_forward_hook(lambda _, given, out, name=layer.name: seen[name].append((given[0], out)))
        for layer in layers
    ]
    try:
        with torch.enable_grad():
            x = x.detach().requires_grad_(x.is_floating_point())  # so that every output has a gradient, frozen or not
            f = net(x).reshape(len(x), -1)
    finally:
        for hook in hooks:
            hook.remove()
    for name, calls in seen.items():
        if len(calls) != 1:
            raise ValueError(
                f"net: layer {name!r} is called {len(calls)} times for a row, wanted once: the curvature of shared "
                f"weights is not the sum of those of its calls"
            )
    outs = [seen[layer.name][0][1] for layer in layers]
    count = f.shape[1]
    with torch.enable_grad():  # a caller who predicts is often in no_grad
        gradients = [torch.autograd.grad(f[:, c].sum(), outs, retain_graph=c + 1 < count) for c in range(count)]
    found = []
    for i, layer in enumerate(layers):
        a = _places(layer.module, seen[layer.name][0][0].detach())
        g = torch.stack([_of_outputs(layer.module, each[i]) for each in gradients], 1)
        found.append(Part(a, g))
    return f.detach(), found


def refuse_other_uses(net: nn.Module, layers: list[Layer], x: torch.Tensor) -> None:
    """Raises ValueError where the output depends on a layer's weights by another way than its one call.

    Tied weights, and weights that a forward() reads itself: then J is not the sum of g a'. x: a few rows, (N, ...).
    """
    _, found = parts(net, layers, x)
    with torch.enable_grad():
        total = net(x).sum()
        for layer, part in zip(layers, found, strict=True):
            (whole,) = torch.autograd.grad(total, [layer.module.weight], retain_graph=True)
            mine = part.jacobian().sum((0, 1)).reshape(layer.matrix.shape)[:, : whole[0].numel()]
            if not torch.allclose(mine, whole.flatten(1), rtol=1e-2, atol=1e-3 * float(whole.abs().max())):
                raise ValueError(
                    f"net: the weights of layer {layer.name!r} are used more than once, tied to another layer or "
                    f"read in forward(), wanted weights of one call; untie or freeze them, requires_grad_(False)"
                )


def batches(net: nn.Module, layers: list[Layer], x: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor, list[Part]]]:
    """(rows, outputs, parts) of the data in pieces of bounded memory."""
    begin, size = 0, 1  # the first row shows how much one row takes
    while begin < len(x):
        rows = slice(begin, min(begin + size, len(x)))
        f, found = parts(net, layers, x[rows])
        if begin == 0:
            each = sum(p.a.numel() + p.g.numel() + f.shape[1] * p.a.shape[-1] * p.g.shape[-1] for p in found)
            size = max(1, ELEMENTS // (4 * each))
        yield rows, f, found
        begin = rows.stop


def root(f: torch.Tensor, classes: bool) -> torch.Tensor:
    """R with R R' = H, shape (N, C, C): the curvature of -log p(y | f) in f, of a normal with sd 1 for numbers."""
    if not classes:
        return torch.ones_like(f)[:, :, None]
    p = f.softmax(-1)
    return torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None]


def ggn(net: nn.Module, layers: list[Layer], x: torch.Tensor, classes: bool) -> torch.Tensor:
    """The GGN of all weights of these layers, shape (P, P), double: layer after layer, each matrix row by row.

    Of one linear layer, block (o, p) is Σ_n (g_n' H_n g_n)_op a_n a_n': 2 C times less work than J' H J.
    """
    size = sum(layer.matrix.numel() for layer in layers)
    total = x.new_zeros(size, size, dtype=torch.float64)
    for _, f, found in batches(net, layers, x):
        if len(found) == 1 and found[0].of_one_place:
            a, g = found[0].a[:, 0].double(), found[0].g[:, :, 0].double()
            half = torch.einsum("nck,nco->nko", root(f.double(), classes), g)
            weights = half.mT @ half  # (N, O, O)
            blocks = total.unflatten(0, (-1, a.shape[1])).unflatten(2, (-1, a.shape[1]))  # a view, (O, I, O, I)
            for o in range(len(blocks)):
                for p in range(o + 1):
                    block = (weights[:, o, p, None] * a).mT @ a
                    blocks[o, :, p] += block
                    if p < o:
                        blocks[p, :, o] += block
            continue
        J = torch.cat([part.jacobian() for part in found], -1).double()
        rows = torch.einsum("nck,ncp->nkp", root(f.double(), classes), J).flatten(0, 1)
        total += rows.mT @ rows
    return total


def kfac(
    net: nn.Module, layers: list[Layer], x: torch.Tensor, classes: bool
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(A, G) of each layer, (I, I) and (O, O), double, with GGN of the layer's matrix ~ G ⊗ A."""
    total: list[list[torch.Tensor]] = []
    for _, f, found in batches(net, layers, x):
        R = root(f.double(), classes)
        for i, part in enumerate(found):
            a = part.a.double()
            g = torch.einsum("nck,ncto->nkto", R, part.g.double())
            A, G = torch.einsum("nti,ntj->ij", a, a), torch.einsum("nkto,nktp->op", g, g) / (len(x) * a.shape[1])
            if len(total) <= i:
                total.append([A, G])
            else:
                total[i][0] += A
                total[i][1] += G
    return [(A, G) for A, G in total]


def _is_known(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def _places(module: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """The inputs of each place with a 1 for the bias, (N, T, I)."""
    if isinstance(module, nn.Conv2d):
        options: dict[str, Any] = {"padding": module.padding, "dilation": module.dilation, "stride": module.stride}
        a = functional.unfold(given, module.kernel_size, **options).mT
    else:
        a = given.reshape(len(given), -1, given.shape[-1])
    return a if module.bias is None else torch.cat([a, a.new_ones(*a.shape[:2], 1)], -1)


def _of_outputs(module: nn.Module, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient of each place, (N, T, O)."""
    if isinstance(module, nn.Conv2d):
        return gradient.flatten(2).mT
    return gradient.reshape(len(gradient), -1, gradient.shape[-1])
