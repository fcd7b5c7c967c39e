"""Stand-ins for data that a file does not have, and what may be asked of a fit with them."""

import copy
import pickle

import pytest
import torch
from torch import nn

from credo.inference.storage.absent import Absent, about_data, data_of, refuse_to_save, refuse_without_data, stand_in
from credo.inference.storage.outline import outline

X, CPU = torch.arange(6.0).reshape(2, 3), torch.device("cpu")


def model(x, net=None):
    """Takes two arguments."""


def about(asked, with_data=False, data=(X,)):
    return about_data(model, data, torch.float32, CPU, lambda data: {}, asked, with_data)


def test_a_stand_in_has_the_form_and_other_values():
    made = stand_in("x", outline({"a": [X, 3, X.long()]}), CPU)["a"]
    assert made[0].shape == X.shape and made[0].unique().numel() == 6 and not torch.equal(made[0], X)
    assert made[1] == 3 and made[2].dtype == torch.int64
    with pytest.raises(ValueError, match="x: no file holds the network"):
        stand_in("x", outline(nn.Linear(1, 1)), CPU)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([3, 1, 5, 1]),
        torch.tensor([[0, 7], [2, 9], [1, 7]]),
        torch.tensor([200, 3], dtype=torch.uint8),
        torch.tensor([-(2**63), 2**63 - 1, 0]),
        torch.tensor(4),
        torch.zeros(0, 2, dtype=torch.int64),
        torch.tensor([True, False, True]),
    ],
    ids=["codes", "matrix of codes", "bytes", "extreme", "number", "empty", "mask"],
)
@pytest.mark.parametrize("other", [0.0, 0.3])
def test_whole_numbers_stay_between_those_of_the_data(value, other):
    made = stand_in("x", outline(value), CPU, other)
    assert made.dtype == value.dtype and made.shape == value.shape
    if value.numel():
        axis = 0 if value.ndim == 2 else None
        assert (made.numpy().max(axis) == value.numpy().max(axis)).all()
        assert (made.numpy().min(axis) >= value.numpy().min(axis)).all()
    if value.dtype == torch.bool:
        assert made.sum() == value.sum()


def test_what_depends_on_the_data_is_not_free():
    asked = {
        "sample": lambda data, new: {"z": torch.ones(2)},
        "summary": lambda data, new: {"z": data[0].sum()},
        "predict": lambda data, new: {"y": new[0] * 2},
        "rows": lambda data, new: {}["no answer"],
    }
    assert about(asked)["free"] == {"sample", "predict"} and about(asked, with_data=True)["free"] == set()


def test_absent_data_are_refused_by_what_is_asked():
    found = data_of(about({"sample": lambda data, new: {"z": 1}}), model, (), (), {}, CPU)
    for each in (found, pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert isinstance(each, Absent) and repr(each) == "(the data are not in the file)" and each.whole
        refuse_without_data(each, "sample")
        with pytest.raises(ValueError, match="loaded without its data, and predictions at new data depend on them"):
            refuse_without_data(each, "predict")
    refuse_without_data((X,), "rows")


def test_data_come_from_the_user_or_from_the_file():
    assert data_of(about({}), model, (X.numpy(),), (), {}, CPU)[0].equal(X)
    assert type(data_of(about({}, with_data=True), model, (), (), {}, CPU)) is tuple
    net = nn.Linear(1, 1)
    two = about({}, with_data=True, data=(X, net))
    with pytest.raises(ValueError, match="net: no file holds the network"):
        data_of(two, model, (), (), {}, CPU)
    assert data_of(two, model, (X, net), (), {}, CPU)[1] is net


def test_a_file_is_not_asked_for_data_that_are_absent():
    absent = data_of(about({}), model, (), (), {}, CPU)
    refuse_to_save(absent, False)
    refuse_to_save((X,), True)
    with pytest.raises(ValueError, match="with_data: this fit was loaded without its data"):
        refuse_to_save(absent, True)
    with pytest.raises(ValueError, match="with_data: got 'yes', wanted True or False"):
        refuse_to_save((X,), "yes")


def test_few_rows_of_new_data_are_asked_where_they_will_do():
    rows = []

    def predict(data, new):
        rows.append(len(new[0]))
        return {"y": new[0] * 2}

    def whole(data, new):
        if len(new[0]) < len(data[0]):
            raise ValueError("as many rows as in the fit")
        return {"y": new[0] * 2}

    long = torch.zeros(1000, 3)
    assert about({"predict": predict, "rows": whole}, data=(long,))["free"] == {"predict", "rows"}
    assert rows == [32, 32]
