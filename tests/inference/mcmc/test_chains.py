"""Chains together: the same as each alone, and reliable draws of posteriors that are known."""

import numpy as np
import pytest
import torch

from credo.inference.mcmc.chains import begin, sampling, together, warm_up
from credo.inference.mcmc.diagnostics import mixing
from credo.inference.mcmc.starts import Starts

SDS = torch.logspace(-4, 6, 6, dtype=torch.float64)


def scores(us):
    """Independent normals with means 3 sd."""
    e = us / SDS - 3
    return -e.square().sum(-1) / 2, -e / SDS


def test_each_chain_is_what_it_would_be_alone():
    us = SDS * (3 + torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    F, all_of_them = SDS.numpy(), begin(Starts(us, SDS), scores, seed=5)
    for c, chain in enumerate(all_of_them):
        chain.step = 0.3 * (c + 1)  # trajectories of unlike lengths
    alone = begin(Starts(us, SDS), scores, seed=5)
    together([sampling(chain, F, 20, lambda: None) for chain in all_of_them], scores, us)
    for c, chain in enumerate(alone):
        chain.step = 0.3 * (c + 1)
        together([sampling(chain, F, 20, lambda: None)], scores, us)
        np.testing.assert_allclose(chain.kept, all_of_them[c].kept, rtol=1e-9)


@pytest.mark.parametrize(
    "factor",
    [SDS.diag(), 0.05 * SDS.diag(), SDS, 0.1 * SDS * torch.logspace(0, 2, 6)],
    ids=["right", "too narrow", "diagonal", "wrong by up to ten"],
)
def test_the_warm_up_finds_the_scales(factor):
    starts = Starts(SDS * (3 + torch.tensor([[1.0], [-1.0], [0.5], [-0.5]])), factor)
    told = []
    chains = begin(starts, scores, seed=0)
    F = warm_up(chains, starts, scores, 500, 0.8, lambda: told.append(1))
    assert len(told) == 4 * 500
    sds = np.sqrt(np.square(F).sum(1)) if F.ndim == 2 else F
    assert len({chain.step for chain in chains}) == 1 and {len(chain.kept) for chain in chains} == {50}
    for chain in chains:
        chain.kept, chain.divergences = [], 0
    assert np.abs(np.log(sds / SDS.numpy())).max() < 0.5
    together([sampling(chain, F, 300, lambda: None) for chain in chains], scores, starts.us)
    u = torch.tensor(np.stack([np.stack(chain.kept) for chain in chains]))
    m = mixing(u)
    assert m.rhat.max() < 1.02 and not any(chain.divergences for chain in chains)
    assert ((u.mean((0, 1)) - 3 * SDS).abs() < 4.5 * m.mean_error).all()
    assert ((u.flatten(0, 1).std(0) - SDS).abs() < 4.5 * m.sd_error).all()
