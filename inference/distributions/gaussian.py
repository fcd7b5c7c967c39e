"""Conditioning of a joint normal distribution."""

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch


def gaussian_conditional(mean: Any, cov: Any, given: Mapping[int, float]) -> dist.MultivariateNormal:
    """The conditional distribution of a joint normal N(mean, cov), given some of its entries:

        x | y ~ N(mu_x + S_xy S_yy^-1 (y - mu_y),  S_xx - S_xy S_yy^-1 S_yx)      (Bishop 2006, eq. 2.81-2.82)

    mean: shape (D,). cov: shape (D, D), symmetric and positive definite. given: {index: value}; negative indices count
    from the end. Returns a normal of the D - len(given) other entries, in their order, in double precision. For D = 2
    it is N(mu_x + rho sigma_x / sigma_y (y - mu_y), sigma_x^2 (1 - rho^2)).
    Raises ValueError for shapes that do not fit, a covariance that is not positive definite, and indices out of range,
    given twice, or that leave no entry.

    >>> import credo
    >>> x = credo.gaussian_conditional([1.0, 2.0], [[4.0, 1.2], [1.2, 9.0]], {1: 5.0})
    >>> round(x.mean.item(), 4), round(x.variance.item(), 4)
    (1.4, 3.84)
    """
    mean, cov = (torch.as_tensor(t, dtype=torch.float64) for t in (mean, cov))
    D = len(mean) if mean.dim() == 1 else -1
    if cov.shape != (D, D):
        raise ValueError(f"mean and cov: got shapes {tuple(mean.shape)} and {tuple(cov.shape)}, wanted (D,) and (D, D)")
    if not torch.allclose(cov, cov.mT, rtol=1e-8, atol=0.0) or torch.linalg.cholesky_ex(cov).info:
        raise ValueError("cov: wanted a symmetric and positive definite matrix")
    known = [i + D if i < 0 else i for i in given]
    if len(set(known)) < len(known) or any(not 0 <= i < D for i in known) or len(known) == D:
        raise ValueError(
            f"given: got indices {list(given)}, wanted some of 0 to {D - 1}, each once and not all of them"
        )
    rest = [i for i in range(D) if i not in known]
    values = torch.as_tensor([float(v) for v in given.values()], dtype=torch.float64)
    across = cov[rest][:, known]
    L = torch.linalg.cholesky(cov[known][:, known])
    gain = torch.cholesky_solve(across.mT, L).mT  # S_xy S_yy^-1
    left = cov[rest][:, rest] - gain @ across.mT
    return dist.MultivariateNormal(mean[rest] + gain @ (values - mean[known]), (left + left.mT) / 2)
