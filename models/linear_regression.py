"""Bayesian linear regression, with known or unknown noise.

    theta ~ N(0, s^2 I_D),  b ~ N(0, s^2),  y_i ~ N(x_i . theta + b, sigma^2),   i = 1..N        sigma known
    sigma^2 ~ InverseGamma(a, c);  s is then in units of sigma                                   sigma unknown

With A = [X 1] (N, D+1), w = (theta, b), V = (A'A/sigma^2 + I/s^2)^-1, m = V A'y/sigma^2 (Bishop 2006, eq. 3.53-3.54):

    w | y          ~ N(m, V)
    y* | x*, y     ~ N(a*.m, sigma^2 + a*.V a*)                                                  eq. 3.58
    log p(y)       = log N(y; 0, sigma^2 I + s^2 A A')                                           eq. 3.86

For unknown sigma the posterior is normal-inverse-gamma, its marginals are Student's t (Murphy 2012, section 7.6.3).

Data: diabetes progression of 442 patients from 10 measurements (Efron, Hastie, Johnstone and Tibshirani 2004), which
ships with scikit-learn; all columns standardised. There the residual sd is about 0.7 of that of y: the default SIGMA.
"""

import math

import pandas as pd
import pyro
import pyro.distributions as dist
import torch

from ._posterior import Posterior

SIGMA = 0.7  # sd of the noise, in units of y
PRIOR_SD = 1.0  # of each coefficient and of b
PRIOR_A, PRIOR_C = 2.0, 1.0  # shape and scale of InverseGamma for sigma^2: mean 1


def model(
    X: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    sigma: float | None = SIGMA,
    prior_sd: float = PRIOR_SD,
) -> torch.Tensor:
    """X: shape (N, D). y: shape (N,), or None to predict. sigma: sd of the noise; None: unknown. Returns E[y], (N,)."""
    _check(X, y)
    X = X if X.is_floating_point() else X.to(torch.get_default_dtype())
    unit = X.new_ones(())
    if sigma is None:
        noise = pyro.sample("sigma2", dist.InverseGamma(PRIOR_A * unit, PRIOR_C * unit)).sqrt()
        scale = prior_sd * noise
    else:
        noise, scale = sigma * unit, prior_sd * unit
    theta = pyro.sample("theta", dist.Normal(X.new_zeros(X.shape[1]), scale).to_event(1))
    b = pyro.sample("b", dist.Normal(0.0 * unit, scale))
    mean = X @ theta + b
    with pyro.plate("N", len(X)):
        pyro.sample("y", dist.Normal(mean, noise), obs=y if y is None else y.to(X.dtype))
    return mean


def posterior(
    X: torch.Tensor, y: torch.Tensor, *, sigma: float | None = SIGMA, prior_sd: float = PRIOR_SD
) -> Posterior:
    """The exact posterior in double precision. `.predictive(X_new)` is the distribution of y at new rows."""
    _check(X, y)
    A = _with_ones(X)
    y = y.double()
    n, k = A.shape
    noise = 1.0 if sigma is None else sigma
    precision = A.T @ A / noise**2 + torch.eye(k, dtype=A.dtype, device=A.device) / prior_sd**2
    L = torch.linalg.cholesky(precision)
    V = torch.cholesky_inverse(L)  # (k, k)
    m = V @ (A.T @ y) / noise**2  # (k,)
    # y'y/noise^2 - m' precision m, written as sums of squares: no cancellation
    misfit = ((y - A @ m) ** 2).sum() / noise**2 + (m**2).sum() / prior_sd**2
    # log det(I + s^2 A A'/noise^2) by the determinant lemma
    log_det = 2 * L.diagonal().log().sum() + 2 * k * math.log(prior_sd)

    if sigma is not None:
        evidence = -0.5 * (n * math.log(2 * math.pi * sigma**2) + log_det + misfit).item()
        cov = (V + V.T) / 2
        found = {
            "theta": dist.MultivariateNormal(m[:-1], cov[:-1, :-1]),
            "b": dist.Normal(m[-1], cov[-1, -1].sqrt()),
        }
        return Posterior(found, evidence, lambda X_new: _normal(_with_ones(X_new), m, cov, sigma))

    a, c = PRIOR_A + n / 2, PRIOR_C + misfit / 2
    evidence = (
        -n / 2 * math.log(2 * math.pi)
        - 0.5 * log_det
        + PRIOR_A * math.log(PRIOR_C)
        - a * c.log()
        + math.lgamma(a)
        - math.lgamma(PRIOR_A)
    ).item()
    df = torch.tensor(2 * a, dtype=A.dtype, device=A.device)
    cov = (V + V.T) / 2 * c / a  # the t distribution's squared scale
    found = {
        "theta": dist.MultivariateStudentT(df, m[:-1], torch.linalg.cholesky(cov[:-1, :-1])),
        "b": dist.StudentT(df, m[-1], cov[-1, -1].sqrt()),
        "sigma2": dist.InverseGamma(torch.full_like(c, a), c),
    }
    return Posterior(found, evidence, lambda X_new: _student(_with_ones(X_new), m, cov, df, (c / a).sqrt()))


def data(table: pd.DataFrame | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """(X, y) standardised: the diabetes set, X (442, 10), or a table whose column `y` depends on all other columns.

    Raises ValueError for a table without the column `y` or without other columns, for a constant column, and for text.
    """
    if table is None:
        from sklearn.datasets import load_diabetes

        table = load_diabetes(as_frame=True).frame.rename(columns={"target": "y"})
    if "y" not in table.columns or len(table.columns) < 2:
        raise ValueError(
            f"the table has columns {list(table.columns)}; wanted a column 'y' (what is to be explained) and at least "
            f"one other"
        )
    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column):
            raise ValueError(f"column {name!r} holds {column.dtype}, wanted numbers; encode it or leave it out")
        if bad := int((column.isna() | column.abs().eq(math.inf)).sum()):
            raise ValueError(f"column {name!r} has {bad} missing or infinite values; drop or fill those rows first")
        if len(column) < 2 or column.nunique() == 1:
            raise ValueError(
                f"column {name!r} is constant over its {len(column)} rows: it cannot be standardised; leave it out"
            )
    z = (table - table.mean()) / table.std()
    X = torch.tensor(z.drop(columns="y").to_numpy(), dtype=torch.get_default_dtype())
    return X, torch.tensor(z["y"].to_numpy(), dtype=torch.get_default_dtype())


def columns(table: pd.DataFrame | None = None) -> list[str]:
    """The names of the columns of X: bmi, bp, ... of the diabetes set, or those of a table."""
    if table is None:
        from sklearn.datasets import load_diabetes

        return list(load_diabetes().feature_names)
    return [str(name) for name in table.columns if name != "y"]


def _check(X: torch.Tensor, y: torch.Tensor | None) -> None:
    if X.dim() != 2:
        raise ValueError(f"X: got shape {tuple(X.shape)}, wanted (rows, columns); one column is X[:, None]")
    if y is not None and tuple(y.shape) != (len(X),):
        raise ValueError(f"y: got shape {tuple(y.shape)} for X of {len(X)} rows, wanted ({len(X)},)")


def _with_ones(X: torch.Tensor) -> torch.Tensor:
    X = X.double()
    return torch.cat([X, X.new_ones(len(X), 1)], 1)  # (N, D+1)


def _normal(A: torch.Tensor, m: torch.Tensor, cov: torch.Tensor, sigma: float) -> dist.TorchDistribution:
    return dist.Normal(A @ m, (sigma**2 + ((A @ cov) * A).sum(1)).sqrt())


def _student(
    A: torch.Tensor, m: torch.Tensor, cov: torch.Tensor, df: torch.Tensor, noise: torch.Tensor
) -> dist.TorchDistribution:
    return dist.StudentT(df, A @ m, (noise**2 + ((A @ cov) * A).sum(1)).sqrt())
