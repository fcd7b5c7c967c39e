"""A number that torch cuts to a whole one is found by the site of its distribution; other whole numbers are left."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.preflight.truncated import refuse_truncated

COUNTS = torch.tensor([7.0, 9.0, 8.0, 6.0, 10.0])
LOG_PRIOR = dist.Poisson(15.0).log_prob(torch.arange(80.0))


def known_counts(y):
    n = pyro.sample("n", dist.Poisson(15.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Binomial(n, 0.5), obs=y)


def whole_guide(y):
    scores = pyro.param("scores", torch.zeros(80))
    pyro.sample("n", dist.Categorical(logits=torch.where(torch.arange(80) < 10, -1e4, scores)))


def test_a_probability_beside_the_integers_of_a_categorical_guide():
    with pytest.raises(ValueError, match=r"site 'y': Binomial has the number 0.5 .*site 'n'.* 0; .*n.float\(\)"):
        credo.plan(known_counts, whole_guide, COUNTS)


@pytest.mark.parametrize(("scale", "words"), [(2.7, "site 'x': Normal has the number 2.7"), (0.5, "after site 'k'")])
def test_a_scale_beside_a_whole_mean(scale, words):
    def program():
        k = pyro.sample("k", dist.Categorical(torch.ones(3)))
        pyro.sample("x", dist.Normal(k, scale), obs=torch.tensor(1.0))

    with pytest.raises(ValueError, match=words), pyro.validation_enabled(True), refuse_truncated():
        program()


def test_the_remedy_gives_the_posterior_of_the_count():
    """Enumerated in the guide: the ELBO at the exact posterior is the evidence."""

    def model(y):
        n = pyro.sample("n", dist.Categorical(logits=LOG_PRIOR))
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Binomial(n.float(), 0.5, validate_args=False), obs=y)

    values = torch.arange(80.0)
    likelihood = torch.where(
        values < 10, -torch.inf, dist.Binomial(values[:, None].clamp(min=10), 0.5).log_prob(COUNTS).sum(-1)
    )
    joint = LOG_PRIOR.log_softmax(0) + likelihood

    def guide(y):
        pyro.sample("n", dist.Categorical(logits=joint + 0 * pyro.param("scores", torch.zeros(80))))

    loss = credo.SVI(model, guide, progress=False).evaluate_loss(COUNTS)
    assert loss == pytest.approx(-joint.logsumexp(0).item(), rel=1e-5)


@pytest.mark.parametrize(
    "law",
    [
        lambda k: dist.Normal(k, 1.0),  # nothing is lost
        lambda k: dist.Normal(k.float(), 0.5),
        lambda k: dist.Normal(k, torch.tensor(0.5)),
        lambda k: dist.Normal(torch.tensor(0.7).to(torch.long), 2),
        lambda k: dist.Categorical(torch.tensor([0.5, 0.5])[None]),
        lambda k: dist.Delta(torch.tensor(0.7, dtype=torch.long)),  # the user's own cast
    ],
)
def test_whole_numbers_that_lose_nothing(law):
    with refuse_truncated():
        k = pyro.sample("k", dist.Categorical(torch.ones(3)))
        pyro.sample("x", law(k), obs=torch.tensor(1.0))
