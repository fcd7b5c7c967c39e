"""`credo.calibrate`: planted misfits are found, sound pairs are not blamed, and what cannot be simulated is refused."""

import time

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from tests.cases import calibration as cases
from tests.cases.calibration import MISFITS, SOUND, Y

SIMULATIONS, DRAWS = 300, 99


@pytest.mark.parametrize("name", MISFITS)
def test_planted_misfits_are_found(name):
    model, guide, data = MISFITS[name]
    found = credo.calibrate(model, guide, *data, simulations=SIMULATIONS, draws=DRAWS)
    assert not found.calibrated, found


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
@pytest.mark.parametrize("name", SOUND)
def test_posteriors_in_closed_form_are_calibrated(name, seed):
    model, guide, data = SOUND[name]
    found = credo.calibrate(model, guide, *data, simulations=SIMULATIONS, draws=DRAWS, seed=seed)
    assert found.calibrated, found
    assert found.method == "a guide without parameters" and not found.notes


def test_the_result_says_which_latent_and_how_much():
    found = credo.calibrate(*MISFITS["biased mean"][:2], Y, simulations=SIMULATIONS, draws=DRAWS)
    assert found.ranks.shape == (SIMULATIONS, 3) and list(found.ranks.columns) == ["m", "log likelihood", "log prior"]
    assert found.ranks.min().min() >= 0 and found.ranks.max().max() <= DRAWS
    assert found.table.index[0] == "m" and found.p_values["m"] < 1e-6
    assert found.table["shift"]["m"] == pytest.approx(0.12 * 10**0.5, abs=0.2)  # precision 4 + 6
    assert found.words.startswith("not calibrated: m: draws 0.")


def test_single_latents_do_not_see_a_guide_that_ignores_the_data():
    found = credo.calibrate(*MISFITS["prior alone"][:2], Y, simulations=SIMULATIONS, draws=DRAWS)
    assert found.p_values["m"] > 0.01 and found.p_values["log likelihood"] < 1e-6


def test_the_same_seed_gives_the_same_ranks():
    one, two, other = (
        credo.calibrate(*SOUND["flips"][:2], Y, simulations=30, draws=9, seed=seed).ranks for seed in (4, 4, 5)
    )
    assert one.equals(two) and not one.equals(other)


def test_a_simulator_shows_what_a_wrong_model_costs():
    """Data with heavy tails, fitted by a model of normal noise."""

    def normal_noise(y):
        m = pyro.sample("m", dist.Normal(0.0, 3.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    options = {"simulations": SIMULATIONS, "draws": DRAWS}
    assert credo.calibrate(normal_noise, cases.of_heavy, Y, **options).calibrated
    assert not credo.calibrate(normal_noise, cases.of_heavy, Y, simulator=cases.heavy, **options).calibrated
    with pytest.raises(ValueError, match=r"simulator: it has the latents \{'p': \(\)\}, and the model has \{'m'"):
        credo.calibrate(normal_noise, cases.of_heavy, Y, simulator=cases.flips, **options)


def test_data_may_be_given_by_name_and_as_arrays():
    found = credo.calibrate(
        *SOUND["regression"][:2], x=cases.X.numpy(), y=cases.X.tolist(), simulations=60, draws=19, observed="y"
    )
    assert found.calibrated


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"simulations": 5}, "simulations: got 5"),
        ({"draws": 2}, "draws: got 2"),
        ({"observed": "x"}, "the arguments of the model are y"),
    ],
    ids=["simulations", "draws", "observed"],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        credo.calibrate(*SOUND["flips"][:2], Y, **options)


@pytest.mark.parametrize("word", ["map", "mle"])
def test_points_are_refused(word):
    with pytest.raises(ValueError, match=f"guide: got '{word}', a point estimate"):
        credo.calibrate(cases.normal_mean, word, Y)


def test_a_parameter_without_a_prior_is_refused():
    def model(y):
        scale = pyro.param("scale", torch.ones(()), constraint=dist.constraints.positive)
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(m, scale), obs=y)

    with pytest.raises(ValueError, match="parameter 'scale': the model has it without a prior"):
        credo.calibrate(model, cases.of_mean(), Y, simulations=20)


def test_guides_that_branch_on_their_data_need_no_vmap():
    def branching(y):
        sign = 1.0 if y.sum() > 0 else -1.0
        return cases.of_mean()(sign * y.sum().abs() * torch.ones_like(y) / len(y))

    assert credo.calibrate(cases.normal_mean, branching, Y, simulations=40, draws=19).calibrated


@pytest.mark.slow
def test_500_simulations_of_small_pairs_take_at_most_a_minute_of_cpu():
    pair = credo.load("coin_toss")
    for model, guide, data in (
        (pair.model, pair.guide, (torch.ones(10),)),
        (cases.normal_mean, "full_rank", (Y,)),
        (cases.regression, None, (torch.randn(20), torch.randn(20))),
    ):
        before = time.process_time()
        found = credo.calibrate(model, guide, *data, simulations=500, progress=False)
        assert time.process_time() - before < 60
        assert found.calibrated and len(found.ranks) == 500, found


def around(centre, y):
    z = pyro.sample("z", dist.Normal(centre, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def test_constants_of_the_users_data_hold_for_the_simulated_data():
    """A prior around the mean of the data is a prior if that mean stays; a new mean for each data set is none."""

    def kept(y):
        centre = pyro.param("centre", lambda: y.mean())
        if centre.requires_grad:
            centre.requires_grad_(False)
        around(centre, y)

    y = torch.tensor([3.0])
    found = credo.calibrate(kept, None, y, simulations=200)
    assert found.calibrated
    assert found.table["sd_ratio"]["z"] == pytest.approx(1.0, abs=0.25)
    with pytest.raises(ValueError, match=r"computes 'y' from|depends on"):
        credo.calibrate(lambda y: around(y.mean(), y), None, y, simulations=200)
