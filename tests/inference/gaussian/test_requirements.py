"""What a sampler cannot take is refused before it starts, by the name of the site, the parameter or the setting."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo

FLIPS = torch.tensor([1.0, 1.0, 0.0, 1.0])
FEWER = {"draws": 20, "warmup": 20, "progress": False}  # never enough to be believed


def coin(flips):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(p), obs=flips)


def one(y, prior):
    z = prior()
    pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def interval():
    top = pyro.sample("top", dist.LogNormal(0.0, 1.0))
    return pyro.sample("z", dist.Uniform(0.0, top))


def sometimes():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    return z + pyro.sample("late", dist.Normal(0.0, 1.0)) if z > 0 else z


def sized():
    n = int(pyro.sample("u", dist.Normal(0.0, 2.0)).abs() * 3) + 1
    return pyro.sample("z", dist.Normal(torch.zeros(n), 1.0).to_event(1)).sum()


def noisy():
    return pyro.sample("z", dist.Normal(0.0, 1.0)) + 0.1 * torch.randn(())


def scalar_of(site: str):
    return lambda: pyro.sample(site, dist.Normal(0.0, 1.0))


def unbroadcast():
    k = pyro.sample("k", dist.Bernoulli(0.5))
    return pyro.sample("z", dist.Normal(0.0, 1.0)) + (1.0 if k.item() else -1.0)


def in_one_event():
    k = pyro.sample("k", dist.Bernoulli(torch.full((3,), 0.5)).to_event(1))
    return pyro.sample("z", dist.Normal(k.sum(), 1.0))


def batched():
    with pyro.plate("rows", 6, subsample_size=2):
        return pyro.sample("z", dist.Normal(0.0, 1.0)).sum()


REFUSED = {
    "infinite": (lambda: pyro.sample("n", dist.Poisson(3.0)) + scalar_of("z")(), "site 'n': Poisson is discrete"),
    "one event": (in_one_event, "site 'k': Bernoulli is discrete and cannot be summed out"),
    "code of one value": (unbroadcast, "'k'.*must broadcast"),
    "finite only": (lambda: pyro.sample("k", dist.Bernoulli(0.5)), "finite latents only .*'k'.*credo.exact"),
    "moving support": (interval, "site 'z': its support depends on another latent"),
    "comes and goes": (sometimes, "site 'late' exists for some values"),
    "of many sizes": (sized, "site 'z' has shape"),
    "noise": (noisy, "draws noise that is no site"),
    "a parameter": (lambda: pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0)), "parameter 'm'"),
    "subsampled": (batched, "plate 'rows' is subsampled to 2 of 6"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_sampler_cannot_take_is_refused_with_the_site(name, unchanged):
    prior, words = REFUSED[name]
    with unchanged(), pytest.raises(ValueError, match=words):
        credo.reference(one, torch.tensor(1.0), prior, **FEWER)


def test_parameters_of_a_fit_can_be_handed_over():
    def model(y):
        return one(y, lambda: pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0)))

    held = pyro.poutine.substitute(model, data={"m": torch.tensor(40.0)})
    with pytest.raises(credo.UnreliableReference) as caught:
        credo.reference(held, torch.tensor(40.0), **FEWER)
    assert caught.value.reference.marginals["z"].mean.item() == pytest.approx(40.0, abs=2.0)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("draws", 3, "draws: got 3"),
        ("chains", 1, "chains: got 1"),
        ("warmup", 2.5, "warmup: got 2.5"),
        ("accept", 1.0, "accept"),
    ],
)
def test_settings_out_of_range_are_refused(option, value, words):
    with pytest.raises(ValueError, match=words):
        credo.reference(coin, FLIPS, **{option: value})


def test_bad_data_is_refused_as_by_a_fit():
    with pytest.raises(ValueError, match="flips: 1 of 2 values are not finite"):
        credo.reference(coin, torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match="outside the support of Bernoulli"):
        credo.reference(coin, torch.tensor([1.0, 5.0]))
