"""Rows of a file that is not mapped: the same numbers as of the whole array, in few calls."""

import json
from pathlib import Path

import numpy as np
import pytest

from fastmlp.common.errors import DataError
from fastmlp.features import row_files
from fastmlp.features.columns import ANY, choose
from fastmlp.features.contents import open_contents
from fastmlp.features.row_files import PlainRows, open_rows, read_part
from fastmlp.network.scaling import Moments, Scaling

X = np.random.default_rng(0).standard_normal((97, 5)).astype(np.float32)
ORDERS = {
    "all": np.arange(97),
    "but a few": np.delete(np.arange(97), [0, 3, 4, 50, 96]),
    "far apart": np.array([1, 40, 41, 95]),
    "backwards": np.arange(96, 0, -3),
    "twice": np.array([5, 5, 6, 6, 2]),
    "none": np.arange(0),
}


@pytest.fixture(params=[(2**18, 2**14), (64, 1), (100, 40), (1, 1)])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is read by one call, and of gaps between rows that are read with them."""
    stretch, gap = request.param
    monkeypatch.setattr(row_files, "STRETCH_BYTES", stretch)
    monkeypatch.setattr(row_files, "COLUMN_BYTES", stretch)
    monkeypatch.setattr(row_files, "GAP_BYTES", gap)


def opened(path: Path) -> PlainRows:
    contents = open_contents(path)
    rows = open_rows(contents, choose(contents, ANY, with_labels=False), read_part)
    assert isinstance(rows, PlainRows)
    return rows


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("saved", [X, np.asfortranarray(X), X.astype(np.float16), X.astype(">f8"), X.astype(np.int16)])
def test_rows_in_any_order_are_those_of_the_array(tmp_path: Path, saved: np.ndarray, order: np.ndarray) -> None:
    np.save(tmp_path / "X.npy", saved)
    rows = opened(tmp_path / "X.npy")
    for dtype in (saved.dtype, np.float32):
        out = np.full((len(order), 5), 7, dtype)
        rows.read(order, out)
        np.testing.assert_array_equal(out, saved[order].astype(dtype))


@pytest.mark.parametrize("out", [np.empty((4, 10), np.float32)[:, ::2], np.empty((5, 4), np.float32).T])
def test_they_are_written_to_any_view(tmp_path: Path, out: np.ndarray) -> None:
    np.save(tmp_path / "X.npy", X)
    opened(tmp_path / "X.npy").read(np.arange(3, 7), out)
    np.testing.assert_array_equal(out, X[3:7])


@pytest.mark.parametrize("saved", [X, np.asfortranarray(X)])
def test_a_file_that_has_become_shorter_is_named(tmp_path: Path, saved: np.ndarray) -> None:
    np.save(tmp_path / "X.npy", saved)
    rows = opened(tmp_path / "X.npy")
    with (tmp_path / "X.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 4)
    with pytest.raises(DataError, match=r"X\.npy ends before its rows do"):
        rows.read(np.arange(97), np.empty((97, 5), np.float32))


# Standardised.

SCALING = Moments.of(X).scaling(each=True)
COMPILED: dict[str, np.ndarray] = {
    "float32": X,
    "float64": X.astype(np.float64),
    "float16": X.astype(np.float16),
    "bfloat16": X,
}
IN_CALLS: dict[str, np.ndarray] = {
    "by columns": np.asfortranarray(X),
    "big-endian": X.astype(">f4"),
    "whole numbers": X.astype(np.int16),
}


def saved_as(path: Path, kind: str, array: np.ndarray) -> tuple[PlainRows, np.ndarray]:
    """The file's rows, and what they are."""
    if kind != "bfloat16":
        np.save(path / "X.npy", array)
        return opened(path / "X.npy"), array
    bits = array.view(np.uint32) >> 16
    tensor = {"dtype": "BF16", "shape": array.shape, "data_offsets": [0, 2 * array.size]}
    header = json.dumps({"features": tensor}).encode()
    (path / "X.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bits.astype("<u2").tobytes())
    return opened(path / "X.safetensors"), (bits << 16).view(np.float32)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("kind", [*COMPILED, *IN_CALLS])
def test_standardised_rows_are_those_of_the_array_to_the_last_bit(tmp_path: Path, kind: str) -> None:
    rows, array = saved_as(tmp_path, kind, (COMPILED | IN_CALLS)[kind])
    for order in ORDERS.values():
        out = np.full((len(order), 5), 7, np.float32)
        rows.read(order, out, SCALING)
        np.testing.assert_array_equal(out, SCALING.applied(array[order], "float32"))


@pytest.mark.parametrize("kind", COMPILED)
def test_standardised_rows_are_read_in_one_compiled_call(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, array = saved_as(tmp_path, kind, COMPILED[kind])
    monkeypatch.setattr(PlainRows, "_read_in_calls", lambda *_: pytest.fail("not compiled"))
    out = np.empty((97, 5), np.float32)
    rows.read(np.arange(97), out, SCALING)
    np.testing.assert_array_equal(out, SCALING.applied(array, "float32"))


def test_every_number_of_float16_is_read_as_it_is(tmp_path: Path) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 256)
    np.save(tmp_path / "X.npy", halves)
    out = np.empty(halves.shape, np.float32)
    opened(tmp_path / "X.npy").read(np.arange(256), out, Scaling(np.zeros(256), np.ones(256)))
    np.testing.assert_array_equal(out, halves.astype(np.float32))


def test_a_file_that_has_become_shorter_is_named_by_the_compiled_call_too(tmp_path: Path) -> None:
    rows, _ = saved_as(tmp_path, "float32", X)
    with (tmp_path / "X.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 4)
    out = np.empty((97, 5), np.float32)
    rows.read(np.arange(96), out[:96], SCALING)
    with pytest.raises(DataError, match=r"X\.npy ends before its rows do"):
        rows.read(np.arange(97), out, SCALING)
