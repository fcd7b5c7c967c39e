"""The two layers that a smaller network needs: one that picks inputs, and a sparse linear one.

Pick(index)(x)      = x[..., index]                 or x[:, index] for images
SparseLinear(w)(x)  = x w^T + b                     w in compressed rows
"""

import warnings
from typing import Any

import torch
from torch import nn

# A sparse product has a cost of its own: below these a dense one is faster on one core (benchmarks/compressed.py).
LARGE = 200_000  # weights of a layer
THIN = 0.02  # the share of them that is not zero


class Pick(nn.Module):
    """x: shape (..., D), or (N, D, height, width) with channels=True. Returns the inputs whose numbers it was given."""

    index: torch.Tensor

    def __init__(self, index: torch.Tensor, inputs: int, channels: bool = False) -> None:
        super().__init__()
        self.inputs, self.dim = inputs, -3 if channels else -1
        self.register_buffer("index", index)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.index_select(self.dim, self.index)

    def extra_repr(self) -> str:
        return f"{len(self.index)} of {self.inputs}"


class SparseLinear(nn.Module):
    """x: shape (..., inputs). Returns x w^T + b, shape (..., outputs). It is for prediction: its weights do not train.

    weight: shape (outputs, inputs), in compressed rows (CSR). bias: shape (outputs,), or None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse", UserWarning)  # torch calls this layout new
            rows = weight.detach().to_sparse_csr()
            crow, col = rows.crow_indices().int(), rows.col_indices().int()
            rows = torch.sparse_csr_tensor(crow, col, rows.values(), rows.shape)
        self.register_buffer("weight", rows)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = (self.weight @ x.reshape(-1, self.in_features).T).T
        out = out if self.bias is None else out + self.bias
        return out.reshape(*x.shape[:-1], self.out_features)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseLinear":  # torch copies no tensor of this layout
        memo[id(self)] = twin = SparseLinear(self.weight.to_dense(), self.bias).train(self.training)
        return twin

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, weights={self.weight._nnz()}"


def sparse_pays(weight: torch.Tensor) -> bool:
    """Whether a sparse product with this weight is faster than a dense one, at one row on one core."""
    return weight.numel() >= LARGE and int((weight != 0).sum()) <= THIN * weight.numel()
