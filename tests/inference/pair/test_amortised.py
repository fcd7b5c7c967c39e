"""The amortised guide: a row's latents are a function of its own data, near the exact posterior where that is known."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from credo.inference.pair.autoguide import with_guide
from tests.cases.windows import in_files, small_windows

SHORT = {
    "batch_size": 50,
    "steps": 250,
    "lr": 0.03,
    "particles": 1,
    "plan": "fast",
    "compile": False,
    "progress": False,
}
PRIORS = {
    "real": lambda: dist.Normal(0.0, 1.0),
    "vector": lambda: dist.MultivariateNormal(torch.zeros(3), torch.eye(3)),
    "matrix": lambda: dist.Normal(torch.zeros(2, 3), 1.0).to_event(2),
    "positive": lambda: dist.Gamma(2.0, 1.0),
    "interval": lambda: dist.Beta(2.0, 3.0),
    "simplex": lambda: dist.Dirichlet(torch.ones(3)),
}


def factors(x, y=None):
    """Two numbers of each row around one latent: the posterior is normal."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(mu + z, 0.5), obs=x)
        pyro.sample("y", dist.Normal(2 * z, 1.0), obs=y)


def data(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z, e, d = torch.randn(3, n, generator=generator)
    return 1.5 + z + 0.5 * e, 2 * z + d


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("outer", [False, True])
def test_a_row_has_its_own_normal_whatever_the_batch(prior, outer):
    def model(x):
        with pyro.plate("outer", 2, dim=-2) if outer else pyro.poutine.trace(), pyro.plate("N", len(x), dim=-1):
            pyro.sample("z", PRIORS[prior]())

    x = torch.randn(7, 2)
    pyro.clear_param_store()
    guide = with_guide(model, "amortised")[1]
    guide(x)
    with torch.no_grad():
        guide.encoder.linear.weight.normal_()
    torch.manual_seed(1)
    whole = poutine.trace(guide).get_trace(x).nodes["z"]
    value, density = whole["value"], whole["fn"].log_prob(whole["value"])
    batch = density.shape
    assert batch == ((2, 7) if outer else (7,)) and value.shape == batch + PRIORS[prior]().event_shape
    some = torch.tensor([4, 0])
    row = len(batch) - 1
    with poutine.condition(data={"z": value.index_select(row, some)}):
        part = poutine.trace(guide).get_trace(x[some]).nodes["z"]
    torch.testing.assert_close(
        part["fn"].log_prob(part["value"]), density.index_select(row, some), rtol=1e-4, atol=1e-4
    )
    pyro.clear_param_store()


@pytest.fixture(scope="module")
def fit():
    return credo.fit(factors, "amortised", *data(200), **SHORT)


def exact(x, y, mu=1.5):
    return (4 * (x - mu) + 2 * y) / 9, 9**-0.5


def test_latents_of_rows_have_their_posterior(fit):
    draws = fit.sample(200)
    mean, sd = exact(*data(200), draws["mu"].mean())
    assert fit.method == "amortised" and "AutoNormal.locs.z" not in fit.params
    assert ((draws["z"].mean(0) - mean) / sd).square().mean().sqrt() < 0.15
    assert abs(draws["z"].std(0).mean() / sd - 1) < 0.1


def test_new_rows_get_their_latents_from_the_network(fit):
    x, y = data(300, seed=5)
    predicted = fit.predict(100, x, y)["y"].mean(0)
    mean, sd = exact(x, y, fit.sample(100)["mu"].mean())
    assert (predicted - 2 * mean).square().mean().sqrt() < 0.6 * sd
    without = fit.predict(100, x)["y"]  # nothing to read: the prior of z
    assert (without.std(0).mean() - 5**0.5).abs() < 0.1 and without.mean(0).square().mean().sqrt() < 0.3


def test_a_file_and_a_pickle_keep_it(fit, tmp_path):
    fit.save(tmp_path / "fit", with_data=False)
    new = data(5, seed=2)
    for again in (
        credo.load_fit(tmp_path / "fit", factors),
        credo.load_fit(tmp_path / "fit", factors, "amortised", *data(200)),
        pickle.loads(pickle.dumps(fit)),
    ):
        assert torch.equal(again.predict(10, *new)["y"], fit.predict(10, *new)["y"])


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The data of 3,000 rows in memory-mapped files, of which a window holds a third."""
    small_windows(monkeypatch, bytes_of_row=8)
    return in_files(tmp_path, *data(3_000))


def test_rows_that_are_read_by_windows_train_it_and_new_rows_get_their_latents(files, tmp_path):
    fit = credo.fit(factors, "amortised", *files, **SHORT | {"steps": 400})
    new = data(300, seed=5)
    draws = fit.latents(400, *new)
    mean, sd = exact(*new, draws["mu"].mean())
    assert draws["z"].shape == (400, 300) and (draws["mu"].mean() - 1.5).abs() < 0.1
    assert ((draws["z"].mean(0) - mean) / sd).square().mean().sqrt() < 0.15
    assert abs(draws["z"].std(0).mean() / sd - 1) < 0.1
    assert (fit.predict(100, *new)["y"].mean(0) - 2 * mean).square().mean().sqrt() < 0.6 * sd
    assert fit.latents(2, *files)["z"].shape == (2, 3_000)  # of its own rows, given again
    for ask in (lambda: fit.sample(5), lambda: fit.sample(5, rows=[1]), lambda: fit.summary()):
        with pytest.raises(ValueError, match=r"3,000 rows of this fit by windows .* fit.latents\(n, \*rows\)"):
            ask()
    fit.save(tmp_path / "fit")
    for guide in ((), ("amortised",)):
        again = credo.load_fit(tmp_path / "fit", factors, *guide)
        assert torch.equal(again.latents(5, *new)["z"], fit.latents(5, *new)["z"])
        assert torch.equal(again.predict(5, *new)["y"], fit.predict(5, *new)["y"])
    with pytest.raises(ValueError, match=r"read its 3,000 rows by windows .* leave them"):
        credo.load_fit(tmp_path / "fit", factors, "amortised", *files)


def test_a_run_by_windows_goes_on_from_its_checkpoint(files, tmp_path):
    def interrupt(svi, step, loss):
        if step == 35:
            raise KeyboardInterrupt

    how = SHORT | {"steps": 60}
    whole = credo.fit(factors, "amortised", *files, **how)
    kept = {"checkpoint": tmp_path / "run", **how}
    assert len(credo.fit(factors, "amortised", *files, callback=interrupt, callback_every=5, **kept).losses) == 35
    again = credo.fit(factors, "amortised", *files, **kept)
    assert whole.losses == again.losses
    assert all(torch.equal(value, again.params[name]) for name, value in whole.params.items())


@pytest.mark.slow
def test_gaps_that_the_model_masks_are_read_as_gaps():
    def masked(x):
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with poutine.mask(mask=~x.isnan()):
                pyro.sample("x", dist.Normal(z, 0.5), obs=x.nan_to_num())

    x = data(200)[0] - 1.5
    x[::4] = float("nan")
    z = credo.fit(masked, "amortised", x, **SHORT | {"steps": 800}).sample(400)["z"]
    assert abs(z[:, ::4].mean()) < 0.2 and abs(z[:, ::4].std() - 1) < 0.2
    assert abs(z[:, 1::4].std(0).mean() / 0.2**0.5 - 1) < 0.15


@pytest.mark.slow
def test_compiled_steps_are_the_eager_ones():
    runs = [
        credo.fit(factors, "amortised", *data(200), batch_size=100, steps=60, compile=c, plan="fast", progress=False)
        for c in (False, True)
    ]
    torch.testing.assert_close(torch.tensor(runs[0].losses), torch.tensor(runs[1].losses), rtol=1e-4, atol=0.05)
