"""The pairs: how they are found, and what every one of them owes."""

import inspect

import pytest

import credo
from credo.pairs import Pair

PAIRS = [credo.load(name) for name in credo.names()]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.name)
def test_a_pair_keeps_the_contract(pair: Pair) -> None:
    """A title and a guide of the same arguments; settings that both take have the same default in both."""
    assert isinstance(pair, Pair)
    model, guide = (inspect.signature(f).parameters for f in (pair.model, pair.guide))
    data = [name for name, p in model.items() if p.default in (p.empty, None)]
    assert list(guide)[: len(data)] == data
    for name in model.keys() & guide.keys():
        assert model[name].default == guide[name].default, f"{pair.name}: {name} differs between model and guide"
    assert pair.model.__doc__ and pair.guide.__doc__
    if pair.posterior is not None:
        settings = [name for name, p in model.items() if name not in data]
        assert settings == [n for n in inspect.signature(pair.posterior).parameters if n not in data]


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
    with pytest.raises(ValueError, match=r"half\.py: holds no function 'guide'"):
        credo.load(str(tmp_path / "half.py"))
