"""Chains and topics with finite latents, their twins whose sum over the values is written by hand, and a guide."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex

from tests.cases.summed_out.mixtures import normal, prior, total, weights


def chain(x):
    loc, w = prior(), weights()
    z = 0
    for t in pyro.markov(range(len(x))):
        z = pyro.sample(f"z{t}", dist.Categorical(Vindex(torch.stack([w, w.flip(0)]))[z, :]))
        pyro.sample(f"x{t}", dist.Normal(loc[z], 1.0), obs=x[t])


def forward(x, loc, w, mask=None):
    """log p(x) of a chain that begins in state 0, by the forward algorithm."""
    move = torch.stack([w, w.flip(0)]).log()
    alpha = torch.tensor([0.0, -torch.inf])
    for t, v in enumerate(x):
        alpha = (alpha[:, None] + move).logsumexp(0)
        if mask is None or mask[t]:
            alpha = alpha + torch.stack([normal(v, loc[k]) for k in range(2)])
    return alpha.logsumexp(0)


def chain_by_hand(x):
    pyro.factor("x", forward(x, prior(), weights()))


SEQUENCES = torch.tensor([[-2.1, 0.4, 1.7], [1.2, 0.3, -0.6], [0.9, -1.0, 3.0]], dtype=torch.float64)


LENGTHS = torch.tensor([3, 1, 2])


def chains(x):  # a plate of sequences, of lengths of their own
    loc, w = prior(), weights()
    with pyro.plate("S", len(x)):
        z = 0
        for t in pyro.markov(range(x.shape[1])):
            with poutine.mask(mask=t < LENGTHS):
                z = pyro.sample(f"z{t}", dist.Categorical(Vindex(torch.stack([w, w.flip(0)]))[z, :]))
                pyro.sample(f"x{t}", dist.Normal(loc[z], 1.0), obs=x[:, t])


def chains_by_hand(x):
    loc, w = prior(), weights()
    pyro.factor("x", sum(forward(row[:n], loc, w) for row, n in zip(x, LENGTHS, strict=True)))


WORDS = torch.tensor([[0, 2, 1, 0, 3], [3, 3, 2, 0, 1], [1, 1, 0, 2, 0]])  # of 3 documents


def lda(words):
    topics = pyro.sample("topics", dist.Dirichlet(torch.ones(2, 4)).to_event(1))
    with pyro.plate("documents", len(words), dim=-2):
        share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
        with pyro.plate("words", words.shape[1], dim=-1):
            z = pyro.sample("z", dist.Categorical(share))
            pyro.sample("w", dist.Categorical(topics[z]), obs=words)


def lda_guide(words):
    a = pyro.param("a", torch.linspace(1.0, 3.0, 8).reshape(2, 4), constraint=dist.constraints.positive)
    b = pyro.param("b", torch.linspace(0.7, 2.0, 6).reshape(3, 1, 2), constraint=dist.constraints.positive)
    pyro.sample("topics", dist.Dirichlet(a).to_event(1))
    with pyro.plate("documents", len(words), dim=-2):
        pyro.sample("share", dist.Dirichlet(b[: len(words)]))


def lda_by_hand(words):
    topics = pyro.sample("topics", dist.Dirichlet(torch.ones(2, 4)).to_event(1))
    with pyro.plate("documents", len(words), dim=-2):
        share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
    for d, document in enumerate(words):
        for i, word in enumerate(document):
            pyro.factor(f"w{d}_{i}", total(share[d, 0, k].log() + topics[k, word].log() for k in range(2)))
