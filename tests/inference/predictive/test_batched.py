"""Predictions batch by batch are those of all rows at once: the same latents, the same distribution of the noise."""

import subprocess
import sys
import textwrap

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo

G = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 3, generator=G), torch.randn(40, generator=G)
NEW = torch.randn(23, 3, generator=G)


def linear(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.deterministic("double", 2 * w)
    mean = pyro.deterministic("mean", x @ w)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def local(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        u = pyro.sample("u", dist.Normal(0.0, 2.0))
        pyro.sample("y", dist.Normal(x @ w + u, 0.1), obs=y)


def mixture(x):
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-3.0, 3.0]), 0.5).to_event(1))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.25))
        pyro.sample("x", dist.Normal(loc[k.long()], 0.1), obs=x)


def mixture_guide(x):
    pyro.sample("loc", dist.Normal(torch.tensor([-3.0, 3.0]), pyro.param("s", torch.tensor(0.1))).to_event(1))


def groups(g, y=None, n_groups=4):
    with pyro.plate("G", n_groups):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(g)):
        pyro.sample("y", dist.Normal(a[g], 1e-3), obs=y)


def outcomes(x, y=None):
    """The rows stand in the last dimension."""
    w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("N", len(x), dim=-1), pyro.plate("two", 2, dim=-2):
        pyro.sample("y", dist.Normal(w @ x.T, 0.5), obs=None if y is None else y.T)


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    return credo.fit(linear, "mean_field", X, Y, steps=100, progress=False)


@pytest.mark.parametrize("batch", [1, 7, 22, 23, 500])
def test_batches_share_the_latents_and_not_the_noise(fit, batch):
    whole, found = fit.predict(200, NEW), fit.predict(200, NEW, batch=batch)
    assert {name: v.shape for name, v in found.items()} == {name: v.shape for name, v in whole.items()}
    assert torch.equal(found["double"], whole["double"])
    torch.testing.assert_close(found["mean"], whole["mean"])
    noise = found["y"] - found["mean"]
    assert noise.std().item() == pytest.approx(0.5, abs=0.03)
    assert torch.corrcoef(noise.T).fill_diagonal_(0.0).abs().max() < 5 / 200**0.5


@pytest.mark.parametrize("batch", [None, 7])
def test_reduced_draws_are_the_draws_reduced(fit, batch):
    draws = fit.predict(200, NEW, batch=batch)
    mean = fit.predict(200, NEW, batch=batch, reduce="mean")
    high = fit.predict(200, NEW, batch=batch, reduce=lambda draws: draws.quantile(0.9, 0))
    for name, v in draws.items():
        if batch is not None or name != "y":  # whose noise comes in other pieces
            torch.testing.assert_close(mean[name], v.mean(0))
            torch.testing.assert_close(high[name], v.quantile(0.9, 0))
    assert torch.equal(mean["y"], fit.predict(200, NEW, batch=batch, reduce="mean")["y"])
    assert not torch.equal(mean["y"], fit.predict(200, NEW, batch=batch, reduce="mean", seed=1)["y"])


def test_the_closed_form_takes_batches_too():
    exact = credo.exact(linear, X, Y)
    whole, found = exact.predict(50, NEW), exact.predict(50, NEW, batch=5)
    torch.testing.assert_close(found["mean"], whole["mean"])
    torch.testing.assert_close(exact.predict(50, NEW, batch=5, reduce="mean")["y"], found["y"].mean(0))
    fit = credo.fit(linear, None, X, Y, progress=False)
    corrected = fit.predict(50, NEW, corrected=True, batch=5)
    torch.testing.assert_close(corrected["mean"], fit.predict(50, NEW, corrected=True)["mean"])


def test_latents_of_the_rows_of_the_fit_are_kept_batch_by_batch():
    fit = credo.fit(local, None, X, Y, progress=False)
    more = torch.cat([X, NEW])
    found = fit.predict(500, more, batch=9)["y"]
    assert (found[:, :40].mean(0) - Y).abs().max() < 0.1  # y - x w has the sd 0.1 given u
    assert (found[:, 40:].std(0) > 1.5).all()  # u from its prior
    new = fit.predict(500, NEW, batch=9)
    assert new["u"].shape == (500, 23) and new["u"].std().item() == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("method", [None, "full_rank"])
def test_new_rows_get_no_latents_of_the_rows_of_the_fit(method):
    fit = credo.fit(local, method, X, Y, progress=False)
    found = fit.predict(500, NEW)
    assert found["u"].std().item() == pytest.approx(2.0, rel=0.05)


def test_summed_out_latents_are_drawn_given_the_rows_of_their_batch():
    x = torch.tensor([3.0, -3.0, 3.0, 3.0, -3.0])
    fit = credo.fit(mixture, mixture_guide, x, steps=20, progress=False)
    found = fit.predict(300, batch=2)
    assert (found["x"].sign() == x.sign()).all() and (found["k"] == (x > 0)).all()
    new = fit.predict(2000, torch.zeros(5), batch=2)["x"]
    assert (new > 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_a_new_group_has_one_draw_for_all_batches():
    fit = credo.fit(groups, None, torch.arange(40) % 4, Y, progress=False)
    found = fit.predict(100, torch.tensor([5, 0, 1, 5, 4]), None, 6, batch=2)["y"]
    assert (found[:, 0] - found[:, 3]).abs().max() < 0.02 < (found[:, 0] - found[:, 4]).abs().max()


def test_prior_draws_of_latents_are_shared_by_batches():
    fit = credo.fit(linear, "mean_field", X, Y, steps=2, progress=False)
    found = fit.predict(500, NEW, prior=True, batch=5)
    torch.testing.assert_close(found["mean"], found["w"] @ NEW.T)
    assert found["w"].std().item() == pytest.approx(1.0, abs=0.1)
    assert fit.predict(500, NEW, prior=True, batch=5, reduce="mean")["w"].shape == (3,)


def test_rows_may_stand_in_another_dimension():
    fit = credo.fit(outcomes, None, X, torch.randn(40, 2, generator=G), progress=False)
    found = fit.predict(100, NEW, batch=4)["y"]
    assert found.shape == (100, 2, 23) and fit.predict(100, NEW, batch=4, reduce="mean")["y"].shape == (2, 23)
    high = fit.predict(100, NEW, batch=4, reduce=lambda draws: draws.amax(0))["y"]  # draws (n, rows, 2)
    assert torch.equal(high, found.amax(0).T)


def test_a_network_among_the_arguments_is_that_of_the_fit():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    pair = credo.load("bnn_classifier")
    fit = credo.fit(pair.model, pair.guide, net, X, (Y > 0).long(), steps=3, progress=False)
    whole, found = fit.predict(30, net, NEW), fit.predict(30, net, NEW, batch=6)
    torch.testing.assert_close(found["probs"], whole["probs"])
    assert found["y"].dtype == whole["y"].dtype
    mean = fit.predict(30, net, NEW, batch=6, reduce="mean")
    torch.testing.assert_close(mean["y"], found["y"].float().mean(0))  # of codes: not whole numbers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch: got 0, wanted a whole number of at least 1"),
        ({"batch": 2.5}, r"batch: got 2\.5"),
        ({"reduce": "median"}, "reduce: got 'median', wanted 'mean' or a function"),
        (
            {"batch": 5, "reduce": lambda draws: draws.mean()},
            r"reduce got draws of shape \(4, 5\).*wanted 5 rows first",
        ),
        ({"batch": 5, "reduce": lambda draws: draws.nope()}, "raised AttributeError"),
        ({"batch": 5, "reduce": lambda draws: None}, "returned a NoneType; wanted a tensor"),
    ],
    ids=["none", "a fraction", "a word", "a number", "an error", "nothing"],
)
def test_options_that_cannot_be_meant(fit, options, message):
    with pytest.raises(ValueError, match=message):
        fit.predict(4, NEW, **options)


PEAK = """
import sys, torch, pyro, pyro.distributions as dist, credo
torch.set_num_threads(1)
from tests.inference.predictive.test_batched import linear, X, Y

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024

fit, new = credo.fit(linear, "full_rank", X, Y, progress=False), torch.randn(20_000, 3)
fit.predict(10, new, batch=1000)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
found = fit.predict(5000, new, batch=1000, reduce="mean")
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_5000_draws_of_20000_rows_take_less_than_100_megabytes():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(PEAK)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100  # all draws of y and their mean take 763


def by_component(x, y=None):
    """Sites with their rows last."""
    b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.deterministic("mean", b[:, None] * x)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(b.sum() * x, 0.5), obs=y)


@pytest.mark.parametrize("batch", [None, 3, 8, 100], ids=str)
@pytest.mark.parametrize("program", [credo.fit, credo.exact])
def test_a_function_gets_the_rows_first_whatever_the_batch(program, batch):
    x = torch.linspace(-1.0, 1.0, 8)
    found = program(by_component, None, x, x) if program is credo.fit else program(by_component, x, x)
    whole = found.predict(30, x)["mean"]
    reduced = found.predict(30, x, batch=batch, reduce=lambda draws: draws.std(0))
    assert reduced["mean"].shape == (8, 2) and reduced["y"].shape == (8,)
    torch.testing.assert_close(reduced["mean"], whole.std(0).T)
    with pytest.raises(ValueError, match=r"returned shape \(\); wanted \d rows first"):
        found.predict(30, x, batch=batch, reduce=torch.median)
    one = found.predict(30, x[:1], batch=batch, reduce=lambda draws: draws.std(0))
    assert one["mean"].shape == (1, 2)


def test_rows_that_depend_on_each_other_are_reduced_all_at_once():
    def centred(x, y=None):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Normal(b * (x - x.mean()), 0.5), obs=y)

    x = torch.linspace(-1.0, 1.0, 8)
    fit = credo.fit(centred, None, x, x, progress=False)
    assert fit.predict(30, x, reduce=lambda draws: draws.std(0))["y"].shape == (8,)
    with pytest.raises(ValueError, match="a row depends on the other rows"):
        fit.predict(30, x, batch=3, reduce=lambda draws: draws.std(0))
