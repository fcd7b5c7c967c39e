"""Lets every folder find an editable install, also the folder above a clone that is called credo.

Python takes that folder for an empty (namespace) package, and looks at the finder of an editable install after it. A
regular package anywhere on sys.path comes before both: this puts a link to credo/ into a folder of its own in
site-packages, and that folder on sys.path. `make` runs it with the Python of the environment.
"""

import sysconfig
from pathlib import Path

site = Path(sysconfig.get_path("purelib"))
link = site / "credo_link" / "credo"
link.parent.mkdir(exist_ok=True)
link.unlink(missing_ok=True)
link.symlink_to(Path(__file__).resolve().parents[1] / "credo")
(site / "credo_link.pth").write_text("credo_link\n")
