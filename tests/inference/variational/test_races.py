"""When plans compete in a run, and that races on the way keep to their share of its work."""

import pytest

import credo
from credo.inference.pair.pair import Pair
from credo.inference.runtime.state import entered
from credo.inference.variational.races import SHARE, Races
from tests.cases.normal_mean import Y, guide, model


@pytest.fixture
def run():
    """The steps of a run, its pair and its plan, of which nothing is measured yet."""
    runner = credo.SVI(model, guide, progress=False, compile=False)
    plan = runner.prepare(Y)
    with entered(runner._prepared.state):
        yield runner._steps, Pair(model, guide, (Y,)), plan


def test_where_races_are_not_allowed_the_plan_stays(run):
    steps, pair, plan = run
    steps.taken = 10**9
    races = Races(False, 0)
    measured = plan._replace(microseconds=100.0)
    assert races.race(steps, pair, plan) is plan
    assert races.race_on_the_way(steps, pair, measured, True) is measured and races.spent == 0.0


def test_a_race_before_the_first_step_costs_the_run_nothing(run):
    steps, pair, plan = run
    races = Races(True, 0)
    found = races.race(steps, pair, plan)
    assert found.variance is not None and found.microseconds > 0 and races.spent == 0.0
    again = Races(True, 0).race(steps, pair, plan)
    assert again == found


def test_a_short_run_races_for_no_more_than_its_steps_pay_for(run):
    steps, pair, plan = run
    assert Races(True, 0).race(steps, pair, plan, 10) is plan  # not even the fewest draws
    assert Races(True, 0).race(steps, pair, plan, 100_000) == Races(True, 0).race(steps, pair, plan)


def test_races_on_the_way_take_their_share_of_the_work_and_no_more(run):
    steps, pair, plan = run
    plan = plan._replace(microseconds=100.0)
    races = Races(True, 0)
    assert races.race_on_the_way(steps, pair, plan, False) is plan and races.spent == 0.0  # no step is taken yet
    steps.taken = 100_000
    found = races.race_on_the_way(steps, pair, plan, False)
    assert found is not plan and found.variance is not None
    assert races.spent == pytest.approx(SHARE * 100_000 * 100.0)
    same = found._replace(microseconds=100.0)
    assert races.race_on_the_way(steps, pair, same, False) is same  # the share is used up
    assert races.race_on_the_way(steps, pair, same, True) is not same  # except where the learning rate falls
    assert races.spent == pytest.approx(SHARE * 100_000 * 100.0)
