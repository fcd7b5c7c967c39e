"""Every model with finite latents beside its twin, and how their densities are compared."""

import pyro
import torch

import credo
from credo.inference.pair.costs import run
from credo.inference.runtime.vectorise import each, repeat
from tests.cases.summed_out.mixtures import (
    X,
    dependent,
    dependent_by_hand,
    dependent_guide,
    guide,
    impossible,
    impossible_by_hand,
    inside_and_outside,
    inside_and_outside_by_hand,
    masked,
    masked_by_hand,
    mixture,
    mixture_by_hand,
    one_for_all,
    one_for_all_by_hand,
    scaled,
    scaled_by_hand,
    weighted_rows,
    weighted_rows_by_hand,
)
from tests.cases.summed_out.sequences import (
    SEQUENCES,
    WORDS,
    chain,
    chain_by_hand,
    chains,
    chains_by_hand,
    lda,
    lda_by_hand,
    lda_guide,
)

PAIRS = {
    "mixture": (mixture, mixture_by_hand, guide, X),
    "one for all rows": (one_for_all, one_for_all_by_hand, guide, X),
    "inside and outside": (inside_and_outside, inside_and_outside_by_hand, guide, X),
    "dependent": (dependent, dependent_by_hand, dependent_guide, X),
    "mask": (masked, masked_by_hand, guide, X),
    "scale": (scaled, scaled_by_hand, guide, X),
    "scale of each row": (weighted_rows, weighted_rows_by_hand, guide, X),
    "chain": (chain, chain_by_hand, guide, X),
    "chains": (chains, chains_by_hand, guide, SEQUENCES),
    "topics": (lda, lda_by_hand, lda_guide, WORDS),
    "impossible": (impossible, impossible_by_hand, guide, X),
}


def begun(model, guide, *data, **options):
    return credo.SVI(model, guide, **options)._begin(data)[:2]


def density(pair, draws, vectorised):
    """log p(x, z) - log q(z) at each of the draws, shape (n,)."""

    def one(z):
        return sum((-1 if side == "guide" else 1) * cost.sum() for (side, _), cost in run(pair, z).costs.items())

    return each(one, draws, vectorised)


def draws_of(pair, n):
    """n draws of the guide, differentiable in its parameters."""
    return repeat(lambda: run(pair).z, n, False)


def slopes(value):
    leaves = dict(pyro.get_param_store().named_parameters())
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()), retain_graph=True), strict=True))
