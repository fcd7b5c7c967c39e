"""Fits from several seeds. Oracles: the fits of each seed alone, ELBOs in closed form, modes placed by hand."""

import dataclasses
import math
import signal
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.evaluation.processes import cores
from credo.inference.evaluation.seeds import best_of, elbos, seeds_of

FLIPS = torch.tensor([1.0, 0.0, 1.0, 1.0])
ALONE = {"steps": 60, "compile": False, "progress": False}
X = torch.cat([torch.linspace(-5, -3, 30), torch.linspace(2, 4, 60)])


def model(x):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def mixture(x):
    w = pyro.sample("w", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("K", 2):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("x", dist.Normal(mu[z], 1.0), obs=x)


def twin_peaks(x):
    """z near 0 is 20 nats likelier than z near 40, where a guide that starts there stays."""
    z = pyro.sample("z", dist.Normal(0.0, 100.0))
    peaks = torch.stack([-0.5 * z.square(), -0.5 * (z - 40).square() - 20])
    pyro.factor("peaks", peaks.logsumexp(0))


def from_its_seed(x):
    """Starts near 0 or 40, by the seed."""
    m = pyro.param("m", lambda: 40.0 * torch.bernoulli(torch.tensor(0.5)))
    pyro.sample("z", dist.Normal(m, pyro.param("s", torch.tensor(1.0), constraint=dist.constraints.positive)))


def test_the_fit_is_that_of_the_best_seed_alone():
    fit = credo.fit(mixture, "map", X, seed=3, seeds=3, **ALONE)
    table = fit.seeds
    assert list(table.index) == [3, 4, 5] and fit.seed == table["ELBO"].idxmax() == table.attrs["best"]
    assert list(table["steps"]) == [60] * 3
    alone = credo.fit(mixture, "map", X, seed=fit.seed, **ALONE)
    assert fit.losses == alone.losses and fit.stopped == table.loc[fit.seed, "stopped"] == alone.stopped
    assert all(torch.equal(fit.params[name], alone.params[name]) for name in alone.params)


def test_the_elbos_are_those_in_closed_form():
    """z ~ N(0, 1), x | z ~ N(z, 1): ELBO(N(m, s)) by hand. The differences have less noise than the ELBOs."""
    fits = [credo.fit(model, "mean_field", X[:4], seed=s, lr=0.021, **ALONE) for s in (0, 1)]
    found = elbos(fits)
    for row, fit in zip(found, fits, strict=True):
        m, s = (value.double() for value in fit.params.values())
        squares = m**2 + s**2
        by_hand = -math.log(2 * math.pi) - squares / 2 - ((X[:4] - m) ** 2 + s**2) / 2 + s.log() + 0.5
        by_hand = (by_hand + 0.5 * math.log(2 * math.pi)).sum().item()
        assert abs(row.mean().item() - by_hand) < 4 * row.std().item() / len(row) ** 0.5 + 1e-6


def test_a_lower_mode_is_named_and_never_averaged():
    fit = credo.fit(twin_peaks, from_its_seed, X, seeds=6, **ALONE)
    below = fit.seeds["below"]
    assert set(below.round(-1)) == {0.0, 20.0}  # both kinds are there
    assert abs(fit.params["m"].item()) < 1
    lower = [seed for seed in fit.seeds.index if below[seed] > 10]
    assert f"{6 - len(lower)} of 6 seeds found this" in repr(fit)
    assert "20 nats lower at another mode: z 3" in repr(fit.verdict) and f"seeds {lower[0]}, " in repr(fit.verdict)


def test_maximum_likelihood_is_compared_by_its_likelihood():
    """The prior makes z near 0 likelier by 800 nats, the likelihood z near 40 by 20."""

    def turned(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        peaks = torch.stack([-0.5 * z.square() - 20, -0.5 * (z - 40).square()])
        pyro.sample("x", dist.Normal(0.0, 1.0).mask(False), obs=x.sum())
        pyro.factor("peaks", peaks.logsumexp(0))

    def from_its_seed(x):
        start = 40.0 * torch.bernoulli(torch.tensor(0.5))
        pyro.sample("z", dist.Delta(pyro.param("m", start)))

    alone = dict(ALONE, seeds=6)
    assert abs(credo.fit(turned, from_its_seed, X, **alone).params["m"]) < 1  # MAP
    fits = {seed: credo.fit(turned, from_its_seed, X, seed=seed, **ALONE) for seed in range(6)}
    best = best_of(lambda seed: fits[seed], (0, 1, 2, 3, 4, 5), [], prior=False)
    assert abs(best.params["m"] - 40) < 2 and 15 < best.seeds["below"].max() < 25
    mle = credo.fit(turned, "mle", X, seeds=2, **ALONE)
    assert abs(mle.seeds["ELBO"].max() + mle.final_loss) < 1e-3 * abs(mle.final_loss) + 1e-3


def test_seeds_that_agree_are_said_to():
    fit = credo.fit(model, "mean_field", X[:4], seeds=2)
    assert "2 of 2 seeds found this" in repr(fit) and "nats lower" not in repr(fit)
    assert (fit.seeds["|z|"] < 0.1).all()


@pytest.mark.filterwarnings("ignore:the posterior has another mode")
def test_labels_that_change_places_are_no_lower_mode():
    fit = credo.fit(mixture, None, X, seeds=[0, 1])
    assert fit.seeds["below"].max() < 0.1 and fit.seeds["|mu|"].max() > 10
    assert "seed 1 found the same ELBO elsewhere" in fit.seeds.attrs["agreement"] or fit.seed == 1


def test_the_table_is_saved_and_loaded_with_the_fit(tmp_path):
    fit = credo.fit(mixture, "map", X, seeds=2, **ALONE)
    fit.save(tmp_path / "fit")
    again = credo.load_fit(tmp_path / "fit", mixture, "map", X)
    assert again.agreement == fit.agreement or again.seeds.equals(fit.seeds)  # the distances of a point are NaN
    assert again.seeds.attrs == fit.seeds.attrs and repr(again) == repr(fit)


def test_a_closed_form_is_found_once():
    pair, calls = credo.load("coin_toss"), []
    fit = credo.fit(lambda x: calls.append(1) or pair.model(x), None, FLIPS)
    once = len(calls)
    many = credo.fit(lambda x: calls.append(1) or pair.model(x), None, FLIPS, seeds=5)
    assert fit.method == many.method == "exact" and len(calls) < 2.5 * once
    assert list(many.seeds["below"]) == [0.0] * 5 and "5 of 5 seeds found this" in repr(many)


def test_a_seed_that_diverges_is_noted_and_another_is_returned():
    def ends_at_30(x):
        z = pyro.sample("z", dist.Normal(0.0, 100.0))
        peaks = torch.stack([-0.5 * z.square(), -0.5 * (z - 40).square() - 20])
        pyro.factor("peaks", torch.where(z > 30, math.nan, peaks.logsumexp(0)))

    def guide(x):
        m = pyro.param("m", lambda: 23.0 * torch.bernoulli(torch.tensor(0.5)))
        pyro.sample("z", dist.Normal(m, 0.3))

    with pytest.warns(UserWarning, match=r"seed \d failed: Diverged"):
        fit = credo.fit(ends_at_30, guide, X, seeds=6, lr=1.0, **ALONE)
    failed = fit.seeds["ELBO"].isna()
    assert 0 < failed.sum() < 6 and not failed[fit.seed] and fit.params["m"].isfinite()
    seeds = [int(s) for s in fit.seeds.index[failed]]
    with pytest.raises(credo.Diverged):
        credo.fit(ends_at_30, guide, X, seeds=seeds, lr=1.0, **ALONE)


@pytest.mark.skipif(cores() == 1, reason="processes cannot be forked, or there is one core")
def test_fits_in_processes_are_those_of_one_after_another(monkeypatch):
    """Of a notebook's functions: a closure and a network in the data; also the table and the warnings are the same."""
    net = torch.nn.Linear(1, 1, bias=False)

    def network(net, x, scale=3.0):
        pyro.module("net", net)
        mixture(net(x[:, None])[:, 0] * scale)

    found = {}
    for name, long in (("processes", 0.0), ("one after another", math.inf)):
        monkeypatch.setattr("credo.inference.evaluation.seeds.LONG", long)
        fit = credo.fit(network, "map", net, X, seeds=2, **ALONE)
        assert fit.data[0] is net and fit.model is network and len(fit.predict(2, net, X[:5])) > 0
        found[name] = fit
    one, two = found.values()
    assert one.seed == two.seed and one.losses == two.losses
    assert one.seeds.drop(columns="stopped").equals(two.seeds.drop(columns="stopped"))


@pytest.mark.skipif(cores() == 1, reason="processes cannot be forked, or there is one core")
def test_a_seed_that_fails_in_a_process_is_noted_too(monkeypatch):
    monkeypatch.setattr("credo.inference.evaluation.seeds.LONG", 0.0)

    def fails(x):
        if torch.initial_seed() == 2:
            raise TypeError("mine")
        model(x)

    with pytest.warns(UserWarning, match="seed 2 failed: TypeError: mine"):
        fit = credo.fit(fails, "mean_field", X[:4], seeds=3, lr=0.021, **ALONE)
    assert list(fit.seeds["ELBO"].isna()) == [False, False, True]


def test_warnings_come_once_at_the_users_line():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        credo.fit(mixture, None, X, seeds=2)
    assert {each.filename for each in heard} == {__file__}
    assert len({str(each.message) for each in heard}) == len(heard)


def test_ctrl_c_ends_with_the_fits_so_far(monkeypatch):
    monkeypatch.setattr("credo.inference.evaluation.seeds.LONG", math.inf)  # here, where the calls are counted
    calls = []

    def slow(x):
        calls.append(1)
        if len(calls) == 400:
            signal.raise_signal(signal.SIGINT)
        model(x)

    fit = credo.fit(slow, "mean_field", X[:4], seeds=50, lr=0.021, **ALONE)
    assert 1 < len(fit.seeds) < 50 and fit.losses and len(calls) > 400
    assert "interrupted" in fit.seeds["stopped"].iloc[-1]


def test_ctrl_c_during_the_look_at_a_fit_is_the_last_of_the_fits(monkeypatch):
    def look(fit, *_):
        signal.raise_signal(signal.SIGINT)
        return fit

    monkeypatch.setattr("credo.inference.evaluation.seeds.LONG", math.inf)
    monkeypatch.setattr("credo.inference.evaluation.fit.with_verdict", look)
    fit = credo.fit(model, "mean_field", X[:4], seeds=5, **ALONE)
    assert list(fit.seeds.index) == [0]
    assert fit.stopped == "after the 60 steps asked for; interrupted while looked at"


@pytest.mark.parametrize(("seeds", "wanted"), [
    (3, (5, 6, 7)), ([4, 2], (4, 2)), (range(2), (0, 1)), (np.array([1, 9]), (1, 9)),
    (np.int64(2), (5, 6)), (torch.tensor([3, 4]), (3, 4)), (iter([8]), (8,)),
])  # fmt: skip
def test_seeds_are_a_number_or_a_list(seeds, wanted):
    assert seeds_of(seeds, 5) == wanted


@pytest.mark.parametrize(("seeds", "words"), [
    (0, "seeds: got 0"), (True, "seeds: got True"), (2.5, "2.5"), ("3", "'3'"), ([], "0 seeds"), (None, "None"),
    ([1, 1], "each seed once"), ([-1], "-1"), (2**31, "at most 1000"), ([0.5], "0.5"), ([2**40], "at most"),
])  # fmt: skip
def test_other_seeds_are_refused_by_name(seeds, words):
    with pytest.raises(ValueError, match="seeds: ") as error:
        seeds_of(seeds, 0)
    assert words in str(error.value)


def test_the_process_is_left_as_it_was(unchanged):
    with unchanged():
        credo.fit(mixture, "map", X, seeds=2, **ALONE)


def squared(x):
    """t and -t are equally likely."""
    t = pyro.sample("t", dist.Normal(0.0, 3.0))
    pyro.sample("x", dist.Normal(t**2, 0.5).expand([len(x)]).to_event(1), obs=x)


def test_points_at_two_modes_of_one_height_are_told_apart():
    alone = dict(ALONE, steps=300)
    fit = credo.fit(squared, "map", 4 + FLIPS, seeds=6, **alone)
    signs = [credo.fit(squared, "map", 4 + FLIPS, seed=s, **alone).params["AutoDelta.t"].sign() for s in range(6)]
    across = [sign != signs[fit.seed] for sign in signs]
    assert any(across) and list(fit.seeds["valley"] > 50) == across
    assert f"{6 - sum(across)} of 6 seeds found this" in repr(fit) and "log p falls by" in repr(fit)
    same = credo.fit(squared, "map", 4 + FLIPS, seeds=[s for s in range(6) if not across[s]], **alone)
    assert same.agreement.words.endswith(" seeds found this") and (same.seeds["valley"] < 1e-3).all()


def test_the_best_gets_its_look_however_short_its_run_was(monkeypatch):
    """Each run alone is too short to be looked at."""
    monkeypatch.setattr("credo.inference.evaluation.check.SHARE", 1e-9)
    alone = credo.fit(model, "mean_field", X[:4], lr=0.021, **ALONE)
    assert alone.verdict.reasons == ("not looked at",)
    monkeypatch.setattr("credo.inference.evaluation.check.SHARE", 0.1)
    short = lambda seed: credo.fit(model, "mean_field", X[:4], seed=seed, lr=0.021, **ALONE)  # noqa: E731
    fits = {seed: short(seed) for seed in (0, 1)}
    unseen = {s: dataclasses.replace(f, verdict=alone.verdict) for s, f in fits.items()}
    best = best_of(lambda seed: unseen[seed], (0, 1), [])
    assert best.verdict.trust != "unknown" and best.seeds["trust"][best.seed] == best.verdict.trust
    assert best.seeds["trust"][1 - best.seed] == "unknown"
    decided = {s: dataclasses.replace(f, verdict=alone.verdict._replace(trust="no")) for s, f in fits.items()}
    assert best_of(lambda seed: decided[seed], (0, 1), []).verdict.trust == "no"  # has been looked at
