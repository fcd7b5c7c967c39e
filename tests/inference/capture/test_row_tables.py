"""Rows of a table, each with the optimiser of its own gradients: torch's own, one for each row, is the oracle."""

from functools import partial

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from credo.inference.capture.row_tables import TableRows, gather_rows, table_state, update_rows, why_no_rows
from credo.inference.capture.rules import row_parts

ROWS, TARGETS = 10, torch.arange(10.0, dtype=torch.float64)
OPTIMISERS = [
    partial(torch.optim.Adam, lr=0.1, betas=(0.9, 0.99)),
    partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1),
    partial(torch.optim.SGD, lr=0.1),
    partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    partial(ClippedAdam, lr=0.1, clip_norm=0.5),
]


@pytest.mark.parametrize("optim", OPTIMISERS, ids=lambda optim: optim.func.__name__)
def test_each_row_sees_the_optimiser_of_its_own_gradients(optim):
    start = torch.randn(ROWS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    table, leaf = start.clone(), torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    whole = optim([table])
    alone = [start[i].clone().requires_grad_() for i in range(ROWS)]
    each = [optim([row]) for row in alone]
    order = torch.Generator().manual_seed(1)
    for _ in range(25):
        index = torch.randperm(ROWS, generator=order)[:4]
        gather_rows([table], [leaf], index)
        (leaf - TARGETS[index, None]).square().sum().backward()
        whole.step()
        update_rows(whole, TableRows([table], [leaf], index))
        for i in index.tolist():
            each[i].zero_grad()
            (alone[i] - TARGETS[i]).square().sum().backward()
            each[i].step()
    assert torch.allclose(table, torch.stack([row.detach() for row in alone]), rtol=0, atol=1e-12)


def test_an_average_weighs_the_last_visits_of_a_row_most():
    table, leaf = torch.zeros(3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser, seen = torch.optim.SGD([table], lr=1.0), []
    for value in (5.0, -1.0, 2.0, 0.5):
        gather_rows([table], [leaf], torch.tensor([1]))
        leaf.grad = leaf.detach() - value  # so that the row moves there
        update_rows(optimiser, TableRows([table], [leaf], torch.tensor([1])))
        seen.append(value)
    # The recursion gives visit k of n the weight prod (k + 1 .. k + 3), up to a constant: a polynomial of degree 3.
    weights = torch.tensor([float(k * (k + 1) * (k + 2)) for k in range(1, 5)], dtype=torch.float64)
    wanted = (weights * torch.tensor(seen, dtype=torch.float64)).sum() / weights.sum()
    average = optimiser.state[table]["average"]
    assert torch.allclose(average, torch.stack([torch.zeros_like(wanted), wanted, torch.zeros_like(wanted)]))


@pytest.mark.parametrize(
    ("optim", "words"),
    [
        (partial(torch.optim.RMSprop, lr=0.1), "RMSprop"),
        (partial(torch.optim.Adam, lr=0.1, amsgrad=True), "amsgrad"),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.5), "dampening"),
        (partial(torch.optim.Adam, lr=0.1), ""),
    ],
)
def test_an_optimiser_without_an_update_of_rows_is_named(optim, words):
    why = why_no_rows(optim([torch.zeros(3)]))
    assert words in why and bool(why) == bool(words)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_belongs_to_a_row_lies_side_by_side_also_after_the_state_was_put_back(dtype):
    table = torch.arange(12.0, dtype=dtype).reshape(4, 3)
    before, optimiser = table.clone(), torch.optim.Adam([table], lr=0.1)
    packed = table_state(optimiser, table)
    assert packed.shape == (4, 3 * 4 + 2) and torch.equal(table, before)
    state = optimiser.state[table]
    assert {t.untyped_storage().data_ptr() for t in (table, *state.values())} == {packed.untyped_storage().data_ptr()}
    assert table_state(optimiser, table).data_ptr() == packed.data_ptr()
    state["visits"].fill_(7)
    optimiser.state[table] = {name: part.clone() for name, part in state.items()}
    optimiser.state[table]["exp_avg"] += 2
    again = table_state(optimiser, table)
    p, m, v, steps, visits, mean = row_parts(again, (3,))
    assert torch.equal(p, before) and torch.equal(m, torch.full_like(p, 2)) and not v.any() and not steps.any()
    assert visits.tolist() == [7.0] * 4 and torch.equal(mean, before)
    again += 1
    assert torch.equal(table, before + 1)
