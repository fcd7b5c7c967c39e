"""What changes from step to step: batches, arguments, modes, the parameters there are.

Each function makes a pair anew: (model, guide, before), as in `tests.cases.replay.refused`.
"""

import torch
from pyro import poutine
from torch import nn

from tests.cases.elbo.expectations import observe, param, positive
from tests.cases.replay.accepted import X, network, normal_of_two, regression, rows
from tests.cases.replay.refused import Y, drawn, four_drawn, normal, normals

SWITCH = 40  # the step at which the user changes something late

# It shows in the arguments, or happens before any capture: each form is replayed.


def short_batch():
    """Every fourth batch is a shorter one, which reaches only some entries of a parameter."""

    def model(y):
        observe(y, four_drawn()[: len(y)])

    def before(step):
        return ((Y + 0.01 * step)[: 2 if step % 4 == 3 else 4],)

    return model, normals, before


def strides_and_dtypes():
    """Columns of a matrix, then rows; whole numbers, then floating point."""
    table = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    forms = [(table,), (table.T,), (table.long(),), (table.T.contiguous(),)]

    def model(x):
        observe(x.flatten(), drawn() * torch.tensor([1.0, 2.0, 3.0, 4.0]))

    return model, normal, lambda step: forms[step % 4]


def words():
    """A string chooses the branch; a parameter without gradient is left alone by Adam, and so are its moments."""

    def model(y, how):
        z = drawn()
        observe(y, z + param("left", 0.1) if how == "left" else z * positive("right", 2.0))

    def guide(y, how):
        normal(y)

    return model, guide, lambda step: (Y, "left" if step % 3 else "right")


def joining():
    """A parameter that is there from step 10 on: its own count of Adam's steps begins then."""
    shifted = False

    def model(y):
        z = drawn()
        observe(y, z + param("shift", 0.0) if shifted else z)

    def before(step):
        nonlocal shifted
        shifted = step >= 10
        return (Y,)

    return model, normal, before


def overflowing():
    """Two steps whose loss is not finite: they update nothing, neither parameters nor moments nor running averages."""

    def model(y):
        observe(y, drawn())

    return model, normal, lambda step: (Y * 1e30 if step in (5, 45) else Y,)


CHANGING = [short_batch, strides_and_dtypes, words, joining, overflowing]


# Right losses are all that is asked of these: captured, for each value if need be, or eager.


def heated_by_argument():
    """An argument that is another float at each step."""

    def model(y, heat):
        with poutine.scale(scale=heat):
            z = drawn()
        observe(y, z)

    def guide(y, heat):
        with poutine.scale(scale=heat):
            normal(y)

    return model, guide, lambda step: (Y, (step + 1) / 100)


def modes():
    """The model switches its network between training and evaluation, by an argument."""
    net = network(nn.BatchNorm1d(3), nn.Dropout(0.5))

    def model(x, y, training):
        net.train(training)
        regression(net)(x, y)

    def guide(x, y, training):
        normal(y)

    return model, guide, lambda step: (*rows(step), step % 5 != 4)


def modes_from_outside():
    """The user switches the network between the steps."""
    net = network(nn.BatchNorm1d(3), nn.Dropout(0.5))

    def before(step):
        net.train(step % 5 != 4)
        return rows(step)

    return regression(net), normal_of_two, before


def picked_rows():
    """As many rows as the data say: other numbers of them at other steps, in tensors of one shape."""

    def model(x, y):
        z = drawn()
        taken = x[:, 0] > 0
        observe(y[taken], z * x[taken, 1])

    return model, normal_of_two, lambda step: (X - 0.05 * step, Y) if step < 30 else (X, Y)


EITHER = [heated_by_argument, modes, modes_from_outside, picked_rows]


# The user changes something once, long after the capture and between two looks at it.


def switched():
    wide = False

    def model(y):
        z = drawn()
        observe(y, z, 2.0 if wide else 1.0)

    def before(step):
        nonlocal wide
        wide = step >= SWITCH
        return (Y,)

    return model, normal, before


def new_parameter():
    shifted = False

    def model(y):
        z = drawn()
        observe(y, z + param("shift", 0.0) if shifted else z)

    def before(step):
        nonlocal shifted
        shifted = step >= SWITCH
        return (Y,)

    return model, normal, before


SWITCHED = [switched, new_parameter]
