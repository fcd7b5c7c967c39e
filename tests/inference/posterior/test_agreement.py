"""The words of several seeds: each is said where it is true, and not where it nearly is."""

import math

import pytest

from credo.inference.posterior.agreement import Agreement, SeedRun

BEST = SeedRun(0, -10.0, 0.1, 0.0, 0.0, 500, True, "yes", "converged", {"mu": 0.0, "w": 0.0})


def other(seed: int, below: float, mu: float = 0.1, below_error: float = 0.01) -> SeedRun:
    return BEST._replace(
        seed=seed, elbo=-10 - below, below=below, below_error=below_error, distances={"mu": mu, "w": 0}
    )


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], ""),
        ([other(1, 0.05), other(2, 0.0)], "3 of 3 seeds found this"),
        ([other(1, 0.05), other(2, 12.0, 15.0)], "2 of 3 seeds found this; seed 2 ended 12 nats lower at another mode"),
        ([other(1, 0.2)], "1 of 2 seeds found this; seed 1 ended 0.2 nats lower"),
        ([other(1, 0.2, below_error=0.1)], "2 of 2 seeds found this"),  # within its Monte Carlo error
        ([other(1, 3.0), other(5, 4.0)], "1 of 3 seeds found this; seeds 1, 5 ended 3 to 4 nats lower"),
        ([other(1, 0.0, 50.0), other(2, 0.0)], "2 of 3 seeds found this; seed 1 found the same ELBO elsewhere"),
    ],
)
def test_words_say_how_many_found_the_best_and_what_became_of_the_others(runs: list, words: str) -> None:
    said = Agreement((BEST, *runs), 0).words
    assert said == words or (said.startswith(words) and ": mu " in said)


def test_a_seed_that_failed_is_named_with_its_reason() -> None:
    failed = SeedRun(3, *[math.nan] * 4, 0, False, "no", "Diverged: NaN", {})
    found = Agreement((BEST, failed), 0)
    assert found.words == "1 of 2 seeds found this; seed 3 failed: Diverged: NaN"
    assert found.table.loc[3, ["ELBO", "|mu|"]].isna().all() and found.table.loc[3, "stopped"] == "Diverged: NaN"


def test_many_latents_may_differ_by_more_nats() -> None:
    runs = (BEST, other(1, 0.8))
    assert Agreement(runs, 0, latents=10_000).words == "2 of 2 seeds found this"
    assert Agreement(runs, 0, latents=10).words.endswith("0.8 nats lower")


def test_the_table_has_a_row_for_each_seed_in_their_order() -> None:
    table = Agreement((other(7, 1.0), BEST), 0).table
    assert list(table.index) == [7, 0] and table.index.name == "seed" and table.attrs["best"] == 0
    assert list(table["below"]) == [1.0, 0.0] and list(table["|mu|"]) == [0.1, 0.0]


def test_points_are_elsewhere_where_a_valley_lies_between() -> None:
    point = BEST._replace(distances={"t": math.nan}, valley=0.0)
    across, lower = (point._replace(seed=1, below=below, valley=5.3) for below in (0.0, 2.0))
    said = Agreement((point, point._replace(seed=2, valley=0.05), across), 0)
    assert said.words.startswith("2 of 3 seeds found this; seed 1 found the same ELBO elsewhere")
    assert "log p falls by 5.3 nats" in said.words and list(said.table["valley"]) == [0.0, 0.05, 5.3]
    assert "2 nats lower at another mode: log p falls" in Agreement((point, lower), 0).words
    assert Agreement((point, point._replace(seed=2)), 0).words == "2 of 2 seeds found this"
    assert "valley" not in Agreement((BEST, other(1, 0.0)), 0).table  # of distributions
