"""Models whose finite latents cannot be summed out are refused before the first step, by the name of the site."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex

from tests.cases.repeats import seeds
from tests.cases.summed_out.mixtures import MASK, X, guide, impossible, inside_and_outside, one_for_all, prior, weights
from tests.cases.summed_out.pairs import begun

pytestmark = pytest.mark.usefixtures("double")


def test_a_long_chain_without_markov_is_told_of_it():
    def model(x):
        loc, w = prior(), weights()
        z = 0
        for t in range(len(x)):
            z = pyro.sample(f"z{t}", dist.Categorical(Vindex(torch.stack([w, w.flip(0)]))[z, :]))
            pyro.sample(f"x{t}", dist.Normal(loc[z], 1.0), obs=x[t])

    with pytest.raises(ValueError, match=r"sites 'z0', 'z1', .* and 66 more: .* step through a chain with pyro.markov"):
        begun(model, guide, torch.zeros(70))


@pytest.mark.parametrize(("model", "site"), [(one_for_all, "z"), (inside_and_outside, "a")])
def test_batches_of_a_site_that_all_rows_share_are_refused(model, site):
    with pytest.raises(ValueError, match=f"site '{site}': summed out .* a batch cannot be scaled to the whole"):
        begun(model, guide, X, batch_size=2)


def test_scales_that_differ_within_a_group_are_refused():
    def model(x):
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
            with poutine.scale(scale=3.0):
                pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)

    with pytest.raises(ValueError, match=r"sites 'z', 'x': summed out .* 'z' is scaled by 1 and 'x' by 3"):
        begun(model, guide, X)


@pytest.mark.parametrize("seed", seeds(5))
def test_a_value_inside_the_support_for_some_value_of_the_site_is_enough(seed):
    assert begun(impossible, guide, X, seed=seed)[1].summed.sites == {"z"}
    with pytest.raises(ValueError, match=r"site 'x': 1 of 4 observed values lie outside the support"):
        begun(impossible, guide, torch.tensor([0.0, 1.0, 2.5, -9.5]), seed=seed)


def test_an_infinite_site_that_the_guide_lacks_is_still_an_error():
    def model(x):
        loc = prior()
        with pyro.plate("N", len(x)):
            n = pyro.sample("n", dist.Poisson(2.0))
            pyro.sample("x", dist.Normal(loc[0] * n, 1.0), obs=x)

    with pytest.raises(ValueError, match="the guide has no site 'n'"):
        begun(model, guide, X)


def test_rows_of_one_event_are_still_an_error():
    def model(x):
        loc = prior()
        z = pyro.sample("z", dist.Bernoulli(0.5).expand([4]).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(loc[z.long()], 1.0), obs=x)

    with pytest.raises(ValueError, match="the guide has no site 'z'"):
        begun(model, guide, X)


def branch(z, loc):
    return loc[1] if z > 0 else loc[0]


def shape(z, loc):
    return torch.stack([loc[0] + k for k in z.expand(4).unbind()])


@pytest.mark.parametrize("mean", [branch, shape], ids=lambda f: f.__name__)
def test_a_model_that_fails_with_all_values_at_once_is_refused_by_name(mean):
    def model(x):
        loc, w = prior(), weights()
        z = pyro.sample("z", dist.Categorical(w))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(mean(z, loc), 1.0), obs=x)

    with pytest.raises(ValueError, match=r"site 'z': not in the guide.*broadcast.*There the model raised") as caught:
        begun(model, guide, X)
    assert caught.value.__cause__ is not None


def test_a_model_that_goes_wrong_without_a_word_is_refused_too():
    def model(x):  # the sum over rows is one over values when these come at once
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("n", dist.Normal(z.sum() + loc[0], 1.0), obs=x[0])

    with pytest.raises(ValueError, match=r"site 'z': .* There the density of 'n' is not what it is with one value"):
        begun(model, guide, X)


def test_rows_that_meet_again_would_take_every_combination_and_are_refused():
    def model(x):  # two plates that cross, a site for each row of each
        loc, w = prior(), weights()
        one, two = pyro.plate("one", 4, dim=-2), pyro.plate("two", 4, dim=-1)
        with one:
            a = pyro.sample("a", dist.Categorical(w))
        with two:
            b = pyro.sample("b", dist.Categorical(w))
        with one, two:
            pyro.sample("x", dist.Normal(loc[a] * loc[b], 1.0), obs=x.expand(4, 4))

    with pytest.raises(ValueError, match=r"sites 'a', 'b', 'x': .* every combination of values"):
        begun(model, guide, X)


def test_a_site_whose_probabilities_do_not_add_up_is_refused():
    def model(x):
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w).mask(MASK))
            pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)

    with pytest.raises(ValueError, match=r"site 'z': .* do not add up to one"):
        begun(model, guide, X)
