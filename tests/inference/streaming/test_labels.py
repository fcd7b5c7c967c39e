"""The labels of all chunks get the codes that the whole data would give them."""

import numpy as np
import pandas as pd
import pytest

from credo.inference.inputs.labels import coded
from credo.inference.streaming import labels
from credo.inference.streaming.labels import has_labels, labels_of


def cut(value, rows):
    return value.iloc[rows] if hasattr(value, "iloc") else value[rows]


@pytest.mark.parametrize("declared", [False, True])
def test_codes_are_those_of_the_whole_data(declared):
    text = pd.Series(["b", "d", "b", "a", "c", "b"], name="g")
    table = pd.DataFrame({"n": range(6), "g": text, "h": list("zzyyzx")})
    if declared:
        text, table["h"] = (
            pd.Series(pd.Categorical(text, categories=["d", "c", "b", "a"])),
            table["h"].astype("category"),
        )
    values = (table, text, np.array(list("uuuuvw")), np.arange(6))
    chunks = [tuple(cut(value, slice(k, k + 2)) for value in values) for k in (0, 2, 4)]
    names = ["t", "g", "s", "y"]
    found, whole = labels_of(names, chunks), coded(names, values)
    assert found.codes == whole.codes and found.notices == whole.notices


def test_what_holds_labels():
    assert has_labels(pd.Series(["a"])) and has_labels(np.array(["a"])) and has_labels(pd.DataFrame({"a": ["b"]}))
    assert not any(map(has_labels, (np.ones(2), pd.Series([1.0]), pd.DataFrame({"a": [1]}))))


def test_too_many_labels_are_refused(monkeypatch):
    monkeypatch.setattr(labels, "MOST", 3)
    with pytest.raises(ValueError, match="g: got more than 3 labels; leave out the column"):
        labels_of(["g"], [(np.array(list("abcd")),)])
