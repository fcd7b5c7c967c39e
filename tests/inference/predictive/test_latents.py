"""The latents of new rows: a guide that computes them has them, another one says so."""

import pytest
import torch

import credo
from tests.inference.posterior.test_given_rows import X, held, model, read

HOW = {"steps": 1, "compile": False, "progress": False, "plan": "fast", "lr": 1e-9}


def test_latents_of_new_rows_are_those_of_their_data():
    new = torch.tensor([0.3, -0.7])
    fit = credo.fit(model, read, X, **HOW)
    for draws in (fit.latents(2000, new), fit.latents(new, n=2000), fit.latents(x=new, n=2000)):
        torch.testing.assert_close(draws["z"].mean(0), 0.5 * new, atol=0.02, rtol=0)
        assert draws["w"].shape == (2000, 2, 2) and draws["mu"].shape == (2000,)


def test_a_guide_that_holds_its_rows_knows_no_others():
    with pytest.raises(ValueError, match="site 'w': the guide has no draw of it at rows that it has not seen"):
        credo.fit(model, held, X, **HOW).latents(torch.tensor([0.3]))
