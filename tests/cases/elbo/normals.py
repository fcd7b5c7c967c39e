"""Pairs with continuous latents: implicit draws, kinks, jumps, crossed orders, supports that are learnt."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import Dirichlet, Gamma, Normal, kl_divergence
from torch.distributions import constraints as c

from tests.cases.elbo.expectations import Case, Y, entropy, log_normal, mean_under, observe, param, positive

DATA = Y.double()
ONE = torch.ones((), dtype=torch.float64)


def fits(mean, variance=0.0, scale=1.0):
    """E[log p(y)] of all rows, for each of the means."""
    return log_normal(DATA, mean[..., None], scale, torch.as_tensor(variance)[..., None]).sum(-1)


def with_mean(f):
    """z ~ N(0, 1), y ~ N(f(z), 1)."""

    def model(y):
        observe(y, f(pyro.sample("z", dist.Normal(0.0, 1.0))))

    return model


def normal_guide(y):
    pyro.sample("z", dist.Normal(param("m", -0.5), positive("s", 0.6)))


def normal_kl(p):
    return kl_divergence(Normal(p["m"], p["s"]), Normal(0.0, 1.0))


def step_elbo(p):
    high = Normal(0.0, 1.0).cdf(p["m"] / p["s"])
    return high * fits(2 * ONE) + (1 - high) * fits(0 * ONE) - normal_kl(p)


def relu_elbo(p):
    return mean_under(Normal(p["m"], p["s"]), lambda z: fits(z.relu()), -8.0, 8.0) - normal_kl(p)


def identity_elbo(p):
    return fits(p["m"], p["s"] ** 2) - normal_kl(p)


def scaled_elbo(p):
    """Twice log p, once log q."""
    square = p["s"] ** 2
    return 2 * (fits(p["m"], square) + log_normal(0.0, p["m"], 1.0, square)) + entropy(p["s"])


def crossed_model(y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    observe(y, pyro.sample("z", dist.Normal(w, 1.0)))


def crossed_guide(y):
    z = pyro.sample("z", dist.Normal(param("m", 0.4), positive("s", 0.6)))
    pyro.sample("w", dist.Normal(param("a", 0.5) * z, positive("t", 0.7)))


def crossed_elbo(p):
    m, a, s2, t2 = p["m"], p["a"], p["s"] ** 2, p["t"] ** 2
    z = log_normal(0.0, (1 - a) * m, 1.0, (1 - a) ** 2 * s2 + t2)
    w = log_normal(0.0, a * m, 1.0, a**2 * s2 + t2)
    return fits(m, s2) + z + w + entropy(p["s"]) + entropy(p["t"])


def hierarchy_guide(y):
    """w and then z, as in the model: given w the KL of z is closed."""
    w = pyro.sample("w", dist.Normal(param("m", 0.4), positive("s", 0.6)))
    pyro.sample("z", dist.Normal(param("a", 0.5) * w + param("b", 0.3), positive("t", 0.7)))


def hierarchy_elbo(p):
    m, a, b, s2, t2 = p["m"], p["a"], p["b"], p["s"] ** 2, p["t"] ** 2
    z = log_normal(0.0, (1 - a) * m - b, 1.0, (1 - a) ** 2 * s2 + t2)
    fit = fits(a * m + b, a**2 * s2 + t2)
    return fit + z + log_normal(0.0, m, 1.0, s2) + entropy(p["s"]) + entropy(p["t"])


def uniform_guide(y):
    pyro.sample("z", dist.Uniform(0.0, positive("end", 2.2)))


def uniform_elbo(p):
    """z = end * u is a smooth path; the density of z moves its end."""
    mean, variance = p["end"] / 2, p["end"] ** 2 / 12
    return fits(mean, variance) + log_normal(0.0, mean, 1.0, variance) + p["end"].log()


def uniform_step_elbo(p):
    """P(z > 1) = 1 - 1 / end, the likelihood is that of 2 there and of 0 below."""
    high, mean = 1 - 1 / p["end"], p["end"] / 2
    fit = high * fits(2 * ONE) + (1 - high) * fits(0 * ONE)
    return fit + log_normal(0.0, mean, 1.0, p["end"] ** 2 / 12) + p["end"].log()


TALLY = torch.tensor([2.0, 0.0, 3.0])


def gamma_model(n):
    z = pyro.sample("z", dist.Gamma(2.0, 1.5))
    with pyro.plate("N", len(n)):
        pyro.sample("n", dist.Poisson(z), obs=n)


def gamma_guide(n):
    pyro.sample("z", dist.Gamma(positive("a", 1.7), positive("b", 2.6)))


def gamma_elbo(p):
    a, b = p["a"], p["b"]
    log_z = torch.digamma(a) - b.log()
    fit = TALLY.double().sum() * log_z - len(TALLY) * a / b - torch.lgamma(TALLY.double() + 1).sum()
    return fit - kl_divergence(Gamma(a, b), Gamma(2 * ONE, 1.5 * ONE))


CLASSES = torch.tensor([0, 2, 2, 1, 2])


def dirichlet_model(classes):
    z = pyro.sample("z", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("N", len(classes)):
        pyro.sample("x", dist.Categorical(z), obs=classes)


def dirichlet_guide(classes):
    pyro.sample("z", dist.Dirichlet(positive("a", [1.5, 2.5, 1.2])))


def dirichlet_elbo(p):
    log_z = torch.digamma(p["a"]) - torch.digamma(p["a"].sum())
    return log_z[CLASSES].sum() - kl_divergence(Dirichlet(p["a"]), Dirichlet(torch.ones(3).double()))


def circle_model(y):
    z = pyro.sample("z", dist.VonMises(0.0, 0.7))
    observe(y, 2 * torch.cos(z))


def circle_guide(y):
    pyro.sample("z", dist.VonMises(param("m", 1.2), positive("k", 1.5)))


def circle_elbo(p):
    q, prior = dist.VonMises(p["m"], p["k"]), dist.VonMises(0 * ONE, 0.7 * ONE)
    return mean_under(q, lambda z: fits(2 * z.cos()) + prior.log_prob(z) - q.log_prob(z), -torch.pi, torch.pi)


def laplace_model(y):
    observe(y, pyro.sample("z", dist.Laplace(0.0, 1.0)))


def laplace_elbo(p):
    """The prior has a kink where q has its mass."""
    q = Normal(p["m"], p["s"])
    return mean_under(q, lambda z: fits(z) - z.abs() - torch.tensor(2.0).log() - q.log_prob(z), -8.0, 8.0)


def joint_model(y):
    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    observe(y, z[..., 0] - 2 * z[..., 1])


def joint_guide(y):
    tril = param("tril", [[0.8, 0.0], [-0.3, 0.5]], c.lower_cholesky)
    pyro.sample("z", dist.MultivariateNormal(param("m", [0.7, -0.2]), scale_tril=tril))


def joint_elbo(p):
    square = p["tril"] @ p["tril"].T
    v = torch.tensor([1.0, -2.0]).double()
    kl = 0.5 * (square.trace() + p["m"] @ p["m"] - 2) - p["tril"].diagonal().log().sum()
    return fits(v @ p["m"], v @ square @ v) - kl


SCORE = ({"z": "score"},)
NORMALS = {
    "step of a normal": Case(with_mean(lambda z: 2.0 * (z > 0)), normal_guide, step_elbo, SCORE, 120),
    "relu of a normal": Case(with_mean(torch.relu), normal_guide, relu_elbo, (*SCORE, {"z": "pathwise"}), 120),
    "detached normal": Case(with_mean(lambda z: z.detach()), normal_guide, identity_elbo),
    "model scaled alone": Case(poutine.scale(with_mean(lambda z: z), scale=2.0), normal_guide, scaled_elbo, SCORE),
    "normals, crossed": Case(crossed_model, crossed_guide, crossed_elbo, (*SCORE, {"w": "score"})),
    "hierarchical guide": Case(crossed_model, hierarchy_guide, hierarchy_elbo, (*SCORE, {"w": "score"})),
    "learnt support": Case(with_mean(lambda z: z), uniform_guide, uniform_elbo, ({"z": "pathwise"},)),
    "gamma": Case(gamma_model, gamma_guide, gamma_elbo, SCORE, data=(TALLY,)),
    "dirichlet": Case(dirichlet_model, dirichlet_guide, dirichlet_elbo, (), 10, 30, data=(CLASSES,)),
    "von Mises": Case(circle_model, circle_guide, circle_elbo, (), 20, 25),
    "kink in the prior": Case(laplace_model, normal_guide, laplace_elbo, SCORE),
    "joint normal": Case(joint_model, joint_guide, joint_elbo, SCORE, 160, 64),
}
MOVING = {  # the end of the support moves with the parameter: the score does not see it, nor the path the jump
    "learnt support, smooth": Case(with_mean(lambda z: z), uniform_guide, uniform_elbo),
    "learnt support, a step": Case(with_mean(lambda z: 2.0 * (z > 1)), uniform_guide, uniform_step_elbo),
}
