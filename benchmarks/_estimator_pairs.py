"""The ten kinds of pairs that estimators.py measures, on small data from fixed seeds (10 is two: a mixture and an HMM).

The programs are in `_estimator_programs.py`, the gradients that they are compared with in `_estimator_references.py`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import _estimator_programs as programs
import torch
from _estimator_programs import NOISE, normal


class Pair(NamedTuple):
    """A model and a guide, and the settings that the benchmark needs for them.

    nesting: the depth of nested plates. trainer: the Pyro choice that makes the checkpoints. hand: other
    guides that an expert would write, by a word for the difference.
    """

    name: str
    model: Callable[..., Any]
    guide: Callable[..., Any]
    data: tuple[torch.Tensor, ...]
    trainer: str
    nesting: int = 1
    hand: Mapping[str, Callable[..., Any]] = MappingProxyType({})


def all_pairs() -> list[Pair]:
    x, rows = normal(100, 5, seed=10), normal(100, 4, seed=11)
    y = x @ torch.tensor([1.0, -0.5, 0.0, 0.5, 2.0]) + normal(100, seed=12, sd=NOISE)
    wave = torch.sin(2 * rows[:, 0]) + rows[:, 1] + normal(100, seed=13, sd=NOISE)
    wide = normal(60, 8, seed=14)
    deep = wide.sum(1) / 8**0.5 + torch.tanh(wide[:, 0]) + normal(60, seed=15, sd=2.0)
    bits = _flips(0.1 + 0.8 * _flips(torch.full((6, 16), 0.5), 16), 17)
    three = torch.tensor([-1.5, 0.0, 1.5]).repeat(34)[:100] + normal(100, seed=18, sd=NOISE)
    two = torch.tensor([-1.0, 1.0]).repeat(30) + normal(60, seed=19, sd=NOISE)
    steps = torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0, -1.0])[:, None] + normal(6, 8, seed=20, sd=NOISE)
    words = torch.randint(10, (16, 8), generator=torch.Generator().manual_seed(21))
    words = torch.where(torch.arange(8) < 4, words // 2, words)  # half of the documents know half of the words
    flips, answers = _flips(torch.full((40,), 0.7), 22), _flips(torch.full((20,), 0.5), 23)
    by_hand = {"score": programs.threshold_by_score}
    return [
        Pair("coin", programs.coin_model, programs.coin_guide, (flips,), "TraceMeanField"),
        Pair("regression", programs.regression_model, programs.regression_guide, (x, y), "TraceMeanField"),
        Pair("belief", programs.belief_model, programs.belief_guide, (bits,), "TraceGraph baseline"),
        Pair("layers", programs.layers_model, programs.layers_guide, (bits,), "TraceGraph baseline"),
        Pair("mixture", programs.mixture_model, programs.mixture_guide, (three,), "TraceEnum parallel"),
        Pair("depth", programs.depth_model, programs.depth_guide, (wide, deep), "TraceEnum parallel"),
        Pair("bnn", programs.bnn_model, programs.bnn_guide, (rows, wave), "TraceMeanField"),
        Pair("lda", programs.lda_model, programs.lda_guide, (words,), "TraceEnum parallel", 2),
        Pair(
            name="threshold",
            model=programs.threshold_model,
            guide=programs.threshold_guide,
            data=(answers,),
            trainer="TraceGraph baseline, score",
            hand=by_hand,
        ),
        Pair("gmm", programs.gmm_model, programs.gmm_guide, (two,), "TraceEnum parallel"),
        Pair("hmm", programs.hmm_model, programs.gmm_guide, (steps,), "TraceEnum parallel"),
    ]


def _flips(p: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.bernoulli(p, generator=torch.Generator().manual_seed(seed))
