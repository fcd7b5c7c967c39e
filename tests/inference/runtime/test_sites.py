"""The sites of a trace by kind, compared with what the program says; and the words for them."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from credo.inference.runtime.sites import (
    counts_once,
    drawn_sites,
    frames,
    has_rsample,
    independent_of_draws,
    is_index,
    latent,
    observed,
    plates,
    quoted,
    refuse_subsampled,
    same_scale,
    shown_plates,
    temperature,
)

X = torch.tensor([0.3, 1.0, -0.4])


def program(size=3):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    pyro.deterministic("twice", 2 * loc)
    pyro.param("w", torch.tensor(1.0))
    with pyro.plate("N", 3, subsample_size=size) as rows:
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(z, 1.0), obs=X[rows])


@pytest.mark.parametrize(("size", "indices"), [(3, set()), (2, {"N"})])
def test_each_site_is_what_the_program_made_it(size, indices):
    trace = poutine.trace(program).get_trace(size)
    assert list(latent(trace)) == ["loc", "z", "k"]
    assert list(latent(trace, auxiliary=True)) == ["loc", "e", "z", "k"]
    assert list(observed(trace)) == ["x"]
    assert drawn_sites(trace).keys() == {"loc", "e", "z", "k"} | indices  # the rows of a whole plate are not drawn
    assert [name for name, site in trace.nodes.items() if site["type"] == "sample" and is_index(site)] == ["N"]
    assert plates(trace.nodes["z"]) == {"N"} and plates(trace.nodes["loc"]) == set()
    assert (shown_plates(trace.nodes["z"]), shown_plates(trace.nodes["loc"])) == (f"N ({size})", "-")
    assert has_rsample(trace.nodes["z"]) and not has_rsample(trace.nodes["k"])


def test_a_site_whose_distribution_another_draw_moves_is_not_independent():
    one, two = (poutine.trace(program).get_trace() for _ in range(2))
    assert independent_of_draws(one, two).keys() == {"loc", "k"}  # z lies around loc
    del two.nodes["k"]
    assert independent_of_draws(one, two).keys() == {"loc"}


def test_a_subsampled_plate_is_refused_by_its_name():
    refuse_subsampled(latent(poutine.trace(program).get_trace(3)))
    with pytest.raises(ValueError, match="'z': plate 'N' is subsampled to 2 of 3 rows"):
        refuse_subsampled(latent(poutine.trace(program).get_trace(2)))


def test_scales_are_equal_as_numbers_and_row_by_row():
    rows = torch.tensor([1.0, 2.0])
    assert same_scale(2.0, 2.0) and same_scale(2.0, torch.tensor(2.0)) and same_scale(rows, rows.clone())
    assert not (same_scale(2.0, 1.0) or same_scale(rows, 2.0) or same_scale(rows, rows.flip(0)))


def test_names_are_quoted_four_at_most():
    assert quoted("a") == "site 'a'"
    assert quoted("ab") == "sites 'a', 'b'"
    assert quoted("abcdef") == "sites 'a', 'b', 'c', 'd' and 2 more"


def test_a_site_says_its_temperature_or_has_one():
    said = {"infer": {"temperature": 0.5}}
    assert [temperature(site) for site in (said, {"infer": {}}, {"infer": None})] == [0.5, 1.0, 1.0]


def test_a_site_says_that_it_counts_once_or_does_not():
    said = {"infer": {"counts_once": True}}
    assert [counts_once(site) for site in (said, {"infer": {}}, {"infer": None})] == [True, False, False]


def test_frames_hold_the_sizes_of_all_plates():
    one, two = (poutine.trace(program).get_trace(size) for size in (3, 2))
    assert {name: (frame.size, frame.full_size) for name, frame in frames(one, two).items()} == {"N": (2, 3)}
