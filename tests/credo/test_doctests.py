"""The examples in the docstrings of public functions and classes run, and print what they say."""

import doctest
import inspect
from types import ModuleType
from typing import Any

import pytest
import torch

import credo

# Public names without an example. Shrink this list; it must become empty.
WITHOUT_EXAMPLE: set[str] = set()


def public(namespace: ModuleType) -> dict[str, Any]:
    """The functions and classes of a namespace by their full names; its modules are looked into as well."""
    names = getattr(namespace, "__all__", None)
    if names is None:  # credo.metrics: what it defines itself
        names = [n for n, v in vars(namespace).items() if getattr(v, "__module__", "") == namespace.__name__]
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(namespace, name)
        if isinstance(value, ModuleType):
            found |= public(value)
        elif callable(value) and not name.startswith("_"):
            found[f"{namespace.__name__}.{name}"] = value
    return dict(sorted(found.items()))


PUBLIC = public(credo)


def examples(name: str) -> list[doctest.DocTest]:
    """The examples of a function, or of a class and its methods."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    module = inspect.getmodule(PUBLIC[name])
    return [test for test in finder.find(PUBLIC[name], name, module, globs={"credo": credo}) if test.examples]


@pytest.mark.parametrize("name", [name for name in PUBLIC if examples(name)])
def test_the_example_prints_what_it_says(name: str) -> None:
    torch.manual_seed(0)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    said: list[str] = []
    for test in examples(name):
        doctest.DocTestRunner(optionflags=flags).run(test, out=said.append, clear_globs=True)
    if said:
        pytest.fail(f"the example of {name} prints something else than it says:\n" + "".join(said), pytrace=False)


def test_every_public_name_has_an_example() -> None:
    without = {name for name in PUBLIC if not examples(name)}
    new, done = sorted(without - WITHOUT_EXAMPLE), sorted(WITHOUT_EXAMPLE - without)
    assert not new, f"{new}: write one example (`>>> `) that runs in a second, at the end of the docstring"
    assert not done, f"{done}: these have an example or are gone; remove them from WITHOUT_EXAMPLE"


def test_every_public_function_names_its_arguments() -> None:
    """Each argument of a public function is named in its docstring, as `name:` or in the formula."""
    missing = [
        f"{name}: {argument}"
        for name, value in PUBLIC.items()
        if inspect.isfunction(value)
        for argument in inspect.signature(value).parameters
        if argument not in (value.__doc__ or "")
    ]
    assert not missing, f"document these arguments, with shapes and units: {missing}"
