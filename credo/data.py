"""Data sets for more than the built-in examples.

    x, y, x_test, y_test = credo.data.mnist()

`digits` ships with scikit-learn. The other data sets are searched for in this order:

1. in the folder that the environment variable CREDO_DATA names: `mnist.npz`, `fashion_mnist.npz` (x_train and x_test,
   uint8, shape (N, 28, 28) or (N, 784); y_train and y_test, shape (N,)), `cifar10_jpeg.npz` (see `cifar10`),
   `uci/NAME.npz` (X, y, and index_train and index_test of shape (splits, rows));
2. in scikit-learn's cache, `~/scikit_learn_data` or the folder that SCIKIT_LEARN_DATA names;
3. on openml.org, through scikit-learn, which checks the download and keeps it. Every call parses it anew, which for
   CIFAR-10 takes about 20 s and 4 GiB of memory. The splits of the UCI sets cannot be downloaded.

Data from OpenML must have its labels in the published order: training rows first, then the test rows.
"""

import os
import zlib
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from credo.models._digits import Digits, digits

__all__ = ["Digits", "Split", "cifar10", "digits", "fashion_mnist", "mnist", "uci"]


class Split(NamedTuple):
    """Training rows x, y and held-out rows x_test, y_test; rows come first, real numbers have torch's default dtype.

    x, x_test: shape (N, *shape of an input). y, y_test: shape (N,), classes as int64, or numbers in their units.

    >>> credo.data.Split._fields
    ('x', 'y', 'x_test', 'y_test')
    """

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


class OpenML(NamedTuple):
    """A data set on OpenML: its id, its number of training rows, and the CRC-32 of all labels as bytes."""

    id: int
    train: int
    labels: int


MNIST = OpenML(554, 60_000, 0xA7DB7A22)
FASHION_MNIST = OpenML(40996, 60_000, 0xF1793760)
CIFAR10 = OpenML(40927, 50_000, 0x5B5D5001)


def mnist(shape: str = "flat") -> Split:
    """MNIST, handwritten digits (LeCun et al. 1998).

    shape: "flat" gives rows of 784 pixels for linear layers, "image" images for convolutions, (1, 28, 28).
    Returns x: shape (60000, 784) or (60000, 1, 28, 28), pixels from 0 to 1; y: shape (60000,), the digit; x_test,
    y_test: 10,000 held-out rows. Raises OSError if the data set is found nowhere, ValueError for a file that does not
    hold it, and for another shape.

    >>> x, y, x_test, y_test = credo.data.mnist()  # doctest: +SKIP
    >>> x.shape, x_test.shape                      # doctest: +SKIP
    (torch.Size([60000, 784]), torch.Size([10000, 784]))
    >>> credo.data.mnist(shape="image").x.shape    # doctest: +SKIP
    torch.Size([60000, 1, 28, 28])
    """
    return _images("mnist.npz", MNIST, _shape(shape, 1, 28))


def fashion_mnist(shape: str = "flat") -> Split:
    """Fashion-MNIST, images of ten kinds of clothes (Xiao et al. 2017); `shape`, shapes and errors as for `mnist`.

    A common out-of-distribution set for models of MNIST.

    >>> credo.data.fashion_mnist().x.shape  # doctest: +SKIP
    torch.Size([60000, 784])
    """
    return _images("fashion_mnist.npz", FASHION_MNIST, _shape(shape, 1, 28))


def cifar10(shape: str = "image") -> Split:
    """CIFAR-10, photographs of ten kinds of things (Krizhevsky 2009).

    shape: "image", (3, 32, 32), for convolutions, or "flat" for rows of 3,072 numbers, all of red first.
    Returns x: shape (50000, 3, 32, 32), red first, pixels from 0 to 1; y: shape (50000,), classes from 0 to 9; x_test,
    y_test: 10,000 held-out rows. `cifar10_jpeg.npz` holds lossy JPEGs, a few levels of 255 away from the originals;
    OpenML has the originals. All JPEGs share one header, jpeg_header (uint8); image i continues with
    scan_data[offsets[i]:offsets[i + 1]] (uint8; int, one more than images), training images first; y_train, y_test:
    shape (N,). Raises OSError if the data set is found nowhere, ValueError for a file that does not hold it or another
    shape, and ImportError without pillow.

    >>> credo.data.cifar10().x.shape  # doctest: +SKIP
    torch.Size([50000, 3, 32, 32])
    """
    return _images("cifar10_jpeg.npz", CIFAR10, _shape(shape, 3, 32))


def uci(name: str, split: int = 0) -> Split:
    """A regression data set of the UCI repository, not standardised.

    name: such as "concrete". split: which of the standard partitions into training and test rows (Hernández-Lobato and
        Adams 2015), from 0; there are 20 partitions, for protein-tertiary-structure 5.
    Returns x: shape (N, D); y: shape (N,); x_test, y_test: the held-out rows.
    Raises OSError without the files, ValueError for a name or a split that does not exist.

    >>> x, y, x_test, y_test = credo.data.uci("concrete", split=3)  # doctest: +SKIP
    """
    folder, reason = _find("uci")
    names = sorted(file.stem for file in folder.glob("*.npz")) if folder else []
    if folder is None or not names:
        raise FileNotFoundError(
            f"uci: CREDO_DATA {reason or f'is set, and there is no .npz file in {folder}'}. These sets with their "
            f"standard splits are neither in scikit-learn's cache nor to be downloaded from OpenML: set CREDO_DATA to "
            f"a folder that holds uci/{name}.npz"
        )
    path = folder / f"{name}.npz"
    if name not in names:
        raise ValueError(f"name: got {name!r}, and there is no file {path}; wanted one of {names}")
    x, y, train, test = _arrays(path, "X", "y", "index_train", "index_test")
    fits = x.ndim == 2 and y.shape == x.shape[:1] and train.ndim == test.ndim == 2 and len(train) == len(test)
    if not fits or any(
        not i.size or i.dtype.kind not in "iu" or i.min() < 0 or i.max() >= len(x) for i in (train, test)
    ):
        raise ValueError(
            f"{path}: got X {x.shape}, y {y.shape}, index_train {train.shape}, index_test {test.shape}; wanted (N, D), "
            f"(N,) and whole numbers from 0 to N - 1, (splits, rows)"
        )
    if not isinstance(split, int) or not 0 <= split < len(train):
        raise ValueError(f"split: got {split!r}, wanted 0 to {len(train) - 1}: {name} has {len(train)} splits")
    rows = [torch.tensor(part, dtype=torch.get_default_dtype()) for part in (x, y)]
    return Split(*(part[torch.tensor(i[split], dtype=torch.int64)] for i in (train, test) for part in rows))


def _shape(shape: str, channels: int, side: int) -> tuple[int, ...]:
    """The shape of an image as a layer takes it."""
    shapes: dict[Any, tuple[int, ...]] = {"flat": (channels * side**2,), "image": (channels, side, side)}
    if not isinstance(shape, str) or shape not in shapes:
        wanted = ", ".join(f"{name!r} for rows of shape {rows}" for name, rows in shapes.items())
        raise ValueError(f"shape: got {shape!r}, wanted {wanted}")
    return shapes[shape]


def _images(file: str, openml: OpenML, shape: tuple[int, ...]) -> Split:
    path, reason = _find(file)
    if path is None or not path.is_file():
        arrays, path = _fetch(file, openml, reason or f"is set, and there is no file {path}"), None
    else:
        arrays = _decoded(path) if "jpeg" in file else _arrays(path, "x_train", "y_train", "x_test", "y_test")
    parts = []
    for x, y in (arrays[:2], arrays[2:]):
        fits = x.ndim > 1 and x[:1].size == np.prod(shape) and y.shape == x.shape[:1]
        if not fits or x.dtype != np.uint8 or y.dtype.kind not in "iu":
            raise ValueError(
                f"{path or 'OpenML'}: got images {x.shape} {x.dtype} with labels {y.shape} {y.dtype}; wanted uint8 of "
                f"shape (N, ...), {np.prod(shape)} numbers an image, and N whole numbers"
            )
        parts += [torch.from_numpy(x).reshape(-1, *shape).to(torch.get_default_dtype()).div_(255)]
        parts += [torch.from_numpy(y.astype(np.int64))]
    return Split(*parts)


def _find(file: str) -> tuple[Path | None, str]:
    """The path in the folder CREDO_DATA, which need not exist; or None, and why there is none."""
    folder = os.environ.get("CREDO_DATA")
    if not folder:
        return None, "is not set"
    path = Path(folder).expanduser() / file
    if not Path(folder).expanduser().is_dir():
        raise FileNotFoundError(
            f"CREDO_DATA: there is no folder {folder!r}, so no {path}; correct the environment variable, or unset it "
            f"to use scikit-learn's cache or a download from OpenML"
        )
    return path, ""


def _arrays(path: Path, *names: str) -> list[np.ndarray]:
    """These arrays of an .npz file. Pickles are refused: they could run anything."""
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is no zip archive")
            missing = sorted(set(names) - set(archive.files))
            if missing:
                raise ValueError(f"it lacks {missing} and holds {sorted(archive.files)}")
            return [archive[name] for name in names]
    # Whatever a damaged file makes zipfile, zlib and numpy raise, it comes to the same.
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as an .npz file with {list(names)}: {error}; replace it") from error


def _decoded(path: Path) -> list[np.ndarray]:
    """The JPEGs as uint8 of shape (N, 3, 32, 32): the header they share and their own data, joined again."""
    head, data, offsets, *labels = _arrays(path, "jpeg_header", "scan_data", "offsets", "y_train", "y_test")
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"{path} holds JPEGs, and pillow, which decodes them, is missing: pip install pillow"
        ) from error
    n = labels[0].size
    if len(offsets) != n + labels[1].size + 1:
        raise ValueError(f"{path}: got {len(offsets)} offsets for {n + labels[1].size} labels; wanted one more")
    header = head.tobytes()
    pixels = np.empty((len(offsets) - 1, 3, 32, 32), np.uint8)
    for i, (start, end) in enumerate(pairwise(offsets)):
        try:
            image = Image.open(BytesIO(header + data[start:end].tobytes())).convert("RGB")
            pixels[i] = np.asarray(image).transpose(2, 0, 1)
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{path}: image {i} is no JPEG of 32 by 32 pixels: {error}; replace the file") from error
    return [pixels[:n], labels[0], pixels[n:], labels[1]]


def _fetch(file: str, openml: OpenML, reason: str) -> list[np.ndarray]:
    """From scikit-learn's cache or OpenML. The error names all three ways, for all three have failed by then."""
    from sklearn import datasets

    try:
        # dtype: with the one it asks for itself, scikit-learn 1.9 trips over pandas 3.1 (scikit-learn issue 34892).
        bunch: Any = datasets.fetch_openml(
            data_id=openml.id, as_frame=False, parser="pandas", read_csv_kwargs={"dtype": None}
        )
        x, y = np.asarray(bunch.data), np.array([int(str(label).strip("'")) for label in bunch.target])
        if x.min() < 0 or x.max() != 255:
            raise ValueError(f"the pixels go from {x.min()} to {x.max()}, wanted 0 to 255")
        x, y = x.astype(np.uint8), y.astype(np.uint8)
        if zlib.crc32(y.tobytes()) != openml.labels:
            raise ValueError(f"the {len(y)} labels are not those of the published set, or in another order")
    # A download fails in more ways than OSError: half a gzip file, half a response, a warning turned into an error.
    except Exception as error:
        home = os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")
        raise OSError(
            f"{file.removesuffix('.npz').removesuffix('_jpeg')}: found in none of three places.\n"
            f"  CREDO_DATA {reason}.\n"
            f"  scikit-learn's cache {home}/openml, and past it the download of data set {openml.id} from openml.org: "
            f"{type(error).__name__}: {error}\n"
            f"Set CREDO_DATA to a folder that holds {file}, or copy the cache of a machine that has it, or connect "
            f"this one to the internet. credo.data.digits() needs none of these."
        ) from error
    n = openml.train
    return [x[:n], y[:n], x[n:], y[n:]]
