"""Finite latents: compared with the forward-backward algorithm and with sums over a list of all values."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo

torch.manual_seed(0)
NOISE = torch.randn(20, dtype=torch.float64)


def near(one, two, relative=1e-8):
    torch.testing.assert_close(
        torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(two, dtype=torch.float64), rtol=relative, atol=1e-9
    )


def chain(y):
    table, z = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), 0
    for t in pyro.markov(range(len(y))):
        z = pyro.sample(f"z{t}", dist.Categorical(table[z]))
        pyro.sample(f"y{t}", dist.Normal(torch.tensor([-1.0, 1.0])[z], 1.0), obs=y[t])


def test_a_hidden_chain_is_that_of_the_forward_backward_algorithm():
    y, n = NOISE, len(NOISE)
    A = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    near_y = torch.stack([dist.Normal(m, 1.0).log_prob(y).exp() for m in (-1.0, 1.0)], -1)
    ahead, behind = [A[0] * near_y[0]], [torch.ones(2, dtype=torch.float64)]
    for t in range(1, n):
        ahead.append(ahead[-1] @ A * near_y[t])
        behind.append(A @ (near_y[n - t] * behind[-1]))
    found = credo.exact(chain, y)
    both = torch.stack(ahead) * torch.stack(behind[::-1])
    probabilities = both / both.sum(1, keepdim=True)
    near([found.marginals[f"z{t}"].mean for t in range(n)], probabilities[:, 1])
    assert abs(found.log_evidence - ahead[-1].sum().log().item()) < 1e-9
    drawn = found.sample(20_000)
    pair = (drawn["z10"] * drawn["z11"]).double().mean()  # both are 1
    exactly = ahead[10][1] * A[1, 1] * near_y[11, 1] * behind[::-1][11][1] / ahead[-1].sum()
    assert abs(pair - exactly) < 0.02


def nested(x):
    z = pyro.sample("z", dist.Categorical(torch.tensor([0.3, 0.3, 0.4])))
    with pyro.plate("J", 2):
        k = pyro.sample("k", dist.Bernoulli(torch.tensor([0.5, 0.1, 0.7])[z]))
        with pyro.plate("N", 3):
            pyro.sample("x", dist.Normal(k + z, 1.0), obs=x)


def test_finite_latents_in_plates_are_those_of_their_list():
    x = NOISE[:6].reshape(3, 2)
    table = torch.zeros(3, 2, 2, dtype=torch.float64)  # of z and the two k
    for z, one, two in torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(2)).tolist():
        k, p = torch.tensor([one, two]), [0.5, 0.1, 0.7][z]
        seen = dist.Normal(k + float(z), torch.ones((), dtype=torch.float64)).log_prob(x).sum()
        table[z, one, two] = seen + math.log([0.3, 0.3, 0.4][z]) + sum(math.log(p if i else 1 - p) for i in (one, two))
    found, q = credo.exact(nested, x), table.flatten().softmax(0).reshape(3, 2, 2)
    assert abs(found.log_evidence - table.flatten().logsumexp(0).item()) < 1e-9
    near(found.marginals["z"].probs, q.sum((1, 2)))
    near(found.marginals["k"].probs, [q[:, 1].sum(), q[:, :, 1].sum()])
    drawn = found.sample(20_000)
    together = ((drawn["z"] == 2) & (drawn["k"] == 1).all(-1)).double().mean()
    assert abs(together - q[2, 1, 1]) < 0.02


def neighbours(x):
    """Rows of a plate that look at each other: nothing broadcasts, and 2^20 values are too many."""
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(k + torch.roll(k, 1, -1), 1.0), obs=x)


def test_a_refusal_of_finite_latents_speaks_of_no_guide():
    with pytest.raises(credo.NoClosedForm, match="'k'") as refused:
        credo.exact(neighbours, NOISE)
    assert "guide" not in str(refused.value)


def test_a_finite_latent_that_depends_on_another_outside_of_plates():
    def model(y):
        k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
        j = pyro.sample("j", dist.Bernoulli(0.2 + 0.3 * (k == 1)))
        pyro.sample("y", dist.StudentT(4.0, j + k, 1.0), obs=y)

    y = torch.tensor(1.2, dtype=torch.float64)
    prior = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.8, 0.2]], dtype=torch.float64) / 3  # k, j
    joint = prior * dist.StudentT(4.0, torch.arange(3.0)[:, None] + torch.arange(2.0), 1.0).log_prob(y).exp()
    found = credo.exact(model, y)
    near(found.log_evidence, joint.sum().log(), 1e-6)
    near(found.marginals["k"].probs, joint.sum(1) / joint.sum(), 1e-6)
    near(found.marginals["j"].probs, joint[:, 1].sum() / joint.sum(), 1e-6)
