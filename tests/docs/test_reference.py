"""The reference of the site has an entry for every public name, and makes pages of plain docstrings."""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "reference").glob("*.md"))
ENTRY = re.compile(r"^\.\. auto(?:function|class|exception):: (\S+)\n(?:   :members: (.*)\n)?", re.MULTILINE)
# Public by their form, but for the engine: no user needs them. Whatever has an entry must leave this list.
INTERNAL = {
    "credo.Exact": {"improper", "narrow", "row_labels", "state", "updated"},
    "credo.Fit": {"agreement", "correction", "followers", "row_labels", "state", "summed"},
    "credo.Plan": {
        *("choices", "facts", "kl", "legal_terms", "needs_score", "pathwise", "recipe", "term", "terms"),
        *("values", "with_antithetic", "with_choice", "with_choices", "with_entries", "with_term"),
    },
}
RETURNED = {  # results that have no name in `credo` itself
    "credo.inference.evaluation.comparison.Comparison",
    "credo.inference.gaussian.psis.Importance",
    "credo.inference.posterior.verdict.Verdict",
    "credo.inference.predictive.likelihood.LogLikelihood",
}


@pytest.fixture(scope="module")
def names() -> ModuleType:
    """docs/public_names.py."""
    return imported("public_names")


@pytest.fixture(scope="module")
def docstrings() -> ModuleType:
    """docs/docstrings.py."""
    return imported("docstrings")


def imported(name: str) -> ModuleType:
    """A program of docs/, which is no package."""
    sys.path.insert(0, str(DOCS))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(DOCS))


def entries() -> dict[str, set[str]]:
    """{name with an entry: the members that are listed with it}."""
    found = [match for page in PAGES for match in ENTRY.findall(page.read_text(encoding="utf-8"))]
    assert len({name for name, _ in found}) == len(found), "a name has two entries"
    return {name: set(members.split(", ")) - {""} for name, members in found}


def test_every_public_name_has_an_entry(names) -> None:
    functions = {name for name, value in names.public().items() if callable(value)}
    missing = (functions | RETURNED) - entries().keys()
    assert not missing, f"docs/reference/: write an entry (.. autofunction:: or .. autoclass::) for {sorted(missing)}"
    assert not entries().keys() - functions - RETURNED, "entries of names that are not public"
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    constants = {name.rpartition(".")[2] for name, value in names.public().items() if not callable(value)}
    assert not [name for name in constants if f"`{name}`" not in text and f".{name}`" not in text]


def test_every_attribute_and_method_of_a_result_is_described(names, docstrings) -> None:
    for name, value in names.public().items():
        if not inspect.isclass(value):
            continue
        inherited = {part for base in (tuple, BaseException) for part in dir(base)}
        public = {part for part in {*dir(value), *names.fields_of(value)} - inherited if not part.startswith("_")}
        lines = inspect.cleandoc(value.__doc__ or "").splitlines()
        labels = [item.label for group in docstrings.groups(lines) for item in docstrings.items(group, public)]
        in_docstring = {part for label in labels for part in label.split(", ")}
        internal = INTERNAL.get(name, set())
        missing = public - in_docstring - entries()[name] - internal
        assert not missing, (
            f"{name}: describe {sorted(missing)} in its docstring or list them as :members: of its entry"
        )
        assert not internal & entries()[name], f"{name}: these have an entry, so they are not internal"
        assert internal <= public, f"{name}: these are gone, remove them from INTERNAL"
        for member in entries()[name]:
            assert inspect.getdoc(getattr(value, member)), f"{name}.{member} has no docstring"


def test_the_tables_at_the_top_list_entries() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        listed = re.findall(r"^   (credo\.\S+)$", text, flags=re.MULTILINE)
        mine = [name for name, _ in ENTRY.findall(text) if name not in RETURNED]
        assert listed == mine, f"{page.name}: the table and the entries list other names, or in another order"


def test_the_index_names_every_page() -> None:
    text = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.stem == "index" or (f"]({page.name})" in text and f"\n{page.stem}\n" in text)


def test_the_command_line_is_read_from_the_commands_and_their_help_is_complete() -> None:
    from credo.cli import main

    assert re.search(r":: credo\.cli:main\n.*\n   :nested: full", (DOCS / "reference" / "cli.md").read_text())
    for name, command in main.commands.items():
        assert command.help, name
        assert not [p.name for p in command.params if isinstance(p, click.Option) and not p.help], name


def test_a_docstring_becomes_fields_formulas_links_and_an_example(docstrings) -> None:
    text = """The mean of n draws, as `credo.fit` has it.

    m = 1/n sum_s x_s

Draws are *not* weighted; see `other_`.
x: shape (N,), in nats. weights: shape (N,);
    they add up to 1.
n, m: counts.
A paragraph of its own.
Returns a float. Raises ValueError for no draws.
Source: Somebody 1999.

>>> 1 + 1
2"""
    found = docstrings.rest(text.splitlines(), ["x", "weights", "n", "m"], None, {"credo.fit": "credo.fit"})
    assert (
        "\n".join(found)
        == r"""The mean of n draws, as :py:obj:`credo.fit <credo.fit>` has it.

.. code-block:: text

        m = 1/n sum_s x_s

Draws are \*not\* weighted; see ``other_``.

:Arguments:
    ``x``
        Shape (N,), in nats.
    ``weights``
        Shape (N,); they add up to 1.
    ``n``, ``m``
        Counts.
:Returns: A float.
:Raises: ValueError for no draws.
:Source: Somebody 1999.

A paragraph of its own.

.. rubric:: Example

>>> 1 + 1
2
"""
    )


def test_fields_of_a_class_become_attributes(docstrings) -> None:
    lines = ["A result.", "", "mean, sd: in nats; see `mean`. n: how many."]
    found = docstrings.rest(lines, [], {"mean": "float", "sd": "float", "n": "int"}, {})
    assert (
        "\n".join(found[2:])
        == """
.. py:attribute:: mean
                  sd
   :type: float

   In nats; see ``mean``.

.. py:attribute:: n
   :type: int

   How many.
"""
    )


@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("credo.fit", "credo.fit"),
        ("credo.fit(model, None, x)", "credo.fit"),
        ("Fit", "credo.Fit"),
        ("fit.corrected(n)", "credo.Fit.corrected"),
        ("fit.params", "credo.Fit.params"),
        ("svi.step", "credo.SVI.step"),
        ("posterior.update", "credo.Exact.update"),
        ("fit.nothing", None),
        ("torch.tensor", None),
        ("theta", None),
    ],
)
def test_code_that_names_an_entry_is_a_link(docstrings, code: str, target: str | None) -> None:
    assert docstrings.target_of(code, docstrings.links()) == target


def test_no_docstring_is_read_as_other_markup(docstrings, names) -> None:
    """docutils reads what is made of every public docstring without a complaint."""
    docutils = pytest.importorskip("docutils.core")
    roles = "\n.. role:: py:obj(literal)\n.. role:: code-link(literal)\n\n"
    for name, value in names.public().items():
        if not callable(value):
            continue
        lines = inspect.cleandoc(value.__doc__).splitlines()
        made = docstrings.rest(lines, names.known_to(value), None, docstrings.links())
        told: list[str] = []
        settings = {"report_level": 2, "warning_stream": type("", (), {"write": staticmethod(told.append)})()}
        docutils.publish_doctree(roles + "\n".join(made), settings_overrides=settings)
        assert not told, f"{name}: {told[0]}"
