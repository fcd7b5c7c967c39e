"""The exact ELBO of a pair by trying everything that it can draw: finite sites and subsamples by all of their values.

Normal sites take the nodes of Gauss and Hermite, sites on an interval those of Gauss and Legendre. The weights of
finite values and of the latter carry the gradient in the parameters; the nodes of a Normal move with its parameters.
"""

from collections.abc import Callable, Iterator
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

NORMAL, INTERVAL = 6, 40  # nodes for each number


class Case(NamedTuple):
    """A pair after a test or an example of Pyro's.

    refused: words of the error that credo raises; "" for a pair that runs. elbo: an ELBO of Pyro's whose loss is exact
    here, for latents that the guide leaves out; None: all that the pair can draw is tried. n: gradients to compare.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    data: tuple[Any, ...] = ()
    refused: str = ""
    elbo: Any = None
    n: int = 24


class _Open(Exception):
    """A site for which no value has been chosen yet, and how many it has."""


class _Chosen(Messenger):
    """Gives each site the value with the index chosen for it, and multiplies the probabilities of these values."""

    def __init__(self, index: dict[str, int]) -> None:
        super().__init__()
        self.index, self.weight = index, torch.ones(())

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["value"] is not None:
            return
        if type(msg["fn"]).__name__ == "_Subsample" and msg["fn"].subsample_size in (None, msg["fn"].size):
            return
        values = list(_values(msg["fn"]))
        if msg["name"] not in self.index:
            raise _Open(msg["name"], len(values))
        value, weight = values[self.index[msg["name"]]]
        self.weight = self.weight * weight
        msg["value"], msg["done"] = value, True


def _values(fn: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(value, its probability or weight) for everything that a distribution can draw."""
    name = type(fn).__name__
    if name == "_Subsample":
        all_of_them = list(combinations(range(fn.size), fn.subsample_size))
        yield from ((torch.tensor(rows), torch.tensor(1 / len(all_of_them))) for rows in all_of_them)
        return
    shape = fn.shape()
    while name in ("Independent", "ExpandedDistribution", "MaskedDistribution"):
        fn, name = fn.base_dist, type(fn.base_dist).__name__
    fn = fn.expand(shape[: len(shape) - len(fn.event_shape)])
    if "Delta" in name:
        yield fn.v.expand(shape), torch.ones(())
        return
    n = fn.batch_shape.numel()
    if "Normal" in name:
        nodes, weights = (torch.as_tensor(a, dtype=torch.float32) for a in np.polynomial.hermite_e.hermegauss(NORMAL))
        for index in product(range(NORMAL), repeat=n):
            at = torch.tensor(index, dtype=torch.long).reshape(fn.batch_shape)
            yield fn.loc + fn.scale * nodes[at], (weights / weights.sum())[at].prod()
        return
    if getattr(fn, "has_enumerate_support", False):
        support = fn.enumerate_support(expand=False).reshape(-1, *fn.event_shape)
        masses = torch.ones(len(support))
    else:  # on (0, 1)
        support, masses = (torch.as_tensor(a, dtype=torch.float32) for a in np.polynomial.legendre.leggauss(INTERVAL))
        support, masses = (support + 1) / 2, masses / 2
    for index in product(range(len(support)), repeat=n):
        at = torch.tensor(index, dtype=torch.long).reshape(fn.batch_shape)
        yield support[at], fn.log_prob(support[at]).exp().prod() * masses[at].prod()


def exact_loss(case: Case) -> torch.Tensor:
    """-ELBO of the pair at the parameters of Pyro's store, with its gradient."""
    if case.elbo is not None:
        return case.elbo.differentiable_loss(case.model, case.guide, *case.data)
    total, todo = torch.zeros(()), [{}]
    while todo:
        index = todo.pop()
        try:
            with _Chosen(index) as chosen, pyro.validation_enabled(False):
                q = poutine.trace(case.guide).get_trace(*case.data)
                p = poutine.trace(poutine.replay(case.model, trace=q)).get_trace(*case.data)
        except _Open as site:
            name, count = site.args
            todo += [{**index, name: k} for k in range(count)]
            continue
        total = total + chosen.weight * (q.log_prob_sum() - p.log_prob_sum())
    return total
