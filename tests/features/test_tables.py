"""Features and labels from users' files: what is accepted, and one sentence for everything else."""

import contextlib
import io
import pickle
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.numpy import save_file

from fastmlp.common.errors import DataError
from fastmlp.features import contents
from fastmlp.features.tables import finite_rows, indices_of, read_features, read_labelled, read_labels

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 2, 2, 1])
WORDS = np.array(["cat", "dog", "dog", "ant"])
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_parquet(path: Path, features: np.ndarray, labels: np.ndarray, kind: Any = pa.list_) -> None:
    rows = pa.array(list(features), kind(pa.float32()))
    parquet.write_table(pa.table({"id": pa.array(labels), "embedding": rows, "label": pa.array(labels)}), path)


def write_columns(path: Path, features: np.ndarray, labels: np.ndarray) -> None:
    columns = {f"f{i}": features[:, i] for i in range(features.shape[1])}
    parquet.write_table(pa.table({**columns, "label": pa.array(labels).dictionary_encode()}), path)


WRITERS: dict[str, tuple[str, Callable[[Path, np.ndarray, np.ndarray], None]]] = {
    "npz": ("a.npz", lambda path, f, y: np.savez(path, features=f, labels=y)),
    "npz, packed, other names": ("a.npz", lambda path, f, y: np.savez_compressed(path, X=f, y=y)),
    "parquet lists": ("a.parquet", write_parquet),
    "parquet large lists": ("a.parquet", lambda path, f, y: write_parquet(path, f, y, pa.large_list)),
    "parquet fixed lists": ("a.parquet", lambda path, f, y: write_parquet(path, f, y, lambda t: pa.list_(t, 3))),
    "parquet columns": ("a.parquet", write_columns),
}


@pytest.mark.parametrize("labels", [Y, WORDS], ids=["integers", "words"])
@pytest.mark.parametrize("name", WRITERS)
def test_one_file_with_both(tmp_path: Path, name: str, labels: np.ndarray) -> None:
    file, write = WRITERS[name]
    write(tmp_path / file, X, labels)
    features, found = read_labelled(tmp_path / file)
    np.testing.assert_array_equal(features, X)
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(read_features(tmp_path / file), X)
    np.testing.assert_array_equal(read_labels(tmp_path / file), labels)


def test_safetensors_and_npy_pairs(tmp_path: Path) -> None:
    save_file({"features": X, "labels": Y}, tmp_path / "a.safetensors")
    features, labels = read_labelled(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(features, X)
    np.testing.assert_array_equal(labels, Y)
    np.save(tmp_path / "x.npy", X.astype(np.float16))
    np.save(tmp_path / "y.npy", WORDS.astype("S"))
    features, labels = read_labelled(tmp_path / "x.npy", tmp_path / "y.npy")
    assert features.dtype == np.float16
    assert labels.tolist() == WORDS.tolist()


def test_a_npy_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    features = read_features(tmp_path / "x.npy")
    assert isinstance(features, np.memmap)
    taken = finite_rows(features, None, "float32", "x.npy")
    assert np.shares_memory(taken, features)
    assert taken.flags.writeable  # as some libraries ask; what is written stays in memory
    taken[0, 0] = 99
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)


def test_rows_are_taken_in_their_order_and_converted() -> None:
    large = np.random.default_rng(0).normal(size=(10_000, 2))
    rows = np.random.default_rng(1).permutation(10_000)[:9_000]
    np.testing.assert_array_equal(finite_rows(large, rows, "float32", "x"), large[rows].astype(np.float32))
    reversed_rows = large[::-1]
    np.testing.assert_array_equal(finite_rows(reversed_rows, None, "float64", "x"), reversed_rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("row", [0, 4095, 4096, 8191])
def test_what_is_not_finite_is_found_in_its_row(value: float, row: int) -> None:
    features = np.zeros((8192, 3))
    features[row, 1] = value
    with pytest.raises(DataError, match=f"Row {row} of x"):
        finite_rows(features, None, "float32", "x")
    with pytest.raises(DataError, match=f"Row {row} of x"):
        finite_rows(features, np.arange(8192)[::-1], "float32", "x")


def npz_with(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's own options are in the same place
    return file.getvalue()


def npy_of(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def parquet_of(**columns: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    """A .npy file without the numbers that its header declares."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("features.npy", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"1 2", "is not a .* file: read it with numpy.loadtxt"),
        ("a.npy", b"", "cannot be read"),
        ("a.npy", b"\x93NUMPY\x01\x00junk", "cannot be read"),
        ("a.npy", pickle.dumps(X), "cannot be read"),
        ("a.npy", npz_with(features=X), "cannot be read"),
        ("a.npy", npy_of(np.array([{}, {}])), "never loaded"),
        ("a.npy", npy_of(X)[:-1], "truncated"),
        ("a.npy", claiming((2**62, 2**62)), "truncated"),
        ("a.npy", claiming((-4, -4)), "truncated"),
        ("a.npy", npy_of(X[0]), r"float32 \(3,\).*save X.reshape\(-1, 1\)"),
        ("a.npy", npy_of(X > 3), r"bool .*save X.astype\('uint8'\)"),
        ("a.npy", npy_of(X.view("f4,f4,f4")), "structured_to_unstructured"),
        ("a.npy", npy_of(X + 1j), "complex64"),
        ("a.npy", npy_of(WORDS[:, None]), "<U3"),
        ("a.npy", npy_of(X.view("V2")), r"if these are bfloat16, save X.astype\('float32'\)"),
        ("a.npy", npy_of(X[:0]), r"shape is \(0, 3\)"),
        ("a.npy", npy_of(np.zeros((2, 3, 8, 8), np.float32)), r"a.npy: Images must be whole numbers .*255 \* X"),
        ("a.npz", b"PK\x03\x04", "cannot be read"),
        ("a.npz", npz_with(), "has no features: give an array"),
        ("a.npz", npz_with(a=X, b=X), "name the right one 'features'"),
        ("a.npz", npz_with(features=np.array([{}, None])), "never loaded"),
        ("a.npz", zipped(claiming((2**40, 8))), "truncated"),
        ("a.safetensors", b"\xff" * 20, "cannot be read"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.parquet", parquet_of(features=[[1.0, 2.0], [1.0]]), "different lengths"),
        ("a.parquet", parquet_of(features=[[1.0, 2.0], [1.0], [1.0, 2.0, 3.0]]), "different lengths"),
        ("a.parquet", parquet_of(features=[[1.0], None]), "missing values"),
        ("a.parquet", parquet_of(features=[[1.0], [None]]), "missing values"),
        ("a.parquet", parquet_of(a=[1.0, None]), "missing values"),
        ("a.parquet", parquet_of(a=[1.0, 2.0], b=["x", "y"]), "Column 'b'"),
        ("a.parquet", parquet_of(features=[[["x"]], [["y"]]]), "'features' .* has objects, not numbers"),
        ("a.parquet", parquet_of(features=[[[1.0]], [[2.0]]]), r"features must be numbers \(n, d\)"),
    ],
)
def test_features_that_are_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as raised:
        read_features(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([0, -1, 1]), "Row 1 .* label -1"),
        (np.array([0, 2**40, 1]), "Row 1 .* label 1099511627776"),
        (np.array([2**64 - 1], np.uint64), "Row 0 .* label 18446744073709551615"),
        (np.array([0.0, 1.0]), "float64: save them as whole numbers"),
        (np.array([True, False]), "bool"),
        (np.eye(3, dtype=int), "argmax"),
        (np.array([b"\xff"]), "not valid text"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, labels: np.ndarray, says: str) -> None:
    np.save(tmp_path / "y.npy", labels)
    with pytest.raises(DataError, match=says):
        read_labels(tmp_path / "y.npy")


@pytest.mark.parametrize("name", ["café", "Äpfel", "한국", "が"])
def test_two_spellings_of_a_class_are_one_class(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    composed, decomposed = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    np.save(tmp_path / "y.npy", np.array([composed, "z", decomposed]))
    assert read_labels(tmp_path / "y.npy").tolist() == [composed, "z", composed]
    assert capsys.readouterr().err.count("has 1 of its labels in two spellings") == 1
    np.save(tmp_path / "one.npy", np.array(["z", decomposed]))
    assert read_labels(tmp_path / "one.npy").tolist() == ["z", composed]
    assert capsys.readouterr().err == ""
    for known, label in ((composed, decomposed), (decomposed, composed)):
        np.testing.assert_array_equal(indices_of(np.array([label]), np.array(["z", known]), "y"), [1])


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y[:3])
    with pytest.raises(DataError, match=r"4 rows .* 3 labels"):
        read_labelled(tmp_path / "x.npy", tmp_path / "y.npy")
    with pytest.raises(DataError, match="pass them with --labels"):
        read_labelled(tmp_path / "x.npy")
    with pytest.raises(DataError, match="does not exist"):
        read_features(tmp_path / "gone.npy")
    np.savez(tmp_path / "x.npz", features=X, other=Y)
    with pytest.raises(DataError, match="has no labels"):
        read_labels(tmp_path / "x.npz")


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", features=np.zeros((1000, 1000), np.float32))
    assert read_features(tmp_path / "a.npz").shape == (1000, 1000)
    monkeypatch.setattr(contents, "BOMB_BYTES", 2**20)
    with pytest.raises(DataError, match=r"would unpack to 4,000,128 bytes"):
        read_features(tmp_path / "a.npz")


def test_labels_find_their_classes() -> None:
    classes = np.array([3, 7, 9])
    np.testing.assert_array_equal(indices_of(np.array([9, 3, 7, 7]), classes, "y"), [2, 0, 1, 1])
    for strange in (0, 5, 10):
        with pytest.raises(DataError, match=f"Row 1 of y has label '{strange}'"):
            indices_of(np.array([9, strange]), classes, "y")
    np.testing.assert_array_equal(indices_of(np.array([9, 3], np.uint8), classes[::-1], "y"), [0, 2])
    with pytest.raises(DataError, match="strings in y, but the classes are whole numbers"):
        indices_of(WORDS, classes, "y")
    with pytest.raises(DataError, match="labels of type float64 in y, but the classes are whole numbers"):
        indices_of(np.array([3.0]), classes, "y")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.parquet"])
@given(data=st.data())
@QUICK
def test_a_damaged_file_is_refused_or_read(tmp_path: Path, name: str, data: st.DataObject) -> None:
    whole = {
        "a.npy": npy_of(X),
        "a.npz": npz_with(features=X, labels=Y),
        "a.parquet": parquet_of(features=[[1.0, 2.0]] * 3, label=[0, 1, 2]),
    }[name]
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(DataError):
        assert read_features(tmp_path / name).ndim in (2, 4)
