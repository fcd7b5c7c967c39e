"""A fit from its file: which guide it gets, and what is said where the programs need the data."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoLaplaceApproximation, AutoMultivariateNormal

import credo
from credo.inference.runtime.defaults import default_dtype

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
    for i in range(int(lengths[0])):
        pyro.sample(f"x{i}", dist.Normal(m, 1.0))
    pyro.sample("y", dist.Normal(m, 1.0), obs=torch.log(torch.tensor([1.0, 2.0])[lengths.max() - 2]))


def test_programs_that_do_not_run_without_the_data_say_so(tmp_path):
    lengths = torch.tensor([3, 2, 2])
    fit = credo.fit(looped, AutoMultivariateNormal(looped), lengths, steps=5, progress=False, compile=False)
    fit.save(tmp_path / "fit")
    again = credo.load_fit(tmp_path / "fit", looped, AutoMultivariateNormal(looped), lengths)
    assert torch.equal(again.sample(3)["x1"], fit.sample(3)["x1"])
    with pytest.raises(ValueError, match="fit: "):  # of other sites: the guide has other numbers of latents
        credo.load_fit(tmp_path / "fit", looped, AutoMultivariateNormal(looped))


def by_largest(group, y=None):
    with pyro.plate("G", int(group.max()) + 1):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(group)):
        pyro.sample("y", dist.Normal(a[group], 1.0), obs=y)


def by_number(group, y=None):
    with pyro.plate("G", len(group.unique())):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(group)):
        pyro.sample("y", dist.Normal(a[group - 1], 1.0), obs=y)


def by_mask(mask, y=None):
    with pyro.plate("G", int(mask.sum())):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a.sum(), 1.0).expand([len(mask)]).to_event(1), obs=y)


COUNTED = {
    "largest": (by_largest, torch.tensor([1, 0, 2, 2])),
    "number": (by_number, torch.tensor([2, 3, 1, 1])),
    "mask": (by_mask, torch.tensor([True, False, True, True])),
}


@pytest.mark.parametrize("guide", ["mean_field", "full_rank"])
@pytest.mark.parametrize("case", COUNTED)
def test_a_number_of_groups_that_the_codes_give_needs_no_data(case, guide, tmp_path):
    program, group = COUNTED[case]
    fit = credo.fit(program, guide, group, Y, steps=5, progress=False, compile=False)
    fit.save(tmp_path / "fit")
    again = credo.load_fit(tmp_path / "fit", program)
    assert torch.equal(again.sample(3)["a"], fit.sample(3)["a"])
    assert torch.equal(again.predict(3, group)["y"], fit.predict(3, group)["y"])


def test_programs_that_have_other_shapes_without_the_data_ask_for_them(tmp_path):
    def by_floats(group, y=None):
        by_largest(group.long(), y)

    group = torch.tensor([1.0, 0.0, 2.0, 2.0])
    fit = credo.fit(by_floats, "mean_field", group, Y, steps=5, progress=False, compile=False)
    fit.save(tmp_path / "fit")
    with pytest.raises(ValueError, match=r"stand-ins of their shapes .* pass the data: credo.load_fit\("):
        credo.load_fit(tmp_path / "fit", by_floats)
    assert torch.equal(credo.load_fit(tmp_path / "fit", by_floats, None, group, Y).sample(3)["a"], fit.sample(3)["a"])


def counts(power, t, y):
    b = pyro.sample("b", dist.Normal(0.0, 0.1))
    with pyro.plate("N", len(t)):
        pyro.sample("y", dist.Poisson(torch.exp(b * t**power)), obs=y)


def test_another_function_of_whole_numbers_is_refused_without_the_data(tmp_path):
    program = functools.partial(counts, 1)
    fit = credo.fit(program, "mean_field", torch.arange(4), Y.round(), steps=5, progress=False, compile=False)
    fit.save(tmp_path / "fit")
    credo.load_fit(tmp_path / "fit", functools.partial(counts, 1))
    with pytest.raises(ValueError, match="not the model and the guide of the fit: site 'y'"):
        credo.load_fit(tmp_path / "fit", functools.partial(counts, 2))


def linear(x, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 1.0).expand([1]).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.StudentT(4.0, x @ b, 1.0), obs=y)


@pytest.mark.parametrize("given", [(), (Y[:, None], Y)], ids=["without data", "with data"])
@pytest.mark.parametrize("guide", ["mean_field", "full_rank"])
@pytest.mark.parametrize("first, second", [(torch.float64, torch.float32), (torch.float32, torch.float64)], ids=str)
def test_a_fit_of_another_default_dtype_is_the_same(first, second, guide, given, tmp_path):
    x = Y.to(first)
    with default_dtype(first):
        fit = credo.fit(linear, guide, x[:, None], x, steps=5, progress=False, compile=False)
        fit.save(tmp_path / "fit")
        drawn = fit.predict(3, x[:, None])["y"]
    with default_dtype(second):
        fit.save(tmp_path / "again")  # in another default than it was made in
        for name in ("fit", "again"):
            again = credo.load_fit(tmp_path / name, linear, None, *(value.to(first) for value in given))
            assert torch.get_default_dtype() == second
            assert torch.equal(again.sample(3)["b"], fit.sample(3)["b"])
            assert torch.equal(again.predict(3, x[:, None])["y"], drawn)
