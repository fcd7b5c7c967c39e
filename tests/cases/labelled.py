"""Models whose latents belong to columns, categories or rows of their data, and some that only seem to."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch

SCHOOLS = ["Choate", "Deerfield", "Andover", "Exeter", "Hotchkiss", "Lawrenceville", "St. Paul's", "Mt. Hermon"]
EIGHT = pd.DataFrame(
    {"sigma": [15.0, 10, 16, 11, 9, 11, 10, 18], "y": [28.0, 8, -3, 7, -1, 1, 18, 12]},
    index=pd.Index(SCHOOLS, name="school"),
)
COUNTIES = ["AITKIN", "ANOKA", "BECKER", "BELTRAMI", "BENTON"]


def inputs(columns: list[str], n: int = 30) -> pd.DataFrame:
    numbers = np.random.default_rng(0).normal(size=(n, len(columns)))
    return pd.DataFrame(numbers, columns=columns)


def outputs(n: int = 30) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(1))


def houses(counties: int = 5, n: int = 40) -> pd.DataFrame:
    """Text in the order of no alphabet, with every county in it."""
    generator = np.random.default_rng(2)
    codes = np.concatenate([np.arange(counties)[::-1], generator.integers(0, counties, n - counties)])
    floor = generator.integers(0, 2, n)
    y = codes - 0.5 * floor + generator.normal(size=n)
    return pd.DataFrame({"county": np.array(COUNTIES)[codes], "floor": floor, "y": y})


def regression(x, y=None):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(a + x @ b, 1.0), obs=y)


def radon(county, floor, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    tau = pyro.sample("tau", dist.HalfNormal(2.0))
    with pyro.plate("counties", int(county.max()) + 1):
        a = pyro.sample("a", dist.Normal(mu, tau))
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(county)):
        pyro.sample("y", dist.Normal(a[county] + w * floor, 1.0), obs=y)


def schools(sigma, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("J", len(sigma)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * z)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)
