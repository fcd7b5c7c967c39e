"""The programs of estimators.py: ten kinds of models and guides, ordinary Pyro.

Plates and broadcasting leave room for a particle dimension on the left, so that Pyro's `vectorize_particles` works.
"""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.ops.indexing import Vindex
from torch.distributions import constraints

POSITIVE = constraints.positive
CUT, LIKELY = 0.5, 0.9  # of the threshold model: P(y = 1) is LIKELY where z > CUT, 1 - LIKELY elsewhere
NOISE = 0.5  # sd of the observations of the regression, the mixtures, the hidden Markov model and the network
RATE = 1.5  # of stochastic depth: p(depth) ∝ exp(-RATE depth)
SCALE = 10  # how many batches the whole data of the Bayesian network has
LEAP = torch.tensor([[0.8, 0.2], [0.3, 0.7]])  # of the hidden Markov model: P(next state | state)


def normal(*shape: int, seed: int = 0, sd: float = 1.0) -> torch.Tensor:
    """Fixed numbers that look like draws of N(0, sd²)."""
    return sd * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _linear(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x: (..., N, in). w: (out, in), or (particles, 1, out, in) with the room that was left for the plate of rows."""
    return F.linear(x, w) if w.dim() == 2 else x @ w.squeeze(-3).mT


# 1: coin


def coin_model(flips):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("x", dist.Bernoulli(p), obs=flips)


def coin_guide(flips):
    a = pyro.param("a", torch.tensor(2.0), constraint=POSITIVE)
    b = pyro.param("b", torch.tensor(2.0), constraint=POSITIVE)
    pyro.sample("p", dist.Beta(a, b))


# 2: linear regression


def regression_model(x, y):
    theta = pyro.sample("theta", dist.Normal(torch.zeros(5), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal((x * theta).sum(-1), NOISE), obs=y)


def regression_guide(x, y):
    m = pyro.param("m", torch.zeros(5))
    s = pyro.param("s", torch.ones(5), constraint=POSITIVE)
    pyro.sample("theta", dist.Normal(m, s).to_event(1))


# 3: sigmoid belief net of one layer


def belief_model(x):
    prior = pyro.param("prior", torch.zeros(20))
    w, b = pyro.param("w", normal(20, 16, seed=1, sd=0.5)), pyro.param("b", torch.zeros(16))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Bernoulli(logits=prior).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=z @ w + b).to_event(1), obs=x)


def belief_guide(x):
    q = pyro.param("q", torch.zeros(len(x), 20))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Bernoulli(logits=q).to_event(1))


# 4: sigmoid belief net of two layers


def layers_model(x):
    prior = pyro.param("prior", torch.zeros(8))
    w2, w1 = pyro.param("w2", normal(8, 8, seed=2)), pyro.param("w1", normal(8, 16, seed=3))
    with pyro.plate("N", len(x)):
        z2 = pyro.sample("z2", dist.Bernoulli(logits=prior).to_event(1))
        z1 = pyro.sample("z1", dist.Bernoulli(logits=z2 @ w2).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=z1 @ w1).to_event(1), obs=x)


def layers_guide(x):
    q1, q2 = pyro.param("q1", torch.zeros(len(x), 8)), pyro.param("q2", torch.zeros(len(x), 8))
    u = pyro.param("u", normal(8, 8, seed=4, sd=0.1))
    with pyro.plate("N", len(x)):
        z1 = pyro.sample("z1", dist.Bernoulli(logits=q1).to_event(1))
        pyro.sample("z2", dist.Bernoulli(logits=q2 + z1 @ u).to_event(1))


# 5: mixture, the component of each row in the guide; 10: mixture, the component summed out of the model


def mixture_model(x, components=3):
    locs = pyro.sample("locs", dist.Normal(torch.zeros(components), 3.0).to_event(1))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.ones(components) / components))
        pyro.sample("x", dist.Normal(Vindex(locs)[..., z], NOISE), obs=x)


def mixture_guide(x):
    _locs_guide(torch.tensor([-1.0, 0.0, 1.0]))
    q = pyro.param("q", torch.zeros(len(x), 3))
    with pyro.plate("N", len(x)):
        pyro.sample("z", dist.Categorical(logits=q))


def gmm_model(x):
    mixture_model(x, components=2)


def gmm_guide(x):
    _locs_guide(torch.tensor([-0.5, 0.5]))


def _locs_guide(begin):
    m = pyro.param("m", begin)
    s = pyro.param("s", torch.full_like(begin, 0.5), constraint=POSITIVE)
    pyro.sample("locs", dist.Normal(m, s).to_event(1))


# 6: stochastic depth


def depth_model(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(6, 8, 8), 0.5).to_event(3))
    v = pyro.sample("v", dist.Normal(torch.zeros(8), 0.5).to_event(1))
    z = pyro.sample("depth", dist.Categorical(logits=-RATE * torch.arange(7)))
    h = x
    for layer in range(6):
        on = (z > layer).to(x.dtype)[..., None]
        h = h + on * torch.tanh(_linear(h, w[..., layer, :, :]))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal((h * v).sum(-1), 2.0), obs=y)


def depth_guide(x, y):
    w = pyro.param("w_point", normal(6, 8, 8, seed=5, sd=0.3))
    m, s = pyro.param("m", torch.full((8,), 0.3)), pyro.param("s", torch.full((8,), 0.2), constraint=POSITIVE)
    q = pyro.param("q", torch.zeros(7))
    pyro.sample("w", dist.Delta(w).to_event(3))
    pyro.sample("v", dist.Normal(m, s).to_event(1))
    pyro.sample("depth", dist.Categorical(logits=q))


# 7: Bayesian network, a batch of its data


def bnn_model(x, y):
    w1 = pyro.sample("w1", dist.Normal(torch.zeros(20, 4), 0.5).to_event(2))
    b1 = pyro.sample("b1", dist.Normal(torch.zeros(20), 0.5).to_event(1))
    w2 = pyro.sample("w2", dist.Normal(torch.zeros(1, 20), 0.3).to_event(2))
    with pyro.plate("N", SCALE * len(x), subsample=torch.arange(len(x))):
        h = torch.tanh(_linear(x, w1) + b1)
        pyro.sample("y", dist.Normal(_linear(h, w2).squeeze(-1), NOISE), obs=y)


def bnn_guide(x, y):
    for name, shape, seed in (("w1", (20, 4), 6), ("b1", (20,), 7), ("w2", (1, 20), 8)):
        m = pyro.param(f"{name}_m", normal(*shape, seed=seed, sd=0.3))
        s = pyro.param(f"{name}_s", torch.full(shape, 0.1), constraint=POSITIVE)
        pyro.sample(name, dist.Normal(m, s).to_event(len(shape)))


# 8: latent Dirichlet allocation, the topic of each word in the guide


def lda_model(words):
    topics = pyro.sample("topics", dist.Dirichlet(torch.ones(3, 10)).to_event(1))
    with pyro.plate("documents", words.shape[1]):
        shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("positions", words.shape[0]):
            z = pyro.sample("z", dist.Categorical(shares))
            pyro.sample("word", dist.Categorical(Vindex(topics)[..., z, :]), obs=words)


def lda_guide(words):
    n, documents = words.shape
    topics = pyro.param("topics_q", 1 + normal(3, 10, seed=9).abs(), constraint=POSITIVE)
    shares = pyro.param("shares_q", torch.ones(documents, 3) + 1, constraint=POSITIVE)
    q = pyro.param("q", torch.zeros(n, documents, 3))
    pyro.sample("topics", dist.Dirichlet(topics).to_event(1))
    with pyro.plate("documents", documents):
        pyro.sample("shares", dist.Dirichlet(shares))
        with pyro.plate("positions", n):
            pyro.sample("z", dist.Categorical(logits=q))


# 9: threshold


def threshold_model(y):
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Bernoulli(torch.where(z > CUT, LIKELY, 1 - LIKELY)), obs=y)


def threshold_guide(y):
    m, s = _threshold_params(len(y))
    with pyro.plate("N", len(y)):
        pyro.sample("z", dist.Normal(m, s))


def threshold_by_score(y):
    m, s = _threshold_params(len(y))
    with pyro.plate("N", len(y)):
        pyro.sample("z", dist.Normal(m, s).has_rsample_(False))


def _threshold_params(n):
    return pyro.param("m", torch.zeros(n)), pyro.param("s", torch.ones(n), constraint=POSITIVE)


# 10: hidden Markov model, the states summed out of the model


def hmm_model(x):
    locs = pyro.sample("locs", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with pyro.plate("N", x.shape[1]):
        z = torch.tensor(0)
        for t in pyro.markov(range(len(x))):
            z = pyro.sample(f"z{t}", dist.Categorical(Vindex(LEAP)[z, :]))
            pyro.sample(f"x{t}", dist.Normal(Vindex(locs)[..., z], NOISE), obs=x[t])
