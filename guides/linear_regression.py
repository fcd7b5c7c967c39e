"""Bayesian linear regression: a joint normal over all coefficients, by the chain rule.

    theta     = m + s L e,        e ~ N(0, I_D)           L lower triangular (D, D)
    b | theta = m_b + s (r . e + l_b e_b),  e_b ~ N(0, 1)

which is N((m, m_b), s^2 M M') with M the Cholesky factor whose last row is (r, l_b). s = 1 for known sigma; for unknown
sigma s = sigma, and sigma^2 ~ InverseGamma: the family contains the exact posterior in both cases.
full_rank=False keeps L diagonal and r = 0: the mean-field guide, whose sds are too small where columns of X correlate.
"""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

START = 0.1  # sd of every coefficient before the first step


def guide(
    X: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    sigma: float | None = 0.7,
    prior_sd: float = 1.0,
    full_rank: bool = True,
) -> None:
    """X: shape (N, D). y, prior_sd: not used. sigma: only whether it is known (not None) matters."""
    if X.dim() != 2:
        raise ValueError(f"X: got shape {tuple(X.shape)}, wanted (rows, columns); one column is X[:, None]")
    X = X if X.is_floating_point() else X.to(torch.get_default_dtype())
    D = X.shape[1]
    scale = X.new_ones(())
    if sigma is None:
        shape = pyro.param("shape", X.new_tensor(4.0), constraint=constraints.positive)
        level = pyro.param("level", X.new_tensor(1.0), constraint=constraints.positive)  # about the mean of sigma^2
        scale = pyro.sample("sigma2", dist.InverseGamma(shape, shape * level)).sqrt()
    m = pyro.param("m", X.new_zeros(D))
    m_b = pyro.param("m_b", X.new_zeros(()))
    l_b = pyro.param("l_b", X.new_tensor(START), constraint=constraints.positive)
    if not full_rank:
        sd = pyro.param("sd", X.new_full((D,), START), constraint=constraints.positive)
        pyro.sample("theta", dist.Normal(m, scale * sd).to_event(1))
        pyro.sample("b", dist.Normal(m_b, scale * l_b))
        return
    L = pyro.param("L", START * torch.eye(D, dtype=X.dtype, device=X.device), constraint=constraints.lower_cholesky)
    r = pyro.param("r", X.new_zeros(D))
    theta = pyro.sample("theta", dist.MultivariateNormal(m, scale_tril=scale * L))
    e = torch.linalg.solve_triangular(L, ((theta - m) / scale).unsqueeze(-1), upper=False).squeeze(-1)
    pyro.sample("b", dist.Normal(m_b + scale * (r @ e), scale * l_b))
