"""Writes docs/licences.md: what comes with credo, and under which licence, read from the packages that are installed.

    python docs/licences.py           writes the page
    python docs/licences.py --check   changes nothing; exits with 1 if a direct dependency is missing from the page

Run it in an environment with all extras (`make docs`, then `pip install -e ".[bench]"`), so that it can follow them.
"""

import configparser
import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/licences.md"
COPYLEFT = re.compile(r"\b(A|L)?GPL|General Public License|MPL|Mozilla Public|EPL|CDDL|EUPL", re.IGNORECASE)
WORDS = {  # what is asked for, and for whom
    "": "with `pip install credo`",
    "arviz": "with the extra `arviz`",
    "notebooks": "with the extra `notebooks`",
    "docs": "with the extra `docs`",
    "test": "with the extra `test`",
    "bench": "with the extra `bench`",
}
HEAD = """# Licences of the dependencies

credo is under the Apache License 2.0. Its archives hold no code of another project; pip installs what follows.
`python docs/licences.py` writes this page from the metadata of the installed packages, on Linux. **Bold**: a direct
dependency, named in `setup.cfg`. A package stands where it is needed first; an extra lists what it brings in addition.

"""


COPYLEFT_HEAD = """## Copyleft

The Mozilla Public License (MPL) asks those who change and pass on its files to publish them; it asks nothing of
programs that use them. docutils, which builds the site, is public domain except for a few files; its mode for Emacs
is under the GPL.

"""


def plain(name: str) -> str:
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct() -> dict[str, list[str]]:
    """{extra: the names that setup.cfg asks for}; the extra "" stands for what every installation gets."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    return {extra: [plain(re.split(r"[<>=!~;\[ ]", line)[0]) for line in text.split()] for extra, text in lists.items()}


def needs(name: str) -> list[str]:
    """What a distribution requires here, without its own extras; nothing if it is not installed."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    return [plain(r.name) for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def licence(name: str) -> str | None:
    """The licence as the package states it: an expression, a classifier, or a line; None if it is not installed."""
    try:
        data = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    if expression := data.get("License-Expression"):
        return expression
    classifiers = [line.split(" :: ")[-1] for line in data.get_all("Classifier", []) if line.startswith("License ::")]
    named = [line for line in classifiers if line != "OSI Approved"]
    stated = (data.get("License") or "").strip().splitlines()
    return "; ".join(named) or (stated[0].strip() if stated else "see its files")


def section(asked: list[str], told: set[str], named: set[str]) -> list[tuple[str, str, str, bool]]:
    """(name, version, licence, direct) of what is asked for and of all that it brings, without what is told already."""
    found, queue = [], sorted(asked)
    while queue:
        name = queue.pop(0)
        if name in told or plain(name) == "credo":
            continue
        if (words := licence(name)) is None:
            if name in asked:
                sys.exit(f"{name} is not installed here: its licence is not known; see the top of docs/licences.py")
            continue  # not needed on this system
        told.add(name)
        found.append((name, metadata.version(name), words, name in named))
        queue += needs(name)
    return sorted(found)


def page() -> str:
    """The whole page."""
    told: set[str] = set()
    named = {name for names in direct().values() for name in names}
    text, copyleft = HEAD, []
    for extra, asked in sorted(direct().items(), key=lambda item: list(WORDS).index(item[0])):
        rows = section(asked, told, named)
        copyleft += [(name, words, extra) for name, _, words, _ in rows if COPYLEFT.search(words)]
        text += f"## Installed {WORDS[extra]}\n\n| package | version | licence |\n|---|---|---|\n"
        for name, version, words, bold in rows:
            text += f"| {f'**{name}**' if bold else name} | {version} | {words} |\n"
        text += "\n"
    text += COPYLEFT_HEAD
    text += "".join(f"- {name}: {words}, {WORDS[extra]}.\n" for name, words, extra in copyleft) or "None.\n"
    return text


def main() -> None:
    if "--check" in sys.argv:
        text = PAGE.read_text(encoding="utf-8")
        missing = [name for names in direct().values() for name in names if f"**{name}**" not in text]
        if missing:
            sys.exit(f"docs/licences.md lacks {', '.join(missing)}: run python docs/licences.py")
        return
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
