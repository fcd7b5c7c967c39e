"""Pairs with finite latents, whose ELBO is a sum over their values."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import Normal, kl_divergence

from tests.cases.elbo.expectations import (
    Case,
    Y,
    coin,
    coin_of,
    corners,
    entropy,
    hermite,
    log_normal,
    observe,
    param,
    positive,
)

DATA = Y.double()


def fits(mean, scale=1.0, variance=0.0):
    """log p(y) of all rows for each of the means, shape (G,)."""
    return log_normal(DATA, mean[..., None], scale, variance).sum(-1)


def branch_model(y):
    """A Python branch on a discrete latent, with a latent of its own."""
    k = pyro.sample("k", dist.Bernoulli(0.3))
    observe(y, 1 + pyro.sample("z", dist.Normal(0.0, 1.0)) if k.item() else torch.tensor(-0.5))


def branch_guide(y):
    m, s = param("m", 0.8), positive("s", 0.6)
    if pyro.sample("k", dist.Bernoulli(logits=param("u", 1.0))).item():
        pyro.sample("z", dist.Normal(m, s))


def branch_elbo(p):
    one, s = coin(p["u"], 1), p["s"]
    z = log_normal(DATA, 1 + p["m"], 1.0, s**2).sum() - kl_divergence(Normal(p["m"], s), Normal(0.0, 1.0))
    zero = coin(p["u"], 0)
    high = one.exp() * (z + coin_of(0.3, 1) - one)
    return high + zero.exp() * (log_normal(DATA, -0.5).sum() + coin_of(0.3, 0) - zero)


def listed_model(y):
    """The value is an index into a Python list."""
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.2, 0.3])))
    observe(y, [0.0, 1.8, -1.0][int(k)])


def listed_guide(y):
    pyro.sample("k", dist.Categorical(logits=param("u", [0.4, -0.3, 0.1])))


def listed_elbo(p):
    log_q = p["u"].log_softmax(0)
    prior = torch.tensor([0.5, 0.2, 0.3]).double().log()
    return (log_q.exp() * (fits(torch.tensor([0.0, 1.8, -1.0]).double()) + prior - log_q)).sum()


def crossed_model(y):
    a = pyro.sample("a", dist.Bernoulli(0.3))
    b = pyro.sample("b", dist.Bernoulli(0.2 + 0.6 * a))
    observe(y, 2 * b - a)


def crossed_guide(y):
    """The other way round than the model."""
    b = pyro.sample("b", dist.Bernoulli(logits=param("u", -0.3)))
    pyro.sample("a", dist.Bernoulli(logits=param("v", 0.4) + param("w", 0.9) * b))


def crossed_elbo(p):
    a, b = corners(2).T
    log_q = coin(p["u"], b) + coin(p["v"] + p["w"] * b, a)
    log_p = coin_of(0.3, a) + coin((0.2 + 0.6 * a).logit(), b) + fits(2 * b - a)
    return (log_q.exp() * (log_p - log_q)).sum()


def sandwich_model(y):
    """Discrete above continuous above discrete."""
    a = pyro.sample("a", dist.Bernoulli(0.4))
    z = pyro.sample("z", dist.Normal(2 * a - 1, 1.0))
    b = pyro.sample("b", dist.Bernoulli(logits=z))
    observe(y, z + b)


def sandwich_guide(y):
    a = pyro.sample("a", dist.Bernoulli(logits=param("u", -0.5)))
    z = pyro.sample("z", dist.Normal(param("m", [-0.6, 0.4])[a.long()], positive("s", 0.5)))
    pyro.sample("b", dist.Bernoulli(logits=param("v", -0.2) + param("w", 0.7) * z))


def sandwich_elbo(p):
    total = 0.0
    for a, b in corners(2):
        m, q_a = p["m"][int(a)], coin(p["u"], a)
        z, weight = hermite(m, p["s"])
        q_b = coin(p["v"] + p["w"] * z, b)
        inner = q_b.exp() * (coin(z, b) - q_b + fits(z + b))
        kl = kl_divergence(Normal(m, p["s"]), Normal(2 * a - 1, 1.0))
        total = total + q_a.exp() * ((weight * inner).sum() + 0.5 * (coin_of(0.4, a) - q_a - kl))
    return total  # 0.5: what does not see b was added once for each of its two values


def sequence_model(y):
    x = [pyro.sample(f"x{i}", dist.Bernoulli(0.3)) for i in (1, 2, 3)]
    observe(y, x[0] + 2 * x[1] - x[2])


def sequence_guide(y):
    """Autoregressive: each draw looks at those before."""
    u, v = param("u", [0.3, -0.8, 0.2]), param("v", 1.1)
    x1 = pyro.sample("x1", dist.Bernoulli(logits=u[0]))
    x2 = pyro.sample("x2", dist.Bernoulli(logits=u[1] + v * x1))
    pyro.sample("x3", dist.Bernoulli(logits=u[2] - v * x1 * x2))


def sequence_elbo(p):
    x1, x2, x3 = corners(3).T
    log_q = coin(p["u"][0], x1) + coin(p["u"][1] + p["v"] * x1, x2) + coin(p["u"][2] - p["v"] * x1 * x2, x3)
    log_p = coin_of(0.3, x1) + coin_of(0.3, x2) + coin_of(0.3, x3) + fits(x1 + 2 * x2 - x3)
    return (log_q.exp() * (log_p - log_q)).sum()


W = torch.tensor([[1.5, -1.0, 0.5, 0.8], [-0.7, 1.2, 1.0, -1.4], [0.4, 0.6, -1.3, 1.0]])
PIXELS = torch.tensor([1.0, 0.0, 1.0])


def units_model(x):
    """Sigmoid belief net: four units as one event above three pixels."""
    h = pyro.sample("h", dist.Bernoulli(torch.full((4,), 0.3)).to_event(1))
    pyro.sample("x", dist.Bernoulli(logits=param("b", [0.2, -0.4, 0.1]) + h @ W.T).to_event(1), obs=x)


def units_guide(x):
    pyro.sample("h", dist.Bernoulli(logits=param("u", [0.5, -0.4, 0.9, 0.3])).to_event(1))


def units_elbo(p):
    h = corners(4)
    log_q = coin(p["u"], h).sum(-1)
    log_p = coin_of(0.3, h).sum(-1) + coin(p["b"] + h @ W.double().T, PIXELS).sum(-1)
    return (log_q.exp() * (log_p - log_q)).sum()


IMAGES, A = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), torch.tensor([[1.0, -1.0], [0.5, 1.5], [-1.2, 0.7]])


def layers_model(x):
    """Two layers of units, row by row."""
    with pyro.plate("N", len(x)):
        top = pyro.sample("top", dist.Bernoulli(torch.full((2,), 0.4)).to_event(1))
        h = pyro.sample("h", dist.Bernoulli(logits=top @ A.T).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=h @ W[:, :3].T - 0.3).to_event(1), obs=x)


def layers_guide(x):
    """From the pixels up: the units below are drawn first."""
    u, v = param("u", 0.9), param("v", [[0.6, -0.2, 0.4], [-0.5, 0.8, 0.3]])
    with pyro.plate("N", len(x)):
        h = pyro.sample("h", dist.Bernoulli(logits=u * (2 * x - 1)).to_event(1))
        pyro.sample("top", dist.Bernoulli(logits=h @ v.T).to_event(1))


def layers_elbo(p):
    units = corners(5)
    h, top = units[:, :3], units[:, 3:]
    total = 0.0
    for x in IMAGES.double():
        log_q = coin(p["u"] * (2 * x - 1), h).sum(-1) + coin(h @ p["v"].T, top).sum(-1)
        log_p = coin_of(0.4, top).sum(-1) + coin(top @ A.double().T, h).sum(-1)
        log_p = log_p + coin(h @ W[:, :3].double().T - 0.3, x).sum(-1)
        total = total + (log_q.exp() * (log_p - log_q)).sum()
    return total


PRIORS = torch.tensor([[0.5, 0.2, 0.3], [0.2, 0.2, 0.6]])


def choices_model(y):
    """Two categorical units as one event."""
    k = pyro.sample("k", dist.Categorical(PRIORS).to_event(1))
    observe(y, k[..., 0] - 0.5 * k[..., 1])


def choices_guide(y):
    pyro.sample("k", dist.Categorical(logits=param("u", [[0.2, 0.6, -0.3], [0.1, -0.2, 0.8]])).to_event(1))


def choices_elbo(p):
    k = corners(2, 3)
    log_q, prior = p["u"].log_softmax(-1), PRIORS.double().log()
    log_q, prior = (t[0, k[:, 0].long()] + t[1, k[:, 1].long()] for t in (log_q, prior))
    return (log_q.exp() * (prior - log_q + fits(k[:, 0] - 0.5 * k[:, 1]))).sum()


def tossed_model(y):
    observe(y, 0.8 * pyro.sample("k", dist.Binomial(3, torch.tensor(0.4))))


def tossed_guide(y):
    pyro.sample("k", dist.Binomial(3, logits=param("u", 0.7)))


def tossed_elbo(p):
    k = torch.arange(4).double()
    log_q = dist.Binomial(3, logits=p["u"]).log_prob(k)
    log_p = dist.Binomial(3, torch.tensor(0.4).double()).log_prob(k) + fits(0.8 * k)
    return (log_q.exp() * (log_p - log_q)).sum()


def helped_model(y):
    observe(y, pyro.sample("z", dist.Normal(0.0, 1.0)))


def helped_guide(y):
    """A coin of the guide's own: the bound is E[log p - log q(u) - log q(z | u)]."""
    u = pyro.sample("u", dist.Bernoulli(logits=param("logit", 0.6)), infer={"is_auxiliary": True})
    pyro.sample("z", dist.Normal(param("m", [-0.5, 1.0])[u.long()], positive("s", 0.4)))


def helped_elbo(p):
    log_q = torch.stack([coin(p["logit"], k) for k in (0, 1)])
    given = fits(p["m"], 1.0, p["s"] ** 2) + log_normal(0.0, p["m"], 1.0, p["s"] ** 2) + entropy(p["s"])
    return (log_q.exp() * (given - log_q)).sum()


def by(estimator, *names):
    return tuple({name: estimator} for name in names)


COINS = {
    "branch with a latent of its own": Case(branch_model, branch_guide, branch_elbo, by("score", "k"), 8, 40),
    "index into a list": Case(listed_model, listed_guide, listed_elbo, by("score", "k"), 8, 40),
    "coins, crossed": Case(crossed_model, crossed_guide, crossed_elbo, by("score", "a", "b")),
    "coin, normal, coin": Case(sandwich_model, sandwich_guide, sandwich_elbo, by("score", "a", "z", "b")),
    "autoregressive guide": Case(sequence_model, sequence_guide, sequence_elbo, by("score", "x1", "x2", "x3")),
    "belief net": Case(units_model, units_guide, units_elbo, by("score", "h"), data=(PIXELS,)),
    "belief net, two layers": Case(layers_model, layers_guide, layers_elbo, by("score", "h"), data=(IMAGES,)),
    "categorical units": Case(choices_model, choices_guide, choices_elbo, by("score", "k")),
    "binomial": Case(tossed_model, tossed_guide, tossed_elbo, by("score", "k")),
    "auxiliary coin": Case(helped_model, helped_guide, helped_elbo, by("score", "u", "z")),
}
