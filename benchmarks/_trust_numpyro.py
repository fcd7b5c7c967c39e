"""The child process of `_trust_race.py`: NumPyro's AutoMultivariateNormal by Adam until its moments are near the truth.

    python _trust_numpyro.py POSTERIOR FILE FIRST LAST MEAN SD

FILE: an npz with the data and the true moments. FIRST, LAST: learning rates at the first and at the last of MOST steps,
exponential between them. It takes EVERY steps in one `lax.scan`, draws from the guide, compares, and stops where all
means are within MEAN sds and all sds within SD, or after MOST steps. It prints one line of JSON: steps (0: never), CPU
seconds of the steps, CPU seconds of the compiler, the last errors. Importing and comparing are not counted.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

if folder := os.environ.get("CREDO_BENCH_NUMPYRO"):
    sys.path.append(folder)

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal

EVERY, MOST, DRAWS = 500, 30_000, 20_000


def logistic(x, y):
    b = numpyro.sample("b", dist.Normal(0.0, 3.0))
    w = numpyro.sample("w", dist.Normal(jnp.zeros(x.shape[1]), 1.0).to_event(1))
    with numpyro.plate("N", len(y)):
        numpyro.sample("y", dist.Bernoulli(logits=x @ w + b), obs=y)


def correlated(x, y, prior):
    w = numpyro.sample("w", dist.Normal(jnp.zeros(x.shape[1]), prior).to_event(1))
    with numpyro.plate("N", len(y)):
        numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def poisson(x, y):
    b = numpyro.sample("b", dist.Normal(0.0, 3.0))
    w = numpyro.sample("w", dist.Normal(jnp.zeros(x.shape[1]), 1.0).to_event(1))
    with numpyro.plate("N", len(y)):
        numpyro.sample("y", dist.Poisson(jnp.exp(x @ w + b)), obs=y)


def groups(g, x, y, count):
    mu = numpyro.sample("mu", dist.Normal(0.0, 3.0))
    tau = numpyro.sample("tau", dist.HalfNormal(1.0))
    b = numpyro.sample("b", dist.Normal(0.0, 2.0))
    s = numpyro.sample("s", dist.HalfNormal(1.0))
    with numpyro.plate("J", count):
        e = numpyro.sample("e", dist.Normal(0.0, 1.0))
    a = numpyro.deterministic("a", mu + tau * e)
    with numpyro.plate("N", len(y)):
        numpyro.sample("y", dist.Normal(a[g] + b * x, s), obs=y)


MODELS: dict[str, Callable[..., Any]] = {
    "logistic": logistic,
    "correlated": correlated,
    "Poisson regression": poisson,
    "85 groups, decentred": partial(groups, count=85),
}


def main(name: str, file: str, first: float, last: float, of_mean: float, of_sd: float) -> None:
    told = np.load(file)
    data = [jnp.asarray(told[f"data{i}"]) for i in range(sum(key.startswith("data") for key in told))]
    truth = {key[5:]: (told[key], told[f"sd_{key[5:]}"]) for key in told if key.startswith("mean_")}
    guide = AutoMultivariateNormal(MODELS[name])
    svi = SVI(
        MODELS[name], guide, numpyro.optim.Adam(lambda step: first * (last / first) ** (step / MOST)), Trace_ELBO()
    )
    begun = time.process_time()
    state = svi.init(jax.random.PRNGKey(0), *data)

    @jax.jit
    def many(state: Any, *data: jax.Array) -> Any:
        return jax.lax.scan(lambda state, _: svi.update(state, *data), state, None, length=EVERY)[0]

    compiled = many.lower(state, *data).compile()
    compiling, seconds, steps, error = time.process_time() - begun, 0.0, 0, (np.inf, np.inf)
    while steps < MOST and not (error[0] <= of_mean and error[1] <= of_sd):
        begun = time.process_time()
        state = jax.block_until_ready(compiled(state, *data))
        seconds, steps = seconds + time.process_time() - begun, steps + EVERY
        draws = guide.sample_posterior(jax.random.PRNGKey(1), svi.get_params(state), sample_shape=(DRAWS,))
        error = worst(draws, truth)
    near = error[0] <= of_mean and error[1] <= of_sd
    found = {"steps": steps if near else 0, "seconds": seconds, "compiling": compiling, "error": error}
    print(json.dumps(found))


def worst(draws: dict[str, Any], truth: dict[str, Any]) -> tuple[float, float]:
    """(the largest error of a mean, in sds; of an sd, relative) of all sites that are in the truth."""
    found = []
    for name, (mean, sd) in truth.items():
        values = np.asarray(draws[name], dtype=np.float64)
        found.append((np.abs((values.mean(0) - mean) / sd).max(), np.abs(values.std(0) / sd - 1).max()))
    return float(max(each[0] for each in found)), float(max(each[1] for each in found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:7]))
