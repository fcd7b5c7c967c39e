"""The pairs: how they are found, and what every one of them owes."""

import inspect
import sys

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import credo
from credo.cli import main
from credo.pairs import Pair

PAIRS = [credo.load(name) for name in credo.names()]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.name)
def test_a_pair_keeps_the_contract(pair: Pair) -> None:
    """A title and a guide of the same arguments; settings that both take have the same default in both.

    Data, networks among them, come first; what can be given by keyword alone, or has a default, is a setting.
    """
    assert isinstance(pair, Pair)
    model, guide = (inspect.signature(f).parameters for f in (pair.model, pair.guide))
    data = [name for name, p in model.items() if p.default in (p.empty, None) and p.kind is not p.KEYWORD_ONLY]
    assert list(model)[: len(data)] == list(guide)[: len(data)] == data
    for name in model.keys() & guide.keys():
        assert model[name].default == guide[name].default, f"{pair.name}: {name} differs between model and guide"
    assert pair.model.__doc__ and pair.guide.__doc__
    if pair.posterior is not None:
        settings = [name for name, p in model.items() if name not in data]
        assert settings == [n for n in inspect.signature(pair.posterior).parameters if n not in data]


@pytest.mark.parametrize("pair", [p for p in PAIRS if p.data is not None], ids=lambda p: p.name)
def test_the_built_in_data_are_the_arguments_and_so_are_the_rows_held_out(pair: Pair) -> None:
    assert pair.data is not None
    data = pair.data()
    inspect.signature(pair.model).bind(*data)
    inspect.signature(pair.guide).bind(*data)
    held_out = getattr(sys.modules[pair.model.__module__], "held_out", None)
    if held_out is None:
        return
    new = held_out(*data)
    assert len(new) == len(data)
    for old, other in zip(data, new, strict=True):
        if isinstance(old, torch.Tensor):
            assert (other.dtype, other.shape[1:]) == (old.dtype, old.shape[1:])
            assert 0 < len(other) < len(old)
        else:
            assert other is old


@pytest.mark.parametrize(
    "name", ["bnn_classifier", "bnn_dropout", "bnn_regression", "bnn_sparse", "stochastic_depth_resnet", "vae"]
)
def test_a_table_is_fitted_from_the_command_line(name: str, tmp_path) -> None:
    """The inputs are all columns but y, and a network is made for them."""
    table = pd.DataFrame({"a": [0, 1, 0, 1, 1, 0], "y": [0, 1, 2, 0, 1, 2], "b": [1, 0, 0, 1, 0, 0]})
    if name == "vae":
        table = table.drop(columns="y")
    table.to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["fit", name, "--data", str(tmp_path / "rows.csv"), "--steps", "3", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "after the 3 steps asked for" in " ".join(result.output.split())  # lines are broken at 80 characters
    pair = credo.load(name)
    assert pair.data is not None
    sites = credo.fit(pair.model, pair.guide, *pair.data(table), steps=1).sample(1)
    written = pd.read_csv(tmp_path / "out" / "summary.csv", index_col="site")
    numbers = written["numbers"].sum() if "numbers" in written else len(written)  # large sites have one row each
    # where it has a row for each site, it has latents alone: `probs` is computed from them
    left_out = {"probs", "mean"} if "numbers" in written else set()
    assert numbers == sum(draws.numel() for name, draws in sites.items() if name not in left_out)


def test_names_are_sorted_and_hold_no_helper() -> None:
    assert credo.names() == sorted(credo.names())
    assert {"coin_toss", "linear_regression"} <= set(credo.names())
    assert not any(name.startswith("_") for name in credo.names())


@pytest.mark.parametrize(
    ("name", "words"), [("nosuch", ["'nosuch'", "coin_toss"]), ("no/such.py", ["no file", "no/such.py"])]
)
def test_an_unknown_pair_is_refused_with_what_there_is(name: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        credo.load(name)
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_lacks_one_of_the_two_is_refused(tmp_path) -> None:
    (tmp_path / "half.py").write_text("def model(x):\n    pass\n")
    with pytest.raises(ValueError, match=r"half\.py: defines no function 'guide'"):
        credo.load(str(tmp_path / "half.py"))
