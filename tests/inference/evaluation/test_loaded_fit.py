"""A fit from its file: which guide it gets, and what is said where the programs need the data."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoLaplaceApproximation, AutoMultivariateNormal

import credo

Y = torch.tensor([0.5, 1.5, 2.0, 0.1])


def model(y):
    m = pyro.sample("m", dist.Normal(0.0, 2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.StudentT(4.0, m, 1.0), obs=y)


def test_a_word_that_could_not_have_made_the_guide_is_refused(tmp_path):
    fit = credo.fit(model, "full_rank", Y, progress=False)
    fit.save(tmp_path / "fit")
    for guide in (None, "full_rank", AutoLaplaceApproximation(model)):
        again = credo.load_fit(tmp_path / "fit", model, guide, Y)
        assert torch.equal(again.sample(3)["m"], fit.sample(3)["m"])
    with pytest.raises(ValueError, match="guide: got 'map', and credo made the guide of this fit"):
        credo.load_fit(tmp_path / "fit", model, "map", Y)


def test_weighted_draws_are_a_guide(tmp_path):
    fit = credo.fit(model, "mean_field", Y, progress=False).reweighted
    fit.save(tmp_path / "fit")
    again = credo.load_fit(tmp_path / "fit", model, None, Y)
    assert again.method == fit.method and torch.equal(again.sample(9)["m"], fit.sample(9)["m"])
    assert again.summary(50).equals(fit.summary(50))


def looped(lengths):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    for i in range(int(lengths.min())):
        pyro.sample(f"x{i}", dist.Normal(m, 1.0))
    pyro.sample("y", dist.Normal(m, 1.0), obs=torch.log(torch.tensor([1.0, 2.0])[lengths.max() - 2]))


def test_programs_that_do_not_run_without_the_data_say_so(tmp_path):
    lengths = torch.tensor([2, 3])
    fit = credo.fit(looped, AutoMultivariateNormal(looped), lengths, steps=5, progress=False, compile=False)
    fit.save(tmp_path / "fit")
    again = credo.load_fit(tmp_path / "fit", looped, AutoMultivariateNormal(looped), lengths)
    assert torch.equal(again.sample(3)["x1"], fit.sample(3)["x1"])
    with pytest.raises(ValueError, match="fit: "):  # of other sites: the guide has other numbers of latents
        credo.load_fit(tmp_path / "fit", looped, AutoMultivariateNormal(looped))
