"""Jointly Gaussian latents: every oracle is one matrix equation, `conditioned`."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from tests.cases.posterior.oracles import Case, conditioned, known_noise, normal_log_prob, randn, rows, t

Y = t(1.3, 0.2, 2.0, -0.7, 0.9, 1.1)
X, LABELS = randn(3, 15, 4), randn(4, 15)
SCHOOLS = t(28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)  # Rubin (1981): effects and their standard errors
ERRORS = t(15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
TABLE = randn(5, 3, 4)
SEEN = torch.tensor([True, False, True, True, False, True])
VECTORS = randn(6, 5, 2)


def eye(n):
    return torch.eye(n, dtype=torch.float64)


def normal(y, m=0.5, s=2.0, noise=0.7):
    z = pyro.sample("z", dist.Normal(m, s))
    rows("y", lambda: dist.Normal(z, noise), y)


def sharp(y):
    """A prior a million times as wide as the noise."""
    normal(y, 0.0, 1000.0, 0.001)


def missing(y):
    z = pyro.sample("z", dist.Normal(0.5, 2.0))
    with pyro.plate("row", len(y)), poutine.mask(mask=torch.tensor([True, False, True, True, False, True])):
        pyro.sample("y", dist.Normal(z, 0.7), obs=y)


def tempered(y):
    """The likelihood to the power of a half."""
    z = pyro.sample("z", dist.Normal(0.5, 2.0))
    with poutine.scale(scale=0.5):
        rows("y", lambda: dist.Normal(z, 0.7), y)


def factored():
    """No data: a factor alone, exp(0.7 - (z - 2)^2)."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("pull", 0.7 - (z - 2.0) ** 2)


def given(y):
    return poutine.condition(lambda: pair(y), data={"b": t(0.25)})()


def pair(y):
    """Two latents of which only the sum is seen."""
    a = pyro.sample("a", dist.Normal(1.0, 2.0))
    b = pyro.sample("b", dist.Normal(0.5 * a, 1.5))
    rows("y", lambda: dist.Normal(a + b, 0.7), y)


def bivariate(y):
    """The first of two correlated coordinates is seen."""
    cov = torch.tensor([[2.0, 1.2], [1.2, 1.5]])
    z = pyro.sample("z", dist.MultivariateNormal(torch.tensor([1.0, -1.0]), cov))
    rows("y", lambda: dist.Normal(z[0], 0.7), y)


def vector_mean(vectors):
    cov, noise = torch.tensor([[2.0, 1.2], [1.2, 1.5]]), torch.tensor([[0.5, -0.2], [-0.2, 0.4]])
    z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), cov))
    rows("y", lambda: dist.MultivariateNormal(z, noise), vectors)


def regression(X, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(X.shape[1], dtype=X.dtype), 1.5).to_event(1))
    b = pyro.sample("b", dist.Normal(0.3, 2.0))
    rows("y", lambda: dist.Normal(X @ w + b, 0.6), y, len(X))


def matrix(X, Z):
    """Two outputs: a matrix of weights, shape (4, 2)."""
    w = pyro.sample("w", dist.Normal(torch.zeros(4, 2, dtype=X.dtype), 1.5).to_event(2))
    rows("z", lambda: dist.Normal(X @ w, 0.6).to_event(1), Z)


def means(y):
    """A mean of its own for each row."""
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Normal(0.5, torch.arange(1.0, 7.0)))
        pyro.sample("y", dist.Normal(2 * z + 1, 0.7), obs=y)


def schools(y, errors):
    """Eight schools with the sd between them known (Gelman et al. 2013, section 5.4)."""
    mu = pyro.sample("mu", dist.Normal(5.0, 20.0))
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, 8.0))
        pyro.sample("y", dist.Normal(theta, errors), obs=y)


def crossed(table):
    """An effect of each row and one of each column, (3, 4)."""
    down, across = pyro.plate("down", 3, dim=-2), pyro.plate("across", 4, dim=-1)
    with down:
        a = pyro.sample("a", dist.Normal(0.5, 1.0))
    with across:
        b = pyro.sample("b", dist.Normal(-0.25, 1.5))
    with down, across:
        pyro.sample("y", dist.Normal(a + b, 0.7), obs=table)


def one(model, y, m, s, A, noise, constant=0.0):
    found = conditioned(t([m]), t([[s**2]]), A[:, None], noise**2 * eye(len(A)), y)
    return Case(model, (y,), {"z": found.block(0)}, found.evidence + constant)


def of_pair():
    P = t([4.0, 2.0], [2.0, 0.25 * 4.0 + 2.25])
    found = conditioned(t(1.0, 0.5), P, torch.ones(6, 2).double(), 0.49 * eye(6), Y)
    return Case(pair, (Y,), {"a": found.block(0), "b": found.block(1)}, found.evidence, {("a", "b"): found.cov[:1, 1:]})


def of_given():
    """b is data: N(0.25; a/2, 1.5)."""
    A = torch.cat([t([[0.5]]), torch.ones(6, 1).double()])
    R = torch.diag(torch.cat([t([2.25]), 0.49 * torch.ones(6).double()]))
    found = conditioned(t([1.0]), t([[4.0]]), A, R, torch.cat([t([0.25]), Y - 0.25]))
    return Case(given, (Y,), {"a": found.block(0)}, found.evidence)


def of_bivariate():
    A = torch.stack([torch.ones(6), torch.zeros(6)], 1).double()
    found = conditioned(t(1.0, -1.0), t([2.0, 1.2], [1.2, 1.5]), A, 0.49 * eye(6), Y)
    return Case(bivariate, (Y,), {"z": found.block(slice(0, 2))}, found.evidence)


def of_vector_mean():
    A = torch.cat([eye(2)] * 5)
    R = torch.block_diag(*[t([0.5, -0.2], [-0.2, 0.4])] * 5)
    found = conditioned(t(0.0, 0.0), t([2.0, 1.2], [1.2, 1.5]), A, R, VECTORS.flatten())
    return Case(vector_mean, (VECTORS,), {"z": found.block(slice(0, 2))}, found.evidence)


def of_regression(X, y, dtype=torch.float64):
    X, y = X.to(dtype), y.to(dtype)
    A = torch.cat([X.double(), torch.ones(len(X), 1).double()], 1)
    found = conditioned(
        t(0, 0, 0, 0, 0.3), torch.diag(t(1.5, 1.5, 1.5, 1.5, 2.0) ** 2), A, 0.36 * eye(len(X)), y.double()
    )
    marginals = {"w": found.block(slice(0, 4)), "b": found.block(4)}
    return Case(regression, (X, y), marginals, found.evidence, {("w", "b"): found.cov[:4, 4:]})


def of_matrix():
    """Columns of the weights know nothing of each other; the site is flattened row by row."""
    Z = randn(7, 15, 2)
    A = torch.kron(X, eye(2))
    found = conditioned(torch.zeros(8).double(), 2.25 * eye(8), A, 0.36 * eye(30), Z.flatten())
    return Case(matrix, (X, Z), {"w": found.block(slice(0, 8))}, found.evidence)


def of_means():
    s = torch.arange(1.0, 7.0).double()
    v = 1 / (s**-2 + 4 / 0.49)
    found = {"z": dist.Normal(v * (0.5 / s**2 + 2 * (Y - 1) / 0.49), v.sqrt())}
    return Case(means, (Y,), found, normal_log_prob(Y, 2.0 * torch.ones(6).double(), torch.diag(4 * s**2 + 0.49)))


def of_schools():
    """z = (mu, theta); theta given mu is N(mu, 8)."""
    P = 400.0 * torch.ones(9, 9).double() + 64.0 * torch.diag(t(0, 1, 1, 1, 1, 1, 1, 1, 1))
    A = torch.cat([torch.zeros(8, 1).double(), eye(8)], 1)
    found = conditioned(5.0 * torch.ones(9).double(), P, A, torch.diag(ERRORS**2), SCHOOLS)
    marginals = {"mu": found.block(0), "theta": found.block(slice(1, 9))}
    return Case(schools, (SCHOOLS, ERRORS), marginals, found.evidence, {("mu", "theta"): found.cov[:1, 1:]})


def of_crossed():
    A = torch.cat([torch.kron(eye(3), torch.ones(4, 1).double()), torch.kron(torch.ones(3, 1).double(), eye(4))], 1)
    m, P = t(*[0.5] * 3, *[-0.25] * 4), torch.diag(t(*[1.0] * 3, *[2.25] * 4))
    found = conditioned(m, P, A, 0.49 * eye(12), TABLE.flatten())
    marginals = {"a": found.block(slice(0, 3)), "b": found.block(slice(3, 7))}
    return Case(crossed, (TABLE,), marginals, found.evidence, {("a", "b"): found.cov[:3, 3:]})


def of_tempered():
    """N(y; z, s)^(1/2) is N(y; z, sqrt(2) s) times (2 pi s^2)^(1/4) sqrt 2 for each row."""
    half = 0.5 * torch.log(2 * torch.pi * t(0.98)) - 0.25 * torch.log(2 * torch.pi * t(0.49))
    return one(tempered, Y, 0.5, 2.0, torch.ones(6).double(), 0.98**0.5, 6 * half.item())


def of_factor():
    """exp(0.7 - (z - 2)^2) is N(2; z, sqrt 0.5) sqrt(pi) e^0.7."""
    case = one(factored, t([2.0]), 0.0, 1.0, t([1.0]), 0.5**0.5, 0.7 + 0.5 * torch.log(t(torch.pi)).item())
    return case._replace(data=())


SHARP = 5 + 0.001 * Y
FINE = known_noise(SHARP, 0.0, 1000.0, 0.001)
NORMALS = {
    "normal": one(normal, Y, 0.5, 2.0, torch.ones(6).double(), 0.7),
    "sharp data, wide prior": Case(sharp, (SHARP,), {"z": FINE[0]}, FINE[1]),
    "missing rows": one(missing, Y[SEEN], 0.5, 2.0, torch.ones(4).double(), 0.7)._replace(data=(Y,)),
    "tempered likelihood": of_tempered(),
    "factor": of_factor(),
    "sum of two": of_pair(),
    "conditioned": of_given(),
    "bivariate": of_bivariate(),
    "vector mean": of_vector_mean(),
    "regression": of_regression(X, LABELS),
    "regression, float32": of_regression(X, LABELS, torch.float32),
    "matrix of weights": of_matrix(),
    "means in a plate": of_means(),
    "eight schools, known sd": of_schools(),
    "crossed effects": of_crossed(),
}
