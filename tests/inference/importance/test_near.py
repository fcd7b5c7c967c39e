"""log p near a mode, from some rows: within the error that it states, and of all rows where it must be."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.importance import near as module
from credo.inference.importance.near import ERROR, Near, values_near
from credo.inference.importance.newton import mode_of_all_rows
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered
from tests.cases.windows import N, X, Y, all_rows, in_files, logistic, small_windows


@pytest.fixture
def rows(tmp_path, monkeypatch):
    small_windows(monkeypatch)
    monkeypatch.setattr(module, "CHUNKS", 4)
    monkeypatch.setattr(module, "ROWS", 100)
    found, state = all_rows(logistic, in_files(tmp_path, X, Y))
    with entered(state), default_dtype(torch.float64):
        yield found


def around(mode, sds, n=200):
    e = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return mode.normal.at(sds * e), mode.normal.log_prob_at(sds * e)


def test_some_rows_tell_the_density_within_the_error_that_they_state(rows):
    mode = mode_of_all_rows(rows, torch.zeros(3, dtype=torch.float64))
    us, log_q = around(mode, 1.0)
    wanted = rows.values(us)
    errors = []
    for seed in range(8):
        found, error = values_near(Near(rows, [mode], False, seed), us, log_q)
        far = (found - wanted).abs().max().item()
        assert 0 < far < 6 * error  # the largest of 200, by the spread of four chunks
        errors.append(far)
    quadratic = (mode.values(us) - wanted).abs().max().item()
    assert sum(errors) / len(errors) < quadratic  # the rows say more than the quadratic alone


def test_more_rows_are_taken_until_the_error_is_small(rows):
    mode = mode_of_all_rows(rows, torch.zeros(3, dtype=torch.float64))
    us, log_q = around(mode, 3.0)
    some, error = values_near(Near(rows, [mode], False), us, log_q)
    exact, none = values_near(Near(rows, [mode], True), us, log_q)
    wanted = rows.values(us)
    assert error > ERROR and none == 0.0
    torch.testing.assert_close(exact, wanted)
    assert not torch.allclose(some, wanted, atol=1e-3)


def test_each_point_is_near_its_own_mode(rows):
    one = mode_of_all_rows(rows, torch.zeros(3, dtype=torch.float64))
    shifted = one._replace(at=one.at + 50, value=one.value - 1e4)
    us, log_q = around(one, 1.0)
    alone, _ = values_near(Near(rows, [one], False), us, log_q)
    both, _ = values_near(Near(rows, [shifted, one], False), us, log_q)
    torch.testing.assert_close(both, alone)


def test_a_latent_that_few_rows_tell_is_not_taken_for_normal(tmp_path, monkeypatch):
    """Five rows of 3,000 have a rate of their own, whose posterior is skewed: a Gamma(6) in the place of a normal."""
    monkeypatch.setattr(module, "CHUNKS", 4)
    monkeypatch.setattr(module, "ROWS", 100)
    small_windows(monkeypatch)
    group, count = torch.zeros(N, 2), torch.ones(N)
    group[torch.arange(5) * 550 + 3] = torch.tensor([1.0, 0.0])

    def model(group, count):
        rate = pyro.sample("rate", dist.Gamma(torch.ones(2), 0.1).to_event(1))
        with pyro.plate("N", len(count)):
            pyro.sample("count", dist.Poisson(torch.where(group[:, 0] > 0, rate[0], rate[1])), obs=count)

    rows, state = all_rows(model, in_files(tmp_path, group, count))
    with entered(state), default_dtype(torch.float64):
        mode = mode_of_all_rows(rows, torch.zeros(2, dtype=torch.float64))
        e = torch.randn(100, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        us, log_q = mode.normal.at(e), mode.normal.log_prob_at(e)
        for seed in range(4):
            assert values_near(Near(rows, [mode], False, seed), us, log_q)[1] == torch.inf
        found, error = values_near(Near(rows, [mode], True), us, log_q)
        assert error == 0.0
        torch.testing.assert_close(found, rows.values(us))
        assert (mode.values(us) - found).abs().max() > 0.5  # the normal is wrong
