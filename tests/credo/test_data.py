"""Data sets: from a folder of tiny files, from scikit-learn's cache, from a pretended download, and the real ones."""

import gzip
import hashlib
import io
import json
import os
import pickle
import sys
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image
from sklearn.utils import Bunch

from credo import data

SETS = [(data.mnist, "mnist"), (data.fashion_mnist, "fashion_mnist")]
REAL = os.environ.get("CREDO_DATA")


class Fetched(Exception):
    """Someone asked for a download."""


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No folder, an empty cache, and no network: a download fails as it does without one."""

    def urlopen(request, *args, **keywords):
        raise URLError("no network in the tests")

    monkeypatch.delenv("CREDO_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", urlopen)
    monkeypatch.setattr("sklearn.datasets._openml.time.sleep", lambda seconds: None)


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """An empty folder CREDO_DATA; whoever asks for a download fails."""

    def fetch_openml(**keywords):
        raise Fetched(keywords)

    path = tmp_path / "data"
    (path / "uci").mkdir(parents=True)
    monkeypatch.setenv("CREDO_DATA", str(path))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    return path


def grey(n: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (n, 28, 28)).astype(np.uint8)


def arrays(n: int = 5, n_test: int = 3) -> dict[str, np.ndarray]:
    labels = np.arange(n + n_test).astype(np.uint8)
    return {"x_train": grey(n), "y_train": labels[:n], "x_test": grey(n_test, 1), "y_test": labels[n:]}


def test_digits_are_those_of_scikit_learn():
    got = data.digits()
    assert got._fields == data.Split._fields
    assert (got.x.shape, got.x_test.shape) == ((1437, 64), (360, 64))
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    rows = sorted(zip((pixels / 16).tolist(), labels.tolist(), strict=True))
    x, y = torch.cat([got.x, got.x_test]), torch.cat([got.y, got.y_test])
    assert sorted(zip(x.tolist(), y.tolist(), strict=True)) == rows


@pytest.mark.parametrize(("load", "image"), [(data.mnist, (1, 28, 28)), (data.fashion_mnist, (1, 28, 28))])
def test_rows_come_flat_or_as_images(folder, load, image):
    np.savez(folder / f"{load.__name__}.npz", **arrays())
    flat, images = load(shape="flat"), load(shape="image")
    assert flat.x.shape == (5, 784) and images.x.shape == (5, *image) and images.x_test.shape == (3, *image)
    for a, b in ((flat.x, images.x), (flat.x_test, images.x_test)):
        assert torch.equal(a.reshape(b.shape), b)
    assert torch.equal(load().x, flat.x) and torch.equal(flat.y, images.y)


def test_photographs_and_digits_come_in_both_shapes_too(folder):
    write_cifar(folder, [red_above_blue_left()] * 2)
    flat, images = data.cifar10(shape="flat"), data.cifar10()
    assert flat.x.shape == (1, 3072) and torch.equal(flat.x, images.x.flatten(1))
    assert flat.x[0, :512].mean() > 0.9 and flat.x[0, 512:2048].mean() < 0.1  # red first, row by row
    digits = data.digits(shape="image")
    assert digits.x.shape == (1437, 1, 8, 8) and torch.equal(digits.x_test.flatten(1), data.digits().x_test)


@pytest.mark.parametrize("load", [data.mnist, data.fashion_mnist, data.cifar10, data.digits])
@pytest.mark.parametrize("shape", ["images", None, (28, 28)], ids=str)
def test_another_shape_is_refused(load, shape):
    with pytest.raises(ValueError, match=r"shape: got .*, wanted 'flat' for rows of shape \(\d+,\), 'image' for"):
        load(shape=shape)


# From a folder


@pytest.mark.parametrize(("load", "name"), SETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_from_the_folder(folder, load, name, dtype):
    torch.set_default_dtype(dtype)
    stored = arrays()
    np.savez(folder / f"{name}.npz", **stored)
    got = load()
    assert got._fields == ("x", "y", "x_test", "y_test")
    assert (got.x.shape, got.x_test.shape) == ((5, 784), (3, 784))
    assert got.x.dtype == got.x_test.dtype == dtype
    assert got.y.dtype == got.y_test.dtype == torch.int64
    assert (got.y.tolist(), got.y_test.tolist()) == ([0, 1, 2, 3, 4], [5, 6, 7])
    assert got.x[2, 28 * 3 + 4].item() == pytest.approx(stored["x_train"][2, 3, 4] / 255)
    assert torch.equal((got.x_test * 255).round().to(torch.uint8).view(3, 28, 28), torch.tensor(stored["x_test"]))


def test_the_folder_may_start_at_home(folder, monkeypatch):
    np.savez(folder / "mnist.npz", **arrays())
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    monkeypatch.setenv("CREDO_DATA", "~/data")
    assert len(data.mnist().x) == 5


def test_rows_may_be_flat(folder):
    stored = arrays()
    np.savez(folder / "mnist.npz", **stored)
    square = data.mnist()
    np.savez(folder / "mnist.npz", **{k: v.reshape(len(v), -1) if "x" in k else v for k, v in stored.items()})
    assert all(torch.equal(a, b) for a, b in zip(square, data.mnist(), strict=True))


def jpegs(images: list[Image.Image]) -> tuple[bytes, list[bytes]]:
    """Each image as the header that all share and its own scan; the header ends with the segment FF DA."""
    files = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=75, subsampling="4:2:0")
        files.append(file.getvalue())
    start = files[0].index(b"\xff\xda") + 2
    end = start + int.from_bytes(files[0][start : start + 2], "big")
    assert {file[:end] for file in files} == {files[0][:end]}
    return files[0][:end], [file[end:] for file in files]


def write_cifar(path: Path, images: list[Image.Image], n_test: int = 1, **changed: np.ndarray) -> None:
    header, scans = jpegs(images)
    labels = np.arange(len(images)).astype(np.uint8)
    stored = {
        "jpeg_header": np.frombuffer(header, np.uint8),
        "scan_data": np.frombuffer(b"".join(scans), np.uint8),
        "offsets": np.cumsum([0, *map(len, scans)]).astype(np.uint32),
        "y_train": labels[:-n_test],
        "y_test": labels[-n_test:],
    }
    np.savez(path / "cifar10_jpeg.npz", **{**stored, **changed})


def red_above_blue_left() -> Image.Image:
    """Red in the upper half; blue in the left half."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :, 0] = 255
    pixels[:, :16, 2] = 255
    return Image.fromarray(pixels)


def test_jpegs_are_decoded_into_channels_rows_and_columns(folder):
    plain = [Image.new("RGB", (32, 32), color) for color in ((255, 0, 0), (0, 255, 0), (30, 60, 90))]
    write_cifar(folder, [*plain, red_above_blue_left()])
    got = data.cifar10()
    assert (got.x.shape, got.x_test.shape) == ((3, 3, 32, 32), (1, 3, 32, 32))
    assert (got.y.tolist(), got.y_test.tolist()) == ([0, 1, 2], [3])
    assert got.y.dtype == torch.int64
    colors = torch.tensor([[255, 0, 0], [0, 255, 0], [30, 60, 90]]) / 255
    assert (got.x - colors[:, :, None, None]).abs().max() < 3 / 255
    (red, green, blue), inner = got.x_test[0], slice(4, 12)
    assert red[inner].mean() > 0.9 and red[20:28].mean() < 0.1
    assert blue[:, inner].mean() > 0.9 and blue[:, 20:28].mean() < 0.1
    assert green.mean() < 0.1


def test_jpegs_that_are_none(folder):
    images = [Image.new("RGB", (32, 32), (i, i, i)) for i in range(3)]
    write_cifar(folder, images, offsets=np.array([0, 10]))
    with pytest.raises(ValueError, match=r"cifar10_jpeg\.npz: got 2 offsets for 3 labels; wanted one more"):
        data.cifar10()
    write_cifar(folder, images, jpeg_header=np.zeros(600, np.uint8))
    with pytest.raises(ValueError, match=r"cifar10_jpeg\.npz: image 0 is no JPEG"):
        data.cifar10()
    write_cifar(folder, [Image.new("RGB", (16, 16))] * 3)
    with pytest.raises(ValueError, match="image 0 is no JPEG of 32 by 32"):
        data.cifar10()


def test_without_pillow(folder, monkeypatch):
    write_cifar(folder, [Image.new("RGB", (32, 32))] * 2)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"cifar10_jpeg\.npz holds JPEGs.*pip install pillow"):
        data.cifar10()


def write_uci(path: Path, name: str = "tiny", **changed: np.ndarray) -> None:
    stored = {
        "X": np.arange(12.0).reshape(6, 2),
        "y": np.arange(6.0) * 100,
        "index_train": np.array([[0, 1, 2, 3], [5, 4, 3, 2]], np.int32),
        "index_test": np.array([[4, 5], [1, 0]], np.int32),
    }
    np.savez(path / "uci" / f"{name}.npz", **{**stored, **changed})


def test_uci_gives_the_rows_of_a_split_as_they_are(folder):
    write_uci(folder)
    first, second = data.uci("tiny"), data.uci("tiny", 1)
    assert first.x.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert first.y.tolist() == [0, 100, 200, 300]
    assert first.x_test.tolist() == [[8, 9], [10, 11]]
    assert first.y_test.tolist() == [400, 500]
    assert second.x.tolist() == [[10, 11], [8, 9], [6, 7], [4, 5]]
    assert second.y_test.tolist() == [100, 0]
    assert {part.dtype for part in first} == {torch.float32}
    torch.set_default_dtype(torch.float64)
    assert {part.dtype for part in data.uci("tiny")} == {torch.float64}


def test_uci_says_which_names_and_splits_there_are(folder):
    write_uci(folder, "b")
    write_uci(folder, "a")
    for wrong in ("c", "../mnist"):
        with pytest.raises(ValueError, match=rf"name: got '{wrong}'.*{wrong}\.npz; wanted one of \['a', 'b'\]"):
            data.uci(wrong)
    for split in (2, -1, 0.5):
        with pytest.raises(ValueError, match=f"split: got {split}, wanted 0 to 1: a has 2 splits"):
            data.uci("a", split)


@pytest.mark.parametrize(
    "changed",
    [
        {"y": np.zeros(5)},
        {"X": np.zeros(6)},
        {"index_test": np.array([[4, 6], [0, 1]])},
        {"index_test": np.array([[4, -1], [0, 1]])},
        {"index_test": np.array([[0.0], [1.0]])},
        {"index_test": np.array([[0]])},
        {"index_train": np.zeros((2, 0), int)},
    ],
)
def test_uci_refuses_arrays_that_do_not_fit(folder, changed):
    write_uci(folder, **changed)
    with pytest.raises(ValueError, match=r"tiny\.npz: got X .* wanted \(N, D\)"):
        data.uci("tiny")


def test_uci_has_no_other_way(folder, monkeypatch):
    with pytest.raises(OSError, match=r"no \.npz file in .*uci.*nor to be downloaded.*holds uci/yacht\.npz"):
        data.uci("yacht")
    monkeypatch.delenv("CREDO_DATA")
    with pytest.raises(OSError, match=r"CREDO_DATA is not set.*nor to be downloaded"):
        data.uci("yacht")


@pytest.mark.parametrize("load", [data.mnist, data.fashion_mnist, data.cifar10, lambda: data.uci("yacht")])
def test_a_folder_that_does_not_exist(folder, monkeypatch, load):
    monkeypatch.setenv("CREDO_DATA", str(folder / "nowhere"))
    with pytest.raises(
        OSError, match=r"CREDO_DATA: there is no folder '.*nowhere', so no .*nowhere.(\w+\.npz|uci);.*unset"
    ):
        load()


def damaged(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "text":
        return b"<html>404</html>"
    if kind == "empty":
        return b""
    if kind == "pickle":
        return pickle.dumps(arrays())
    if kind == "array":
        np.save(file, grey(3))
        return file.getvalue()
    np.savez_compressed(file, **arrays())
    whole = file.getvalue()
    return whole[:1000] if kind == "cut" else whole[:500] + bytes(b ^ 255 for b in whole[500:600]) + whole[600:]


@pytest.mark.parametrize("kind", ["text", "empty", "pickle", "array", "cut", "flipped"])
def test_a_file_that_is_no_npz(folder, kind):
    (folder / "mnist.npz").write_bytes(damaged(kind))
    with pytest.raises(ValueError, match=r"mnist\.npz: cannot be read as an \.npz file with \['x_train'.*; replace it"):
        data.mnist()


def test_a_pickle_inside_an_npz_is_not_run(folder):
    np.savez(folder / "mnist.npz", **{**arrays(), "x_test": np.array([{}], dtype=object)}, allow_pickle=True)
    with pytest.raises(ValueError, match=r"mnist\.npz: cannot be read.*allow_pickle=False"):
        data.mnist()


def test_an_npz_of_something_else(folder):
    np.savez(folder / "mnist.npz", images=grey(3))
    with pytest.raises(ValueError, match=r"it lacks \['x_test', .*holds \['images'\]"):
        data.mnist()


@pytest.mark.parametrize(
    "changed",
    [
        {"x_train": grey(5) / 255},
        {"x_train": grey(4)},
        {"x_test": grey(3)[:, :27]},
        {"y_test": np.array([0.0, 1.0, 2.0])},
        {"y_test": np.eye(3, dtype=int)},
        {"x_test": np.array(3, np.uint8)},
    ],
)
def test_images_that_do_not_fit(folder, changed):
    np.savez(folder / "mnist.npz", **{**arrays(), **changed})
    with pytest.raises(ValueError, match=r"mnist\.npz: got images .*wanted uint8 of shape \(N, \.\.\.\), 784 numbers"):
        data.mnist()


# From scikit-learn's cache and from OpenML


def published(monkeypatch, name: str, labels: np.ndarray, train: int) -> data.OpenML:
    """Take these labels for those of the published set, so that a test needs no 70,000 rows."""
    wanted = getattr(data, name)._replace(train=train, labels=zlib.crc32(labels.astype(np.uint8).tobytes()))
    monkeypatch.setattr(data, name, wanted)
    return wanted


def pixels(n: int, size: int) -> np.ndarray:
    x = np.random.RandomState(2).randint(0, 256, (n, size))
    x[0, 0] = 255
    return x


@pytest.mark.parametrize(
    ("load", "name", "shape", "number"),
    [
        (data.mnist, "MNIST", (784,), 554),
        (data.fashion_mnist, "FASHION_MNIST", (784,), 40996),
        (data.cifar10, "CIFAR10", (3, 32, 32), 40927),
    ],
)
@pytest.mark.parametrize(
    "labels", [lambda y: y, lambda y: y.astype(str).astype(object), lambda y: [f"'{c}'" for c in y]]
)
def test_a_download(monkeypatch, load, name, shape, number, labels):
    """Labels come as numbers, as text or in quotes, as the parser likes; training rows first."""
    x, y = pixels(6, int(np.prod(shape))), np.array([3, 1, 4, 1, 5, 9])
    published(monkeypatch, name, y, train=4)
    asked = []

    def fetch_openml(**keywords):
        asked.append(keywords)
        return Bunch(data=x.astype(float), target=labels(y))

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    got = load()
    assert [(call["data_id"], call["as_frame"]) for call in asked] == [(number, False)]
    assert (got.y.tolist(), got.y_test.tolist()) == ([3, 1, 4, 1], [5, 9])
    assert (got.y.dtype, got.x.dtype) == (torch.int64, torch.float32)
    assert (got.x.shape, got.x_test.shape) == ((4, *shape), (2, *shape))
    assert torch.equal(torch.cat([got.x, got.x_test]), torch.tensor(x / 255, dtype=torch.float32).view(6, *shape))


def test_a_folder_without_the_file_goes_on_to_the_download(folder, monkeypatch):
    x, y = pixels(3, 784), np.array([0, 1, 2])
    published(monkeypatch, "MNIST", y, train=2)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **keywords: Bunch(data=x, target=y))
    assert data.mnist().y.tolist() == [0, 1]
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **keywords: Bunch(data=x[:, :783], target=y))
    with pytest.raises(ValueError, match=r"^OpenML: got images \(2, 783\)"):
        data.mnist()


def test_a_download_in_another_order_or_scale_is_refused(monkeypatch):
    x, y = pixels(3, 784), np.array([0, 1, 2])
    published(monkeypatch, "MNIST", y, train=2)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **keywords: Bunch(data=x, target=y[::-1]))
    with pytest.raises(OSError, match="the 3 labels are not those of the published set, or in another order"):
        data.mnist()
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **keywords: Bunch(data=x / 255, target=y))
    with pytest.raises(OSError, match=r"the pixels go from 0.* to 1\.0, wanted 0 to 255"):
        data.mnist()


def fill_cache(home: Path, number: int, x: np.ndarray, y: np.ndarray) -> None:
    """What scikit-learn keeps of a dense OpenML set: three answers in JSON, and the ARFF file."""
    names = [f"pixel{i}" for i in range(x.shape[1])]
    head = ["@RELATION tiny", *(f"@ATTRIBUTE {name} INTEGER" for name in names), "@ATTRIBUTE class {0,1,2}", "@DATA"]
    arff = "\n".join([*head, *(",".join(map(str, [*row, label])) for row, label in zip(x, y, strict=True))]) + "\n"
    flags = {"is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
    features = [{"name": name, "data_type": "numeric", "is_target": "false", **flags} for name in names]
    features.append(
        {"name": "class", "data_type": "nominal", "is_target": "true", "nominal_value": ["0", "1", "2"], **flags}
    )
    description = {
        "id": str(number),
        "name": "tiny",
        "version": "1",
        "description": "Made up.",
        "status": "active",
        "format": "ARFF",
        "url": "https://www.openml.org/data/v1/download/1/tiny.arff",
        "md5_checksum": hashlib.md5(arff.encode()).hexdigest(),
    }
    api = "api/v1/json/data"
    files = {
        f"{api}/{number}": json.dumps({"data_set_description": description}),
        f"{api}/features/{number}": json.dumps({"data_features": {"feature": features}}),
        f"{api}/qualities/{number}": json.dumps(
            {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": str(len(x))}]}}
        ),
        "data/v1/download/1/tiny.arff": arff,
    }
    for file, text in files.items():
        path = home / "openml" / "openml.org" / f"{file}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))


def test_scikit_learns_cache_is_read_without_a_network(monkeypatch, tmp_path):
    """By scikit-learn's own fetch_openml, with whichever pandas is here."""
    x, y = pixels(5, 784), np.array([2, 0, 1, 1, 0])
    fill_cache(tmp_path / "cache", published(monkeypatch, "MNIST", y, train=3).id, x, y)
    got = data.mnist()
    assert (got.y.tolist(), got.y_test.tolist()) == ([2, 0, 1], [1, 0])
    assert torch.equal(torch.cat([got.x, got.x_test]), torch.tensor(x / 255, dtype=torch.float32))


@pytest.mark.filterwarnings("ignore:A network error occurred while downloading:UserWarning")
def test_a_cache_whose_checksum_is_wrong_is_thrown_away(monkeypatch, tmp_path):
    x, y = pixels(5, 784), np.array([2, 0, 1, 1, 0])
    fill_cache(tmp_path / "cache", published(monkeypatch, "MNIST", y, train=3).id, x, y)
    path = tmp_path / "cache/openml/openml.org/data/v1/download/1/tiny.arff.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-2]))
    with pytest.warns(RuntimeWarning, match="Invalid cache"), pytest.raises(OSError, match="URLError"):
        data.mnist()


@pytest.mark.filterwarnings("ignore:A network error occurred while downloading:UserWarning")
@pytest.mark.parametrize(
    ("load", "name", "file"),
    [(load, name, f"{name}.npz") for load, name in SETS] + [(data.cifar10, "cifar10", "cifar10_jpeg.npz")],
)
@pytest.mark.parametrize("set_", [True, False])
def test_the_error_names_all_three_ways(monkeypatch, tmp_path, load, name, file, set_):
    if set_:
        monkeypatch.setenv("CREDO_DATA", str(tmp_path))
    with pytest.raises(OSError) as caught:
        load()
    said = str(caught.value)
    assert said.startswith(f"{name}: found in none of three places")
    assert (
        f"CREDO_DATA is set, and there is no file {tmp_path / file}" in said
        if set_
        else "CREDO_DATA is not set" in said
    )
    assert f"scikit-learn's cache {tmp_path / 'cache'}/openml" in said
    assert "openml.org: URLError: <urlopen error no network in the tests>" in said
    assert f"Set CREDO_DATA to a folder that holds {file}" in said


def test_warnings_that_are_errors_end_in_the_same_error():
    """scikit-learn warns before it tries again."""
    with pytest.raises(OSError, match="found in none of three places"):
        data.mnist()


def test_loading_leaves_everything_as_it_was(folder, unchanged):
    np.savez(folder / "mnist.npz", **arrays())
    with unchanged():
        data.mnist()
        data.digits()
    with unchanged(), pytest.raises(OSError):
        data.cifar10()


# The real sets

real = pytest.mark.skipif(not REAL, reason="CREDO_DATA names no folder with the real sets")


@pytest.fixture
def real_folder(monkeypatch) -> Path:
    monkeypatch.setenv("CREDO_DATA", REAL)
    return Path(REAL)


@real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "known", "first", "first_test", "shape"),
    [
        (data.mnist, data.MNIST, "5041921314", "7210414959", (784,)),
        (data.fashion_mnist, data.FASHION_MNIST, "9003027255", "9211614657", (784,)),
        (data.cifar10, data.CIFAR10, "6994112783", "3880661631", (3, 32, 32)),
    ],
)
def test_the_real_images(real_folder, load, known, first, first_test, shape):
    """The labels that everyone's first ten images have, and all of them by the checksum that guards the download."""
    got = load()
    assert (got.x.shape, got.x_test.shape) == ((known.train, *shape), (10_000, *shape))
    assert (got.x.min(), got.x.max(), got.x_test.min(), got.x_test.max()) == (0, 1, 0, 1)
    assert "".join(map(str, got.y[:10].tolist())) == first
    assert "".join(map(str, got.y_test[:10].tolist())) == first_test
    assert zlib.crc32(torch.cat([got.y, got.y_test]).to(torch.uint8).numpy().tobytes()) == known.labels


@real
@pytest.mark.slow
@pytest.mark.parametrize(("load", "name"), SETS)
def test_a_download_of_the_real_images_is_the_folder(real_folder, monkeypatch, load, name):
    wanted = load()
    with np.load(real_folder / f"{name}.npz") as file:
        x = np.concatenate([file["x_train"], file["x_test"]]).reshape(70_000, 784)
        y = np.concatenate([file["y_train"], file["y_test"]]).astype(str).astype(object)
    monkeypatch.delenv("CREDO_DATA")
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **keywords: Bunch(data=x, target=y))
    assert all(torch.equal(a, b) for a, b in zip(wanted, load(), strict=True))


@real
@pytest.mark.slow
def test_real_mnist_pixels(real_folder):
    """Mean and standard deviation of the training pixels as published everywhere: 0.1307 and 0.3081."""
    x = data.mnist().x
    assert (round(x.mean().item(), 4), round(x.std().item(), 4)) == (0.1307, 0.3081)


UCI = {  # rows, columns, splits, training rows
    "bostonHousing": (506, 13, 20, 455),
    "concrete": (1030, 8, 20, 927),
    "energy": (768, 8, 20, 691),
    "kin8nm": (8192, 8, 20, 7373),
    "naval-propulsion-plant": (11934, 16, 20, 10741),
    "power-plant": (9568, 4, 20, 8611),
    "protein-tertiary-structure": (45730, 9, 5, 41157),
    "wine-quality-red": (1599, 11, 20, 1439),
    "yacht": (308, 6, 20, 277),
}


@real
@pytest.mark.slow
@pytest.mark.parametrize("name", UCI)
def test_the_real_uci_sets(real_folder, name):
    """Every split is a partition of the same rows, and no two splits are the same."""
    n, columns, splits, n_train = UCI[name]
    torch.set_default_dtype(torch.float64)
    parts = [data.uci(name, split) for split in range(splits)]
    assert {(p.x.shape, p.y.shape) for p in parts} == {((n_train, columns), (n_train,))}
    rows = [torch.cat([torch.cat([p.x, p.x_test]), torch.cat([p.y, p.y_test])[:, None]], -1) for p in parts]
    assert {len(r) for r in rows} == {n}
    one, *others = (np.unique(r.numpy(), axis=0, return_counts=True) for r in rows)
    assert all(np.array_equal(one[0], o[0]) and np.array_equal(one[1], o[1]) for o in others)
    assert len({tuple(p.y_test.tolist()) for p in parts}) == splits
    with pytest.raises(ValueError, match=f"has {splits} splits"):
        data.uci(name, splits)
