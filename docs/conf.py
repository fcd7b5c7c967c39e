"""How Sphinx builds the site: `make docs`. Pages are Markdown (MyST).

Notebooks, and pages with `{code-cell}` blocks, are executed, each once, and kept in a cache. Its folder is named after
the digest of the code of credo: a change of that code executes every page again, a change of a page only that page.
"""

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from jupyter_cache import get_cache

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# The formulas are drawn by MathJax's own files, which this package holds, so that the site needs no network.
MATHJAX = Path(importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations[0]) / "static"


def digest() -> str:
    """Sixteen hexadecimal digits that change with the code of credo."""
    folders = ("credo", "models", "guides", "inference")
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".cpp"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def copy_notebooks() -> None:
    """Copies notebooks/ into the folder of the pages, where Sphinx wants them; the originals stay without outputs."""
    target = DOCS / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "notebooks", target, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))


# Read by every kernel: pictures are vectors, and no line about sockets, which stay on this machine, is printed.
KERNEL = """
c = get_config()
c.InlineBackend.figure_formats = {"svg"}
c.IPKernelApp.log_level = "ERROR"
c.HistoryManager.enabled = False
"""


def set_kernels() -> None:
    """Writes the settings of the kernels that execute pages, and has the kernels read these and no user's."""
    profile = DOCS / "_build" / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(KERNEL)
    os.environ["IPYTHONDIR"] = str(profile.parent)


def made_cache() -> str:
    """The folder of executed pages and its database, made here: of two readers that make it at once one fails."""
    folder = str(DOCS / "_build" / "executed" / digest())
    get_cache(folder).db.dispose()
    return folder


copy_notebooks()
set_kernels()
sys.path.insert(0, str(DOCS))

project = "credo"
author = "the credo authors"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_click",
    "docstrings",  # docs/docstrings.py
    "links",  # docs/links.py
]
exclude_patterns = ["_build"]
default_role = "code"  # `x` in the help of a command
smartquotes = False  # "mean_field" keeps the quotes that Python reads
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_cache_path = made_cache()
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # widgets would come from another server

autosummary_generate = False  # the pages of docs/reference/ say what they show, in their order
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

html_theme = "pydata_sphinx_theme"
html_title = "credo"
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["credo.css"]
html_favicon = "_static/favicon.svg"
mathjax_path = "mathjax/tex-chtml.js"
html_show_sourcelink = False
# Pages that are alone in their section have no list of the section at the left.
html_sidebars = {page.stem: [] for page in DOCS.glob("*.md") if page.stem not in ("about", "notebooks")}
html_theme_options = {
    "logo": {
        "text": "credo",
        "image_light": "_static/favicon.svg",
        "image_dark": "_static/favicon.svg",
        "alt_text": "credo, to the start page",
    },
    "show_prev_next": False,
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
copybutton_exclude = ".linenos, .gp, .go"
