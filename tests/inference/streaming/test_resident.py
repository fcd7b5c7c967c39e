"""Rows in memory beside rows that are not: how many there are, and slices of them."""

import numpy as np
import pandas as pd
import pytest
import torch

from credo.inference.streaming.resident import of_resident, rows_in


@pytest.mark.parametrize("value", [[1.0, 2.0, 3.0], torch.arange(3.0), np.arange(3.0), pd.Series([1.0, 2.0, 3.0])])
def test_rows_are_counted_and_read(value):
    part = of_resident(value, "y")
    assert rows_in(value) == part.n == 3 and part.noun == "y"
    ((found,),) = part.stream([slice(1, 3)], None)
    assert list(map(float, found)) == list(map(float, list(value)[1:]))


@pytest.mark.parametrize("value", [1.0, torch.tensor(2.0), torch.nn.Linear(1, 1), "x"])
def test_what_has_no_rows_has_none(value):
    assert rows_in(value) is None
