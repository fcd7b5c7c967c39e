"""Newton's steps on all rows come to the mode that they have on the whole data, also from far away."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.gaussian.laplace import laplace
from credo.inference.importance.newton import mode_of_all_rows
from credo.inference.runtime.defaults import CPU, default_dtype
from credo.inference.runtime.state import entered
from tests.cases.windows import X, Y, all_rows, in_files, logistic, small_windows


@pytest.mark.parametrize("start", [[0.0, 0.0, 0.0], [4.0, 5.0, -6.0]])
def test_the_mode_is_that_of_the_whole_data(start, tmp_path, monkeypatch):
    small_windows(monkeypatch)
    rows, state = all_rows(logistic, in_files(tmp_path, X, Y))
    u = torch.tensor(start, dtype=torch.float64)
    whole, other, _ = prepared(logistic, (X, Y), CPU, 0)
    with entered(other), default_dtype(torch.float64):
        wanted = laplace(whole.at_each, whole.hessians, u)
    with entered(state), default_dtype(torch.float64):
        found = mode_of_all_rows(rows, u)
    far = (found.normal.mean - wanted.normal.mean).abs() / wanted.normal.sd
    assert far.max() < 0.05
    torch.testing.assert_close(found.normal.sd, wanted.normal.sd, rtol=1e-2, atol=0)
    near = wanted.normal.mean + wanted.normal.sd
    with entered(other), default_dtype(torch.float64):
        value = whole.log_joint(near)
    assert found.values(near[None])[0].item() == pytest.approx(value.item(), abs=0.1)


def test_a_density_without_a_maximum_has_no_mode(tmp_path, monkeypatch):
    def flat(x, y):
        w = pyro.sample("w", dist.ImproperUniform(dist.constraints.real, (), ()))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x[:, 0] * 0 + 0.1 * (w - w)), obs=y)

    small_windows(monkeypatch)
    rows, state = all_rows(flat, in_files(tmp_path, X, Y))
    with entered(state), default_dtype(torch.float64):
        assert mode_of_all_rows(rows, torch.zeros(1, dtype=torch.float64)) is None
