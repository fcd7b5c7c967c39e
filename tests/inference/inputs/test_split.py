"""Rows held out of the user's data: every kind of container, each row on one side."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from credo.inference.inputs.labels import coded
from credo.inference.inputs.split import complete, split
from tests.cases.repeats import seeds

N = 20
ROWS = np.arange(N, dtype=float)
CONTAINERS = {
    "tensor": torch.tensor(ROWS),
    "matrix": np.stack([ROWS, ROWS], 1),
    "series": pd.Series(ROWS, index=[f"r{i}" for i in range(N)]),
    "frame": pd.DataFrame({"a": ROWS, "b": ROWS}),
    "list": list(ROWS),
    "tuple": tuple(ROWS),
}


def rows(value):
    return np.asarray(value, dtype=float).reshape(len(value), -1)[:, 0].tolist()


@pytest.mark.parametrize("kind", CONTAINERS)
def test_each_row_is_on_one_side(kind):
    net = nn.Linear(1, 1)
    train, held = split((net, CONTAINERS[kind], torch.tensor(ROWS), 3.0), 0.3, seed=1)
    assert train[0] is net and held[0] is net and train[3] == held[3] == 3.0
    for part, n in ((train, 14), (held, 6)):
        assert type(part[1]) is type(CONTAINERS[kind]) and rows(part[1]) == rows(part[2]) and len(part[1]) == n
    assert sorted(rows(train[1]) + rows(held[1])) == ROWS.tolist()
    assert rows(split((CONTAINERS[kind],), 0.3, seed=1)[1][0]) == rows(held[1])
    assert rows(split((CONTAINERS[kind],), 0.3, seed=2)[1][0]) != rows(held[1])


def test_a_loader_stands_for_its_tensors_and_shorter_arguments_stay_whole():
    loader = DataLoader(TensorDataset(torch.tensor(ROWS), torch.tensor(ROWS)), batch_size=5)
    train, held = split((loader, torch.ones(3)), 0.5, seed=0)
    assert [len(value) for value in train] == [10, 10, 3] == [len(value) for value in held]


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_without_rows_on_one_side_is_refused(share):
    with pytest.raises(ValueError, match="of 20 rows, wanted a share"):
        split((ROWS,), share, 0)
    with pytest.raises(ValueError, match="nothing with rows"):
        split((nn.Linear(1, 1), 3), 0.5, 0)


def test_held_out_data_may_leave_out_what_has_no_rows():
    net, x = nn.Linear(1, 1), torch.zeros(4)
    assert complete((net, ROWS, ROWS), (x, x)) == (net, x, x) == complete((net, ROWS, ROWS), [net, x, x])
    frame = pd.DataFrame({"a": [1.0]})
    assert complete((CONTAINERS["frame"],), frame)[0] is frame
    with pytest.raises(ValueError, match=r"got 1 arguments, wanted .* 2 as in the data"):
        complete((net, ROWS, ROWS), x)


TEXT = ["a", "b"] * 5 + ["only here", "and here"]
KINDS_OF_TEXT = {
    "column": pd.Series(TEXT),
    "strings": pd.Series(TEXT, dtype="string"),
    "array": np.array(TEXT),
    "objects": np.array(TEXT, dtype=object),
    "list": TEXT,
}


@pytest.mark.parametrize("kind", KINDS_OF_TEXT)
@pytest.mark.parametrize("seed", seeds(3))
def test_both_parts_have_the_codes_of_all_labels(kind, seed):
    y = np.arange(12.0)
    parts = split((KINDS_OF_TEXT[kind], y), 0.3, seed)
    both = [coded(("g", "y"), part) for part in parts]
    assert both[0].codes == both[1].codes == {"g": ["a", "and here", "b", "only here"]}
    labels = {row: label for row, label in enumerate(TEXT)}
    for found in both:
        assert [found.codes["g"][int(code)] for code in found.values[0]] == [
            labels[int(row)] for row in found.values[1]
        ]


def test_text_that_is_no_label_stays_as_it_is():
    table = pd.DataFrame({"n": ["1", "2", "3", "4"], "missing": ["a", None, "b", "c"], "x": np.arange(4.0)})
    for part in split((table,), 0.5, 0):
        pd.testing.assert_frame_equal(part[0], table.loc[part[0].index])


def test_rows_of_a_matrix_of_rows_by_rows_are_not_held_out_alone():
    square = torch.arange(16.0).reshape(4, 4)
    with pytest.raises(ValueError, match="validation: argument 1 of the data is a symmetric matrix of shape"):
        split((square + square.T, torch.ones(4)), 0.5, 0)
    assert split((square, torch.ones(4)), 0.5, 0)[0][0].shape == (2, 4)
