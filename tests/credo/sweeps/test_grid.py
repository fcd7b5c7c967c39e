"""The settings of a sweep: the product of the lists, each with a name of its own that a file can have."""

import functools

import torch

from credo.sweeps.grid import grid, sorted_by_settings


def test_lists_make_a_product_and_tuples_are_one_value():
    cells = grid("mean_field", {"seed": range(2), "lr": [0.1, 0.2], "kl_warmup": (5, 9), "progress": True}, {"sd": [1]})
    assert [(c.options["seed"], c.options["lr"]) for c in cells] == [(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2)]
    assert all(c.options["kl_warmup"] == (5, 9) and c.model == {"sd": 1} for c in cells)
    assert "progress" not in cells[0].plain and cells[0].plain["guide"] == "mean_field"
    assert len({c.name for c in cells}) == 4 and cells[0].name.startswith("guide=mean_field,seed=0,lr=0.1,")


def test_a_name_is_the_same_in_every_process_and_fits_into_a_file_name():
    schedule = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=10)
    first, second = (grid("mean_field", {"lr": schedule, "plan": {"z/ü": "score"}}, {})[0].name for _ in range(2))
    assert first == second and len(first) < 120 and first.isascii() and "/" not in first
    assert grid("mean_field", {"lr": functools.partial(schedule, T_max=11)}, {})[0].name != first
    assert grid("mean_field", {"validation": (torch.zeros(2),)}, {})[0].name != (
        grid("mean_field", {"validation": (torch.ones(2),)}, {})[0].name
    )


def test_rows_stand_in_the_order_of_their_settings_numbers_before_text():
    rows = [{"lr": value} for value in ("b", 10, 2.5, None, "a")]
    assert [row["lr"] for row in sorted_by_settings(rows, ["lr"])] == [2.5, 10, None, "a", "b"]
