"""No run changes the data, and arguments of other lengths are named."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo


def mean_guide(y, *_):
    m = pyro.param("m", torch.tensor(0.0))
    s = pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("mu", dist.Normal(m, s))


def plain(y, *_):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def shifts(y):
    y -= 0.01
    plain(y)


def fills(y):
    y[y < 1.5] = 1.5
    plain(y)


def guide_that_shifts(y):
    y.sub_(0.01)
    mean_guide(y)


@pytest.mark.parametrize(
    ("model", "guide"), [(shifts, mean_guide), (shifts, None), (fills, mean_guide), (plain, guide_that_shifts)]
)
def test_a_pair_that_changes_its_data_is_refused_and_the_users_tensor_is_unchanged(model, guide):
    y = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"y: the model or the guide changes this argument in place.*y = y.clone\(\)"):
        credo.fit(model, guide, y, progress=False)
    assert y.tolist() == [1.0, 2.0, 3.0]


def test_a_copy_may_be_changed():
    def model(y):
        y = y.clone()
        y -= 1.0
        plain(y)

    y = torch.tensor([1.0, 2.0, 3.0])
    fit = credo.fit(model, mean_guide, y, steps=2, progress=False)
    assert y.tolist() == fit.data[0].tolist() == [1.0, 2.0, 3.0]


def test_a_fit_keeps_its_data_when_the_user_changes_theirs():
    y = torch.tensor([1.0, 2.0, 3.0])
    fit = credo.fit(plain, mean_guide, y, steps=2, progress=False)
    y.zero_()
    assert fit.data[0].tolist() == [1.0, 2.0, 3.0]


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def free(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("y", -((y - w * x) ** 2).sum())


@pytest.mark.parametrize("model", [line, free])
@pytest.mark.parametrize("call", [lambda *a: credo.fit(a[0], None, *a[1:], progress=False), credo.exact])
def test_arguments_of_other_lengths_are_named(model, call):
    with pytest.raises(ValueError, match="x has 5 rows and y has 4, and the pair cannot use them together"):
        call(model, torch.ones(5), torch.ones(4))


def test_other_errors_about_sizes_are_left_as_they_are():
    def model(x, groups):
        torch.ones(2) + torch.ones(3)

    with pytest.raises(RuntimeError, match=r"^The size of tensor a \(2\)"):
        credo.fit(model, None, torch.ones(5), torch.ones(2), progress=False)


def test_lengths_that_differ_on_purpose_are_fine():
    """A row for each observation beside one for each group."""

    def model(group, mean, y):
        with pyro.plate("groups", len(mean)):
            a = pyro.sample("a", dist.Normal(mean, 1.0))
        with pyro.plate("N", len(group)):
            pyro.sample("y", dist.Normal(a[group], 1.0), obs=y)

    group = torch.tensor([0, 1, 0, 1, 1])
    assert credo.fit(model, None, group, torch.ones(2), torch.ones(5), steps=2, progress=False).losses
