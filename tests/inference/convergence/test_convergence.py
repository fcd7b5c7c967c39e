"""When a run stops, what it returns, and that nothing is lost when it ends early."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.convergence.convergence import (
    MAX_MOVES,
    MAX_STAGES,
    SLOW,
    Convergence,
)
from credo.inference.convergence.gain import TOLERANCE, Better, Gain
from tests.cases.interruptions import Armed, breaking, interrupting

FLIPS = torch.tensor([1.0, 0.0, 1.0, 1.0])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y):
    loc = pyro.param("loc", torch.tensor(3.0))
    scale = pyro.param("scale", torch.tensor(2.0), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def watch_quadratic(noise: float, start: float = 5.0) -> tuple[torch.Tensor, int]:
    """SGD on x^2/2 under Convergence: (the average at the stop, steps). The ELBO is -x^2/2, known exactly."""
    torch.manual_seed(1)
    x, rate = torch.tensor([start]), 0.05
    watch = Convergence(lambda new, old: Gain((old**2 - new**2).sum().item() / 2, 0.0, 0.0))
    for step in range(1, 20_000):
        x = x - rate * (x + noise * torch.randn(1))
        action = watch.add(x)
        if action == "stop":
            return watch.average(), step
        rate = rate * 0.3 if action == "anneal" else rate
    raise AssertionError("never stopped")


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_a_quadratic_is_solved_to_the_tolerance(noise):
    average, _ = watch_quadratic(noise)
    assert (average**2).item() / 2 < 0.01


def test_noise_of_batches_that_hides_the_way_ends_when_all_rows_are_taken():
    """SGD on x^2/2, far noisier than the tolerance until all rows are taken, from where the average was."""
    torch.manual_seed(1)
    x, rate, noise, actions = torch.tensor([5.0]), 0.05, [30.0], []

    def take_all(now):
        could = noise[0] > 0
        noise[0] *= not now
        return could

    known = Convergence(lambda new, old: Gain((old**2 - new**2).sum().item() / 2, 0.0, 0.0), take_all=take_all)
    for _ in range(20_000):
        x = x - rate * (x + noise[0] * torch.randn(1))
        actions.append(known.add(x))
        if actions[-1] == "stop":
            break
        x = known.average() if actions[-1] == "move" else x
        rate = rate * 0.3 if actions[-1] == "anneal" else rate
    assert known.average().abs().item() < 0.05
    assert known.on_batches == actions.index("move") + 1 and actions.count("move") == 1
    assert known.verdict.endswith(f"; all rows from step {known.on_batches:,} on")


def test_no_stop_while_the_way_is_long():
    """At 0.0005 a step the minimum is 10,000 steps away: not to be taken for rest."""
    watch = Convergence(lambda new, old: Gain((old**2 - new**2).sum().item() / 2, 0.0, 0.0))
    for step in range(3000):
        assert watch.add(torch.tensor([5.0 - 0.0005 * step])) in ("go on", "replan")


def at_rest(gain: Gain, until: tuple[str, ...], longest: float = math.inf) -> tuple[Convergence, str]:
    """Iterates that only wobble, until one of these actions."""
    torch.manual_seed(2)
    watch = Convergence(lambda new, old: gain, lambda: longest)
    for _ in range(20_000):
        action = watch.add(torch.randn(50))
        if action in until:
            return watch, action
    raise AssertionError(f"none of {until}")


@pytest.mark.parametrize("gain", [Gain(0.0, 0.0, 0.0), Gain(5e-4, 0.0, 0.0), Gain(-0.01, 0.006, 0.0)])
def test_a_stage_that_gained_nothing_beyond_its_error_is_the_last(gain):
    watch, _ = at_rest(gain, ("stop",))
    assert watch.stages == 2 and watch.verdict.startswith("converged")


@pytest.mark.parametrize("gain", [Gain(1.0, 0.0, 0.0), Gain(-1.0, 0.0, 0.0), Gain(0.0, 1.0, 0.0)])
def test_a_gain_or_doubt_about_it_goes_on_to_the_last_stage_and_says_so(gain):
    watch, _ = at_rest(gain, ("stop",), longest=1000)
    assert watch.stages == MAX_STAGES and watch.verdict.startswith("not converged") and "nats" in watch.verdict


def test_iterates_that_wobble_while_the_elbo_surely_gains_are_not_at_rest():
    """Thousands of weights that jitter hide the few that move."""
    torch.manual_seed(2)
    for gain, rests in ((Gain(1.0, 0.1, 0.0), False), (Gain(1.0, 0.6, 0.0), True), (Gain(-1.0, 0.1, 0.0), True)):
        watch = Convergence(lambda new, old, gain=gain: gain)
        assert ("anneal" in {watch.add(torch.randn(50)) for _ in range(5000)}) is rests


@pytest.mark.parametrize(("latents", "tolerance"), [(1, 1), (10, 1), (40, 4), (60, 6), (1000, 100)])
def test_the_tolerance_grows_with_the_latent_numbers(latents, tolerance):
    """In thousandths of a nat, of which a gain of 5 is none for sixty latent numbers."""
    gain = Gain(5e-3, 0.0, 0.0, latents)
    assert gain.tolerance == pytest.approx(TOLERANCE * tolerance)
    watch, _ = at_rest(gain, ("stop",), longest=1000)
    stages = 2 if tolerance > 5 else MAX_STAGES
    assert watch.stages == stages and watch.verdict.startswith("converged") is (stages == 2)


def test_the_rounding_of_the_elbo_is_a_tolerance_too():
    assert Gain(0.0, 0.0, 0.4, 100).tolerance == 0.8 and Gain(0.0, 0.0, 0.04, 1000).tolerance == 0.1


def test_a_new_stage_averages_its_own_iterates_alone():
    watch, _ = at_rest(Gain(0.0, 0.0, 0.0), ("anneal",))
    for _ in range(25):
        watch.add(torch.full((50,), 7.0))
    assert watch.average().tolist() == [7.0] * 50


def wobbling(watch: Convergence) -> list[str]:
    """The actions other than "go on" and "replan" over iterates that only wobble, until the run ends."""
    torch.manual_seed(2)
    actions = []
    for _ in range(50_000):
        actions += [action] if (action := watch.add(torch.randn(50))) in ("move", "anneal", "stop") else []
        if actions[-1:] == ["stop"]:
            return actions
    raise AssertionError("never stopped")


def test_a_run_goes_on_from_a_better_point_before_it_is_called_converged():
    points = [Better(torch.full((50,), 7.0), 3.0, "m")]
    watch = Convergence(lambda new, old: Gain(0.0, 0.0, 0.0), better=lambda point: points.pop() if points else None)
    assert wobbling(watch).count("move") == 1
    assert watch.verdict.startswith("converged") and watch.moves == 1


def test_the_stage_after_a_better_point_is_as_long_as_the_one_before():
    """Iterates that move on for ever, at a gain that noise hides from a short stage: 2,000 steps lead to Newton's."""
    torch.manual_seed(2)
    far = [Better(torch.full((50,), 7.0), 3.0, "m")]
    watch = Convergence(
        lambda new, old: Gain(1.0 if far else 0.0, 0.0, 0.0), better=lambda _: far.pop() if far else None
    )
    taken = {"move": 0, "anneal": 0}
    for step in range(1, 20_000):
        if (action := watch.add(torch.randn(50))) in taken and not taken[action]:
            taken[action] = step
        if taken["anneal"]:
            break
    assert taken["move"] >= SLOW and taken["anneal"] >= 2 * taken["move"]


def test_a_run_for_which_better_points_are_found_again_and_again_is_not_converged():
    ahead = Better(torch.zeros(50), 3.0, "m")
    watch = Convergence(lambda new, old: Gain(0.0, 0.0, 0.0), better=lambda point: ahead)
    assert wobbling(watch).count("move") == MAX_MOVES
    assert watch.verdict.startswith("not converged") and "'m'" in watch.verdict and "3 nats" in watch.verdict


def test_a_run_whose_rounding_error_is_large_is_not_converged():
    for rounding, word in ((0.04, "converged"), (0.06, "not converged: rounding")):
        watch = Convergence(lambda new, old, r=rounding: Gain(0.0, 0.0, r))
        wobbling(watch)
        assert watch.verdict.startswith(word)


@pytest.mark.parametrize(("moved", "word"), [(0.05, "converged"), (0.2, "not converged")])
def test_a_run_whose_answer_still_moves_in_sds_is_not_converged(moved, word):
    torch.manual_seed(2)
    watch = Convergence(lambda new, old: Gain(0.0, 0.0, 0.0, moved=moved), lambda: 1000)
    while watch.add(torch.randn(50)) != "stop":
        pass
    assert watch.verdict.startswith(word) and ("sds" in watch.verdict) is (moved > 0.1)


@pytest.mark.parametrize(("speed", "word"), [(0.0, "converged"), (1e-8, "not converged: going")])
def test_steps_that_are_too_short_for_the_tolerance_are_no_rest(speed, word):
    """The ELBO rises by 1 nat for each unit, of which a stage of 1,000 steps of 1e-8 crosses nothing."""
    torch.manual_seed(2)
    watch = Convergence(lambda new, old: Gain((new[0] - old[0]).item(), 0.0, 0.0), lambda: 1000)
    step = 0
    while watch.add(torch.tensor([speed * step])) != "stop":
        step += 1
    assert watch.verdict.startswith(word)


def moving(speed: float, until: int, error: float = 0.0) -> tuple[Convergence, int]:
    """A parameter that moves at this speed for so many steps, then rests; the ELBO is the parameter, in nats."""
    torch.manual_seed(2)
    watch, longest = Convergence(lambda new, old: Gain((new[0] - old[0]).item(), error, 0.0), lambda: 1000), 0
    for step in range(20_000):
        action = watch.add(torch.tensor([speed * min(step, until)]))
        longest = step + 1 if action == "anneal" and not longest else longest
        if action == "stop":
            return watch, longest
    raise AssertionError("never stopped")


@pytest.mark.parametrize(
    ("speed", "until", "error", "longest", "word"),
    [
        (0.01, 10_000, 0.0, 2000, "not converged: still gaining 10 ± 0 nats per 1,000 steps when stage 5 was cut"),
        (0.01, 2000, 0.0, 2000, "not converged: still gaining 10 ± 0 nats per 1,000 steps when stage 1 was cut"),
        (0.01, 1050, 0.0, 2000, "converged"),
        (0.00005, 2000, 0.0, 1000, "converged"),
        (0.01, 950, 10.0, 1000, "not converged: at the lowest"),
    ],
    ids=["for ever", "in the first stage", "for a while", "too little to be worth it", "within the error"],
)
def test_a_stage_is_not_cut_while_it_gains_beyond_its_error_or_the_run_says_so(speed, until, error, longest, word):
    """As of networks, whose stages have a longest length, here 1,000 steps."""
    watch, first = moving(speed, until, error)
    assert watch.verdict.startswith(word) and first == longest


def test_a_run_stops_by_itself_at_the_posterior():
    """z | y ~ N(sum y / (N + 1), 1 / (N + 1))."""
    fit = credo.fit(model, guide, FLIPS)
    assert fit.stopped.startswith("converged") and len(fit.losses) < 5000
    assert fit.params["loc"].item() == pytest.approx(3 / 5, abs=0.05 / 5**0.5)
    assert fit.params["scale"].item() == pytest.approx(5**-0.5, rel=0.03)


@pytest.mark.parametrize("steps", [0, 1, 30])
def test_a_number_of_steps_is_kept(steps):
    fit = credo.fit(model, guide, FLIPS, steps=steps)
    assert len(fit.losses) == steps and str(steps) in fit.stopped
    if steps == 0:
        assert fit.params["loc"].item() == 3.0


def test_a_negative_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="steps: got -1"):
        credo.fit(model, guide, FLIPS, steps=-1)


@pytest.mark.parametrize("steps", [None, 200])
def test_ctrl_c_returns_what_was_learnt(steps, unchanged):
    interrupted = Armed(guide, interrupting(at=100))
    with unchanged():
        runner = credo.SVI(model, interrupted, particles=1, plan="fast")
        runner.prepare(FLIPS)
        interrupted.calls = 0  # from here each is a step, or one of a few measurements
        fit = runner.run(FLIPS, steps=steps)
    assert "Ctrl-C" in fit.stopped and str(len(fit.losses)) in fit.stopped
    assert 50 < len(fit.losses) < 100
    assert fit.params["loc"].item() < 3.0 and fit.sample(3)["z"].shape == (3,)


def test_ctrl_c_before_the_first_step_returns_a_fit_too():
    interrupted = Armed(guide, interrupting(at=10))
    runner = credo.SVI(model, interrupted, particles=1)
    runner.prepare(FLIPS)
    interrupted.calls = 0  # the race is on
    fit = runner.run(FLIPS)
    assert not fit.losses and "interrupted after 0 steps" in fit.stopped and fit.sample(3)["z"].shape == (3,)


def test_a_loss_that_leaves_the_finite_numbers_raises_with_the_fit(unchanged):
    broken = Armed(model, breaking(after=100))
    with unchanged(), pytest.raises(credo.Diverged, match=r"nan at step .*\.fit holds") as caught:
        runner = credo.SVI(broken, guide, particles=1, plan="fast")
        runner.prepare(FLIPS)
        broken.calls = 0
        runner.run(FLIPS)
    fit = caught.value.fit
    assert all(torch.isfinite(torch.tensor(fit.losses))) and len(fit.losses) > 50
    assert 0.6 < fit.params["loc"].item() < 3.0 and torch.isfinite(fit.params["scale"])
    assert torch.isfinite(fit.sample(10)["z"]).all()


def test_a_run_can_go_on_from_where_it_is():
    svi = credo.SVI(model, guide)
    first = svi.run(FLIPS, steps=50)
    again = svi.run(FLIPS, steps=50)
    assert len(first.losses) == 50 and len(again.losses) == 100
    assert abs(again.params["loc"] - 0.6) < abs(first.params["loc"] - 0.6)
