"""The density of all rows is that of the whole data; models whose rows depend on each other are refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.importance.all_rows import NotARow, refuse_dependent
from credo.inference.importance.newton import second_order
from credo.inference.runtime.defaults import CPU, default_dtype
from credo.inference.runtime.state import entered
from tests.cases.windows import X, Y, all_rows, in_files, logistic, small_windows

US = torch.tensor([[0.5, -1.0, 0.3], [2.0, 1.0, -4.0]], dtype=torch.float64)


@pytest.fixture
def files(tmp_path, monkeypatch):
    small_windows(monkeypatch)
    return in_files(tmp_path, X, Y)


def test_values_and_derivatives_are_those_of_the_whole_data(files):
    rows, state = all_rows(logistic, files)
    whole, other, _ = prepared(logistic, (X, Y), CPU, 0)
    with entered(other), default_dtype(torch.float64):
        wanted, gradients = whole.at_each(US)
        hessian = whole.hessians(US[:1])[0]
    with entered(state), default_dtype(torch.float64):
        assert len(rows.source.chunks) == 15
        torch.testing.assert_close(rows.values(US), wanted)
        found = rows.summed(lambda density: second_order(density, US[0], rows)[1:])
    torch.testing.assert_close(found[0], wanted[0])
    torch.testing.assert_close(found[1], gradients[0])
    torch.testing.assert_close(found[2], hessian)


def centred(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=(x - x.mean(0)) @ w), obs=y)


def averaged(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.factor("fit", dist.Bernoulli(logits=x @ w).log_prob(y).mean())


@pytest.mark.parametrize("model", [centred, averaged])
def test_rows_that_depend_on_each_other_are_refused(model, files):
    rows, state = all_rows(model, files)
    with entered(state), default_dtype(torch.float64), pytest.raises(NotARow, match="rows are not independent"):
        refuse_dependent(rows, US[:, :2])


def test_independent_rows_are_not_refused(files):
    rows, state = all_rows(logistic, files)
    with entered(state), default_dtype(torch.float64):
        refuse_dependent(rows, US)
