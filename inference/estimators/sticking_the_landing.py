"""Sticking the landing: log q differentiated along the draw alone (Roeder, Wu and Duvenaud 2017, eq. 7).

The derivative of log q by its parameters at a fixed draw has mean zero: E_q[d log q / d parameters] = 0. Leaving it out
keeps the mean of the gradient, and makes the gradient exact where q is the posterior.
"""

import torch
from pyro import poutine

from ..pair.costs import run
from ..pair.pair import Pair
from ..runtime.traced import traced


def log_q(pair: Pair, z: dict[str, torch.Tensor]) -> torch.Tensor:
    """log q(z) of the whole guide, a scalar in nats and double precision."""
    trace = traced(poutine.condition(pair.guide, z), pair.data)
    trace.compute_log_prob()
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return sum((s["log_prob"].sum(dtype=torch.float64) for s in sites), torch.zeros((), dtype=torch.float64))


def why_not(pair: Pair) -> str | None:
    """None if log q(z) is a function of z and the parameters alone; else why not: a guide with dropout of its own."""
    with torch.no_grad():
        z = run(pair).z
        same = torch.equal(log_q(pair, z), log_q(pair, z))
    return None if same else "the guide draws noise of its own: log q is no function of the draws"
