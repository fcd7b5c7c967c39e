"""Checks the built site, page by page: `python docs/check_site.py`, which looks at docs/_build/html.

Every link within the site leads to a file, and to an anchor that is there. Every picture has a text that says what it
shows, and less than 1 MB. Every page has a title. No page asks another server for a script, a style, a font or a
picture. Links to other sites cannot be followed without a network: `--external` lists them, and their form is checked.
"""

import re
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {  # {tag: the attribute whose file a browser loads at once}
    "img": "src",
    "script": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
LOADED_LINKS = {"stylesheet", "icon", "shortcut", "preload", "apple-touch-icon"}
LARGEST = 1_000_000  # bytes of a picture
FILE_NAME = re.compile(r"\S+\.(png|svg|jpe?g|gif|webp)", re.IGNORECASE)
STYLED = re.compile(r"""(?:url\(|@import\s+(?=["']))\s*["']?([^"')\s;]+)""")


class Page(HTMLParser):
    """What a page holds: anchors, links to click, files that a browser loads, pictures with their texts, its title."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.pictures: list[tuple[str, str | None]] = []
        self.title = ""
        self._open: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._open = tag if tag in ("title", "style") else None
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and LOADED_LINKS & set(given.get("rel", "").split()):
            self.loads.append(given.get("href", ""))
        if tag in LOADED and LOADED[tag] in given:
            self.loads.append(given[LOADED[tag]])
        if tag == "img":
            self.pictures.append((given.get("src", ""), given.get("alt")))
        self.loads += STYLED.findall(given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open == "title" and not self.title:
            self.title = data.strip()
        elif self._open == "style":
            self.loads += STYLED.findall(data)


def pages_of(site: Path) -> list[Path]:
    """The files of the pages, without templates among the files of the theme."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]


def problems(site: Path) -> list[str]:
    """What is wrong, a line each: "page: what". site: the folder of the built pages."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in pages_of(site)}
    if not pages:
        return [f"{site}: no page"]
    found: dict[Path, list[str]] = defaultdict(list)
    for path, page in pages.items():
        if not page.title or page.title.startswith("<no title>"):
            found[path].append("no title")
        for target in page.loads:
            found[path] += _load(site, path, target)
        for target in dict.fromkeys(page.links):
            found[path] += _link(pages, path, target)
        for source, text in page.pictures:
            found[path] += _weight(path, source)
            if not (text or "").strip() or FILE_NAME.fullmatch((text or "").strip()):
                found[path].append(f"picture {_short(source)}: its text is {text!r}, wanted what it shows")
    for path in sorted(site.rglob("*.css")):
        for target in STYLED.findall(path.read_text(encoding="utf-8", errors="replace")):
            found[path.resolve()] += _load(site, path.resolve(), target)
    root = site.resolve()
    return [f"{path.relative_to(root)}: {what}" for path, lines in found.items() for what in lines]


def external(site: Path) -> dict[str, list[str]]:
    """{address of another site: the pages that link to it}."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in pages_of(site):
        for target in dict.fromkeys(Page(path.read_text(encoding="utf-8")).links):
            if urlsplit(target).scheme in ("http", "https"):
                found[target].append(str(path.relative_to(site)))
    return dict(found)


def _load(site: Path, page: Path, target: str) -> list[str]:
    """What is wrong with a file that the browser loads with a page or a style."""
    parts = urlsplit(target)
    if parts.scheme == "data":
        return []
    if parts.scheme or parts.netloc:
        return [f"loads {_short(target)} from another server"]
    return (
        [] if not parts.path or _file(page, parts.path).is_file() else [f"loads {_short(target)}, which is not there"]
    )


def _weight(page: Path, source: str) -> list[str]:
    """What is wrong with the size of a picture in a file."""
    file = _file(page, urlsplit(source).path)
    if urlsplit(source).scheme or not file.is_file() or file.stat().st_size <= LARGEST:
        return []
    size = file.stat().st_size / 1e6
    return [f"picture {_short(source)} has {size:.1f} MB; draw what has many points with rasterized=True"]


def _link(pages: dict[Path, Page], page: Path, target: str) -> list[str]:
    """What is wrong with a link to click."""
    parts = urlsplit(target)
    if parts.scheme in ("mailto", "javascript"):
        return []
    if parts.scheme or parts.netloc:
        sound = parts.scheme in ("http", "https") and "." in parts.netloc and not re.search(r"\s", target)
        return [] if sound else [f"link {target!r} is no address of a site"]
    if target == "":
        return ["a link without a target"]
    path = _file(page, parts.path) if parts.path else page
    if not path.is_file():
        return [f"link {target}: no such file"]
    anchor = unquote(parts.fragment)
    if anchor and path in pages and anchor not in pages[path].anchors:
        return [f"link {target}: no such place on that page"]
    return []


def _file(page: Path, path: str) -> Path:
    file = (page.parent / unquote(path)).resolve()
    return file / "index.html" if file.is_dir() else file


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def main(arguments: list[str]) -> int:
    site = Path(next((argument for argument in arguments if not argument.startswith("-")), "docs/_build/html"))
    if "--external" in arguments:
        for address, pages in sorted(external(site).items()):
            print(f"{address}  ({', '.join(pages[:3])}{', ...' if len(pages) > 3 else ''})")
    found = problems(site)
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    count = len(pages_of(site))
    print(f"{count} pages, {len(external(site))} links to other sites, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
