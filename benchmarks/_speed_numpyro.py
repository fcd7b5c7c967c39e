"""The contenders of speed.py in NumPyro: `svi.update` under jit in a Python loop, and one `lax.scan` over all steps.

The programs of `_speed_programs`, written again. NumPyro needs funsor, another dependency, to sum over finite sites;
here the sum of `enum` is written by hand. Importing this file needs jax and numpyro.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import torch
from _speed_programs import DEPTHS, LATENTS, NOISE, RATE
from _speed_workloads import BETAS, LAST, Contender, Workload
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO

POSITIVE = constraints.positive
PIECE = 250  # steps of a scan
Start = dict[str, jax.Array]


def coin(start: Start) -> tuple[Callable, Callable]:
    def model(flips):
        p = numpyro.sample("p", dist.Beta(2.0, 2.0))
        with numpyro.plate("N", len(flips)):
            numpyro.sample("x", dist.Bernoulli(p), obs=flips)

    def guide(flips):
        a, b = (numpyro.param(name, start[name], constraint=POSITIVE) for name in "ab")
        numpyro.sample("p", dist.Beta(a, b))

    return model, guide


def regression(start: Start) -> tuple[Callable, Callable]:
    def model(x, y):
        theta = numpyro.sample("theta", dist.Normal(jnp.zeros(x.shape[1]), 1.0).to_event(1))
        with numpyro.plate("N", len(x)):
            numpyro.sample("y", dist.Normal(x @ theta, NOISE), obs=y)

    def guide(x, y):
        L = numpyro.param("L", start["L"], constraint=constraints.lower_cholesky)
        numpyro.sample("theta", dist.MultivariateNormal(numpyro.param("m", start["m"]), scale_tril=L))

    return model, guide


def network(start: Start) -> tuple[Callable, Callable]:
    names = [name.removesuffix(".loc") for name in start if name.endswith(".loc")]

    def model(x, y):
        w = {}
        for name in names:
            zeros = jnp.zeros(start[f"{name}.loc"].shape)
            w[name] = numpyro.sample(name, dist.Normal(zeros, 1.0).to_event(zeros.ndim))
        logits = jax.nn.relu(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]
        with numpyro.plate("N", len(x)):
            numpyro.sample("y", dist.Categorical(logits=logits), obs=y)

    def guide(x, y):
        for name in names:
            loc = numpyro.param(f"{name}.loc", start[f"{name}.loc"])
            scale = numpyro.param(f"{name}.scale", start[f"{name}.scale"], constraint=POSITIVE)
            numpyro.sample(name, dist.Normal(loc, scale).to_event(loc.ndim))

    return model, guide


def vae(start: Start) -> tuple[Callable, Callable]:
    def layers(part: str, x: jax.Array) -> jax.Array:
        p = {name: numpyro.param(name, value) for name, value in start.items() if name.startswith(part)}
        hidden = jax.nn.relu(x @ p[f"{part}.0.weight"] + p[f"{part}.0.bias"])
        return hidden @ p[f"{part}.2.weight"] + p[f"{part}.2.bias"]

    def model(x):
        with numpyro.plate("N", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENTS), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=layers("decoder", z)).to_event(1), obs=x)

    def guide(x):
        mean, log_sd = jnp.split(layers("encoder", x), 2, -1)
        with numpyro.plate("N", len(x)):
            numpyro.sample("z", dist.Normal(mean, jnp.exp(log_sd)).to_event(1))

    return model, guide


def depth(start: Start, summed: bool) -> tuple[Callable, Callable]:
    prior = dist.Categorical(logits=-RATE * jnp.arange(float(DEPTHS)))

    def every_depth(x: jax.Array) -> jax.Array:
        p = {name: numpyro.param(name, value) for name, value in start.items() if name.startswith("net.")}
        h = x @ p["net.stem.weight"] + p["net.stem.bias"]
        found = [h @ p["net.head.weight"] + p["net.head.bias"]]
        for i in range(DEPTHS - 1):
            h = h + jax.nn.relu(h @ p[f"net.blocks.{i}.weight"] + p[f"net.blocks.{i}.bias"])
            found.append(h @ p["net.head.weight"] + p["net.head.bias"])
        return jnp.stack(found)

    def model(x, y):
        if summed:
            fits = dist.Categorical(logits=every_depth(x)).log_prob(y).sum(-1)
            log_q = jax.nn.log_softmax(numpyro.param("q", start["q"]))
            numpyro.factor("sum", (jnp.exp(log_q) * (fits + prior.log_prob(jnp.arange(DEPTHS)) - log_q)).sum())
            return
        z = numpyro.sample("z", prior)
        with numpyro.plate("N", len(x)):
            numpyro.sample("y", dist.Categorical(logits=every_depth(x)[z]), obs=y)

    def guide(x, y):
        if not summed:
            numpyro.sample("z", dist.Categorical(logits=numpyro.param("q", start["q"])))

    return model, guide


PROGRAMS = {
    "coin": coin,
    "BLR": regression,
    "BNN": network,
    "VAE": vae,
    "enum": partial(depth, summed=True),
    "graph": partial(depth, summed=False),
}


def update(workload: Workload, lr: float) -> Contender:
    """`svi.update` under jit, called from Python once a step."""
    svi, state, data = _begun(workload, lr)
    step = jax.jit(svi.update)

    def steps(n: int) -> list[float]:
        nonlocal state
        last: deque[Any] = deque(maxlen=LAST)
        for _ in range(n):
            state, loss = step(state, *data)
            last.append(loss)
        jax.block_until_ready(state)
        return [float(loss) for loss in last]

    return Contender(steps, lambda: _params(svi.get_params(state)))


def scan(workload: Workload, lr: float) -> Contender:
    """All steps of a call in one `lax.scan`, as `svi.run` does it.

    Another number of steps needs another compilation; multiples of 250 share one.
    """
    svi, state, data = _begun(workload, lr)

    @partial(jax.jit, static_argnums=0)
    def many(n: int, state: Any, *data: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(lambda state, _: svi.update(state, *data), state, None, length=n)

    def steps(n: int) -> list[float]:
        nonlocal state
        pieces = n // PIECE if n % PIECE == 0 else 1
        for _ in range(pieces):
            state, losses = many(n // pieces, state, *data)
        return np.asarray(losses)[-LAST:].tolist()

    return Contender(steps, lambda: _params(svi.get_params(state)))


def _begun(workload: Workload, lr: float) -> tuple[SVI, Any, tuple[jax.Array, ...]]:
    start = {name: jnp.asarray(_turned(name, value).numpy()) for name, value in workload.start.items()}
    data = tuple(jnp.asarray(value.numpy()) for value in workload.data)
    model, guide = PROGRAMS[workload.name](start)
    elbo = TraceGraph_ELBO() if workload.elbo == "TraceGraph" else Trace_ELBO()
    svi = SVI(model, guide, numpyro.optim.Adam(lr, b1=BETAS[0], b2=BETAS[1]), elbo)
    return svi, svi.init(jax.random.PRNGKey(0), *data), data


def _params(params: dict[str, jax.Array]) -> dict[str, torch.Tensor]:
    return {name: _turned(name, torch.from_numpy(np.array(value))) for name, value in params.items()}


def _turned(name: str, value: torch.Tensor) -> torch.Tensor:
    """Weights of layers are (out, in) in torch and (in, out) in jax."""
    return value.T.contiguous() if name.endswith(".weight") else value
