"""The papers of a release agree: version, citation, changelog, supported Pythons, pinned dependencies, licences."""

import datetime
import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import credo
from tests.cases.docs_program import docs_program

ROOT = Path(__file__).parents[2]
# The keys of https://citation-file-format.github.io, schema 1.2.0, that a file may have at its top.
REQUIRED = {"cff-version", "message", "title", "authors"}
ALLOWED = REQUIRED | {
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url"),
    *("preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url"),
    "version",
}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def setup() -> ConfigParser:
    config = ConfigParser()
    config.read_string(text("setup.cfg"))
    return config


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    return yaml.safe_load(text("CITATION.cff"))


@pytest.fixture(scope="module")
def licences():
    """docs/licences.py, which is a program and belongs to no package."""
    return docs_program("licences")


def test_the_version_is_the_same_everywhere(setup, citation) -> None:
    assert setup["metadata"]["version"] == "attr: credo.__version__"
    newest = re.search(r"^## \[([\d.]+)\] - (\S+)$", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert newest is not None, "CHANGELOG.md: no heading such as `## [0.2.0] - 2026-11-27`"
    assert newest[1] == str(citation["version"]) == credo.__version__
    assert datetime.date.fromisoformat(newest[2]) == citation["date-released"]
    assert f"credo-{credo.__version__}-py3-none-any.whl" in text("docs/install.md")


def test_the_citation_has_what_its_format_asks_for(citation, setup) -> None:
    """The same file passed cffconvert --validate; this catches the mistakes of later edits."""
    assert set(citation) >= REQUIRED and set(citation) <= ALLOWED
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    for author in citation["authors"] + [a for r in citation["references"] for a in r["authors"]]:
        assert set(author) in ({"name"}, {"family-names", "given-names"}), author
    assert all(isinstance(word, str) for word in citation["keywords"])
    assert citation["license"] == setup["metadata"]["license"]


def test_the_pythons_are_the_same_everywhere(setup) -> None:
    versions = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    assert setup["options"]["python_requires"] == f">={versions[0]}"
    ci, release = (yaml.safe_load(text(f".github/workflows/{name}.yml"))["jobs"] for name in ("ci", "release"))
    first = ci["all"]["steps"][1]["with"]["python-version"]
    assert [first, *ci["test"]["strategy"]["matrix"]["python"]] == versions
    assert release["install"]["strategy"]["matrix"]["python"] == versions
    assert all(version in text("docs/install.md").split("\n## ")[0] for version in versions)


@pytest.mark.parametrize("name", ["ci", "release"])
def test_a_workflow_may_only_read_and_knows_no_secret(name: str) -> None:
    source = text(f".github/workflows/{name}.yml")
    workflow = yaml.safe_load(source)
    assert workflow["permissions"] == {"contents": "read"} and "secrets." not in source
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job and "permissions" not in job
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            caches = step.get("with", {}).get("cache")
            assert caches is None or step["with"]["cache-dependency-path"] == "constraints.txt"


def test_ci_does_what_the_script_does() -> None:
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    assert [step["run"] for step in jobs["all"]["steps"] if "run" in step] == [".ci/run"]
    assert "make test" in [step.get("run") for step in jobs["test"]["steps"]]


def test_every_direct_dependency_is_pinned(licences) -> None:
    pinned = {licences.plain(line.split("==")[0]) for line in text("constraints.txt").splitlines() if "==" in line}
    missing = {name for names in licences.direct().values() for name in names} - pinned
    assert not missing, f"constraints.txt lacks {sorted(missing)}"


def test_the_licences_name_every_direct_dependency(licences, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["licences.py", "--check"])
    licences.main()


def test_a_dependency_without_its_licence_is_found(licences, monkeypatch, tmp_path) -> None:
    page = tmp_path / "licences.md"
    page.write_text(licences.PAGE.read_text(encoding="utf-8").replace("**tqdm**", "tqdm"), encoding="utf-8")
    monkeypatch.setattr(licences, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["licences.py", "--check"])
    with pytest.raises(SystemExit, match=r"lacks tqdm: run python docs/licences\.py"):
        licences.main()


def test_copyleft_is_named(licences) -> None:
    rows, named = text("docs/licences.md").split("## Copyleft")
    found = re.findall(r"^\| \**([\w.-]+?)\** \| \S+ \| (.*) \|$", rows, flags=re.MULTILINE)
    assert len(found) > 100
    for name, words in found:
        assert bool(licences.COPYLEFT.search(words)) == (f"- {name}: " in named), name


@pytest.mark.parametrize("words", ["LGPL-3.0-only", "GNU Affero General Public License v3", "AGPL-3.0", "MPL-2.0"])
def test_copyleft_is_recognised(licences, words: str) -> None:
    assert licences.COPYLEFT.search(words)


@pytest.mark.parametrize("words", ["Apache-2.0", "BSD License", "MIT-CMU", "Python Software Foundation License"])
def test_permission_is_recognised(licences, words: str) -> None:
    assert not licences.COPYLEFT.search(words)


def test_the_changelog_ends_in_the_deprecation_rule() -> None:
    rule = text("CONTRIBUTING.md").split("## Old names")[1].split("\n## ")[0]
    assert "CONTRIBUTING.md" in text("CHANGELOG.md") and "DeprecationWarning" in rule and "six months" in rule
