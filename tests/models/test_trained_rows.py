"""The rows that a model was trained on are known again, whatever file, dtype or order they come in."""

from pathlib import Path

import numpy as np
import pytest

from fastmlp.common.errors import DataError, UsageError
from fastmlp.models.trained_rows import NAME, TrainedRows, row_hashes


@pytest.fixture
def table(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(1000, 7)).astype(np.float32)


KEPT, HELD_OUT = np.arange(0, 900), np.arange(900, 1000)


def test_rows_are_told_by_their_numbers_alone(table: np.ndarray) -> None:
    hashes = row_hashes(table)
    assert len(set(hashes.tolist())) == len(table)
    shuffled = np.random.default_rng(1).permutation(len(table))
    np.testing.assert_array_equal(row_hashes(np.asfortranarray(table[shuffled])), hashes[shuffled])
    np.testing.assert_array_equal(row_hashes(table.astype(np.float64)), hashes)
    half = table.astype(np.float16)
    np.testing.assert_array_equal(row_hashes(half), row_hashes(half.astype(np.float64)))
    assert row_hashes(np.array([[-0.0, 1]]))[0] == row_hashes(np.array([[0, 1]]))[0]


@pytest.mark.parametrize("values", [2, 256])
def test_rows_of_small_whole_numbers_have_hashes_of_their_own(values: int, rng: np.random.Generator) -> None:
    rows = np.unique(rng.integers(0, values, (20_000, 24)), axis=0)
    assert len(np.unique(row_hashes(rows))) == len(rows)


def test_images_are_rows(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    assert TrainedRows.of(images[:20]).count(row_hashes(images)) == 20
    np.testing.assert_array_equal(row_hashes(images), row_hashes(images.reshape(50, -1)))
    np.testing.assert_array_equal(row_hashes(images), row_hashes(images.astype(np.float64)))


def test_rows_trained_on_are_counted(table: np.ndarray) -> None:
    rows = TrainedRows.of(table, KEPT, HELD_OUT)
    assert rows.count(row_hashes(table)) == 900
    assert rows.count(row_hashes(table[::-1][150:].astype(np.float64))) == 850
    assert rows.count(row_hashes(table[HELD_OUT])) == rows.count(row_hashes(table + 1)) == 0
    assert TrainedRows.of(table).count(row_hashes(table)) == 1000


def test_held_out_rows_are_found_in_the_same_table_alone(table: np.ndarray) -> None:
    rows = TrainedRows.of(table, KEPT, HELD_OUT)
    np.testing.assert_array_equal(rows.held_out_of(table.astype(np.float64), "x"), HELD_OUT)
    for other in (table[::-1], table[:950], table[:5], np.where(np.arange(1000)[:, None] == 999, 0, table)):
        with pytest.raises(UsageError, match="x does not have the model's held-out rows"):
            rows.held_out_of(other, "x")
    with pytest.raises(UsageError, match="none were held out"):
        TrainedRows.of(table).held_out_of(table, "x")


def test_they_are_kept(table: np.ndarray, tmp_path: Path) -> None:
    assert TrainedRows.load(tmp_path) is None
    for rows in (TrainedRows.of(table, KEPT, HELD_OUT), TrainedRows.of(table)):
        rows.save(tmp_path)
        loaded = TrainedRows.load(tmp_path)
        assert loaded is not None
        for name, array in vars(rows).items():
            np.testing.assert_array_equal(getattr(loaded, name), array)
    content = (tmp_path / NAME).read_bytes()
    for damaged in (b"", content[:-8], content.replace(b"U64", b"F64"), content.replace(b"held_out_", b"held_off_")):
        (tmp_path / NAME).write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            TrainedRows.load(tmp_path)
