"""The site, or the parameter, that made a run diverge."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.pair.pair import Pair
from credo.inference.variational.nonfinite import where_not_finite

Y = torch.tensor([3.0, 7.0, 5.0])


def guide(y):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.5)), 1.0))


def truncated(y):
    """No count above 6 has a density."""
    pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Binomial(torch.tensor([6.0, 6.0, 6.0]), 0.5), obs=y)


def test_an_observed_value_without_density_is_named_with_its_distribution():
    with pyro.validation_enabled(False):
        text = where_not_finite(Pair(truncated, guide, (Y,)))
    assert "site 'y'" in text and "Binomial(total_count=6" in text and "of the model, for the observed value 7" in text


def seldom(y):
    """Without a density at one draw of six."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, torch.where(z > 1.5, torch.nan, 1.0), validate_args=False), obs=y)


def test_a_draw_that_is_seldom_is_found_and_nothing_else_changes(unchanged):
    guide(Y)  # makes its parameter
    with unchanged(), pyro.validation_enabled(False):
        text = where_not_finite(Pair(seldom, guide, (Y,)))
    assert "site 'y': log_prob is nan under Normal(loc=" in text


def rooted(y):
    """The root has no gradient at 0, which `where` does not hide."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(torch.where(z > 1e9, torch.sqrt(0 * z), z), 1.0), obs=y)


def test_a_gradient_that_is_not_finite_is_named():
    with pyro.validation_enabled(False):
        text = where_not_finite(Pair(rooted, guide, (Y,)))
    assert text == ": the gradient of parameter 'm' is not finite, though the loss is"


def failing(y):
    pyro.sample("z", dist.Normal(0.0, 1.0))
    torch.linalg.cholesky(-torch.eye(2))


def test_an_error_speaks_for_itself():
    assert "not positive-definite" in where_not_finite(Pair(failing, guide, (Y,)))


@pytest.mark.parametrize("y", [Y, Y + 1])
def test_where_all_is_finite_nothing_is_said(y):
    def sound(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    assert where_not_finite(Pair(sound, guide, (y,))) == ""
