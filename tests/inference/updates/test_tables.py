"""Tables of a run: trained by rows, judged by a panel, against the exact posterior and runs on all rows."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import credo
from credo.inference.convergence import newton
from credo.inference.pair.batches import Rows
from credo.inference.runtime.parameters import unconstrained
from credo.inference.updates import tables
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


GUIDES = [row_latents.guide, "mean_field"]
ROWS = [3, 17, -1]


def own(guide):
    """The guide as an argument of `load_fit`, which finds credo's own by itself."""
    return () if isinstance(guide, str) else (guide,)


@pytest.mark.parametrize("guide", GUIDES, ids=["own", "mean field"])
def test_a_file_keeps_the_latents_of_every_row(guide, tmp_path):
    fit = credo.fit(row_latents.model, guide, Y, batch_size=20, steps=40, seed=1, **QUIET)
    fit.save(tmp_path / "bare")
    fit.save(tmp_path / "whole", with_data=True)
    draws, given, summary = fit.sample(5), fit.sample(5, rows=ROWS), fit.summary(50, rows=ROWS)
    assert given["z"].shape == (5, 3) and list(summary.index) == ["mu", "z[3]", "z[17]", f"z[{N - 1}]"]
    for again in (
        credo.load_fit(tmp_path / "whole", row_latents.model, *own(guide)),
        credo.load_fit(tmp_path / "bare", row_latents.model, guide, Y),
    ):
        assert fit.params.keys() == again.params.keys()
        assert all(torch.equal(value, again.params[name]) for name, value in fit.params.items())
        assert all(torch.equal(value, again.sample(5)[name]) for name, value in draws.items())
        assert all(torch.equal(value, again.sample(5, rows=ROWS)[name]) for name, value in given.items())
        assert summary.equals(again.summary(50, rows=ROWS))
        assert torch.equal(fit.predict(5, Y[:4])["y"], again.predict(5, Y[:4])["y"])
    bare = credo.load_fit(tmp_path / "bare", row_latents.model, *own(guide))
    assert all(torch.equal(value, bare.params[name]) for name, value in fit.params.items())
    for ask in (lambda: bare.sample(5, rows=ROWS), lambda: bare.summary(50, rows=ROWS)):
        with pytest.raises(ValueError, match="loaded without its data"):
            ask()


def test_draws_of_given_rows_are_those_of_their_rows_of_the_tables(tmp_path):
    fit = credo.fit(row_latents.model, row_latents.guide, Y, batch_size=20, steps=40, seed=1, **QUIET)
    fit.save(tmp_path / "fit")
    draws = credo.load_fit(tmp_path / "fit", row_latents.model, row_latents.guide, Y).sample(4000, rows=ROWS)["z"]
    loc, scale = (fit.params[name][ROWS] for name in ("loc", "scale"))
    assert ((draws.mean(0) - loc) / scale).abs().max() < 5 / 4000**0.5
    assert (draws.std(0) / scale - 1).abs().max() < 5 / 8000**0.5


@pytest.mark.parametrize("guide", GUIDES, ids=["own", "mean field"])
@pytest.mark.parametrize("compile", [False, True])
def test_a_run_goes_on_from_its_checkpoint(guide, compile, tmp_path):
    """Interrupted in the middle of the last quarter, whose iterates are averaged."""

    def interrupt(svi, step, loss):
        if step == 95:
            raise KeyboardInterrupt

    how = {"batch_size": 20, "steps": 110, "seed": 1, "compile": compile, "progress": False}
    whole = credo.fit(row_latents.model, guide, Y, **how)
    kept = {"checkpoint": tmp_path / "run", **how}
    part = credo.fit(row_latents.model, guide, Y, callback=interrupt, callback_every=5, **kept)
    assert len(part.losses) == 95
    again = credo.fit(row_latents.model, guide, Y, **kept)
    assert whole.losses == again.losses
    assert all(torch.equal(value, again.params[name]) for name, value in whole.params.items())


def test_the_rows_of_one_of_pyros_guides_are_tables():
    y = row_latents.data(100)
    guide = AutoNormal(row_latents.model, create_plates=lambda y: pyro.plate("N", len(y), dim=-1))
    fit = credo.fit(
        row_latents.model, guide, y, batch_size=50, steps=500, particles=8, lr=0.1, seed=1, plan="fast", **QUIET
    )
    _, _, means, sds = row_latents.exact_moments(y)
    assert ((fit.params["AutoNormal.locs.z"] - means) / sds).abs().max() < 0.25
    assert (fit.params["AutoNormal.scales.z"] / row_latents.mean_field_sds(100)[1] - 1).abs().max() < 0.15
    assert fit.sample(3, rows=[4, 9])["z"].shape == (3, 2)


def test_a_plate_that_subsamples_takes_its_rows_of_a_parameter_itself():
    y = row_latents.data(200)

    def plate(y):
        return pyro.plate("N", len(y), subsample_size=50, dim=-1)

    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, row_latents.WIDE))
        with plate(y) as i:
            z = pyro.sample("z", dist.Normal(mu, row_latents.BETWEEN))
            pyro.sample("y", dist.Normal(z, row_latents.WITHIN), obs=y[i])

    guide = AutoNormal(model, create_plates=plate)
    fit = credo.fit(model, guide, y, steps=400, particles=8, lr=0.03, seed=1, plan="fast", **QUIET)
    _, _, means, sds = row_latents.exact_moments(y)
    assert ((fit.params["AutoNormal.locs.z"] - means) / sds).abs().max() < 0.5
    assert fit.sample(3)["z"].shape == (3, 200) and fit.sample(3, rows=[4, 9])["z"].shape == (3, 2)
    with pytest.raises(ValueError, match="has an entry for each of the 200 rows, of which a batch of 20 cannot"):
        credo.fit(model, AutoNormal(model, create_plates=plate), y, batch_size=20, steps=5, **QUIET)


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=["own", "mean field"])
@pytest.mark.parametrize(("n", "size"), [(300, 50), (1500, 300), (6000, 600)])  # the last of more rows than a panel
def test_the_posterior_of_every_row_is_the_exact_one(guide, n, size):
    y = row_latents.data(n)
    fit = credo.fit(row_latents.model, guide, y, batch_size=size, lr=0.05, seed=1, progress=False)
    assert fit.converged
    mean, sd, means, sds = row_latents.exact_moments(y)
    found = fit.summary()
    z = found[found.index.astype(str).str.startswith("z")]
    assert abs(found.loc["mu", "mean"] - mean) < 0.1 * sd
    of_mu, of_z = row_latents.mean_field_sds(n)  # the exact ones are some 4 % wider: both guides are mean field
    assert abs(found.loc["mu", "sd"] / of_mu - 1) < 0.05
    assert (torch.tensor(z["mean"].values) - means).abs().max() < 0.1 * sds[0]
    assert (torch.tensor(z["sd"].values) / of_z - 1).abs().max() < 0.05


def test_steps_of_newton_s_are_tried_only_where_the_panel_is_all_rows():
    """The best value of what all rows share is another one on a panel, where Newton's steps would go."""
    assert newton.MANY < tables.PANEL
