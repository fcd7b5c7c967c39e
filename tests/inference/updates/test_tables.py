"""Tables of a run: trained by rows, judged by a panel, against the exact posterior and runs on all rows."""

import pyro
import pytest
import torch

import credo
from credo.inference.pair.batches import Rows
from credo.inference.runtime.parameters import unconstrained
from credo.inference.updates.tables import begin_tables
from tests.cases import row_latents

N = 60
Y = row_latents.data(N)
QUIET = {"compile": False, "progress": False}


def test_the_mean_gradient_of_the_batches_of_an_epoch_is_that_of_all_rows():
    how = {"particles": 500, "plan": "fast", "seed": 1, **QUIET}
    few, every = (credo.SVI(row_latents.model, row_latents.guide, batch_size=size, **how) for size in (20, None))
    few.prepare(Y)
    every.prepare(Y)
    epochs = [[few.gradients(Y) for _ in range(3)] for _ in range(6)]  # of three batches
    all_rows = [every.gradients(Y) for _ in range(6)]
    for name in all_rows[0]:
        wanted = torch.stack([draw[name] for draw in all_rows])
        found = torch.stack([torch.stack([draw[name] for draw in epoch]).mean(0) for epoch in epochs])
        assert found.shape == wanted.shape
        error = ((found.var(0) + wanted.var(0)).mean() / 6).sqrt()  # of the difference, as large for every row
        assert (found.mean(0) - wanted.mean(0)).abs().max() < 8 * error, name


def test_replayed_steps_are_those_of_the_program():
    one, two = (credo.SVI(row_latents.model, row_latents.guide, batch_size=7, seed=1, progress=False) for _ in range(2))
    two._captures = None
    for svi in (one, two):
        svi.run(Y, steps=60)
    assert "captured" in one.plan.compiled
    assert torch.allclose(torch.tensor(one.losses), torch.tensor(two.losses), rtol=1e-5)
    for name, value in two.params.items():
        assert torch.allclose(one.params[name], value, rtol=1e-4, atol=1e-5), name


def test_rows_outside_of_the_batches_stay_as_they_were():
    svi = credo.SVI(row_latents.model, "mean_field", batch_size=7, seed=1, **QUIET)
    svi.prepare(Y)
    before = svi.params
    svi.step(Y)
    moved = [(svi.params[f"AutoNormal.{part}.z"] != before[f"AutoNormal.{part}.z"]) for part in ("locs", "scales")]
    assert moved[0].sum() == 7 and torch.equal(*moved)


def test_a_run_goes_on_from_its_state():
    first = credo.SVI(row_latents.model, row_latents.guide, batch_size=20, seed=1, **QUIET)
    for _ in range(5):
        first.step(Y)
    second = credo.SVI(row_latents.model, row_latents.guide, batch_size=20, seed=1, **QUIET)
    second.load_state_dict(first.state_dict())
    for svi in (first, second):
        for _ in range(5):
            svi.step(Y)
    assert first.losses == second.losses
    assert all(torch.equal(value, second.params[name]) for name, value in first.params.items())


def test_looks_see_the_panel_in_the_order_of_the_store():
    with pyro.get_param_store().scope():
        row_latents.guide(Y)
        rows = Rows((0,), N, 5, frozenset({"N"}), frozenset({"loc", "scale"}))
        tables = begin_tables(rows, torch.optim.Adam(unconstrained().values()))
        tables.panel = torch.tensor([3, 1])
        tables.wholes["loc"].copy_(torch.arange(float(N)))
        point = tables.iterate()
        assert point.tolist()[2:4] == [3.0, 1.0] and len(point) == 6
        assert torch.equal(tables.outside(point), point[:2])
        with tables.in_store(tables.panel, ()), torch.no_grad():
            assert [tuple(p.shape) for p in unconstrained().values()] == [(), (), (2,), (2,)]
            unconstrained()["loc"].add_(0.5)
        assert tables.wholes["loc"][:4].tolist() == [0.0, 1.5, 2.0, 3.5]


def test_an_optimiser_that_has_no_update_of_rows_is_refused():
    with pytest.raises(ValueError, match="RMSprop has no update of some rows"):
        credo.fit(row_latents.model, row_latents.guide, Y, batch_size=20, optim=torch.optim.RMSprop, steps=2, **QUIET)


@pytest.mark.slow
@pytest.mark.parametrize("guide", [row_latents.guide, "mean_field"], ids=["own", "mean field"])
def test_the_posterior_of_every_row_is_the_exact_one(guide):
    y = row_latents.data(300)
    fit = credo.fit(row_latents.model, guide, y, batch_size=50, lr=0.05, seed=1, progress=False)
    assert fit.converged
    mean, sd, means, sds = row_latents.exact_moments(y)
    found = fit.summary()
    z = found[found.index.astype(str).str.startswith("z")]
    assert abs(found.loc["mu", "mean"] - mean) < 0.1 * sd
    assert abs(found.loc["mu", "sd"] / sd - 1) < 0.05
    assert (torch.tensor(z["mean"].values) - means).abs().max() < 0.1 * sds[0]
    assert (torch.tensor(z["sd"].values) / sds - 1).abs().max() < 0.05
