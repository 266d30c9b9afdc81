"""Features in many files: read as one table, and one sentence naming the shard for everything that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import save_file

from fastmlp.common.errors import DataError
from fastmlp.features.shard_files import MANIFEST, Entry, write_manifest, write_shard
from fastmlp.features.sharded_rows import TOGETHER, ShardedRows
from fastmlp.features.shards import open_features, open_sharded, open_shards, open_table
from fastmlp.features.streamed import StreamedRows
from fastmlp.features.tables import finite_rows
from fastmlp.network.scaling import Moments

ROWS = [40, 7, 33]
ENDS = np.cumsum(ROWS)
WORDS = np.array(["ant", "bee", "cat"])
Write = Callable[[Path, np.ndarray, np.ndarray], None]


@pytest.fixture(name="X")
def features(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(sum(ROWS), 5)).astype(np.float32)


@pytest.fixture(name="y")
def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 3, sum(ROWS))


def write_lists(path: Path, X: np.ndarray, y: np.ndarray) -> None:
    kind = pa.list_(pa.from_numpy_dtype(X.dtype))
    table = pa.table({"embedding": pa.array(list(X), kind), "label": pa.array(y)})
    parquet.write_table(table, path, row_group_size=4)


def write_columns(path: Path, X: np.ndarray, y: np.ndarray) -> None:
    names = sorted(range(X.shape[1]), key=lambda place: (place * len(X)) % 5)  # of every shard in another order
    table = pa.table({**{f"f{place}": X[:, place] for place in names}, "label": pa.array(y)})
    parquet.write_table(table, path, row_group_size=9)


WRITERS: dict[str, tuple[str, Write]] = {
    "npz": ("npz", lambda path, X, y: np.savez(path, features=X, labels=y)),
    "npz, packed": ("npz", lambda path, X, y: np.savez_compressed(path, X=X, y=y)),
    "safetensors": ("safetensors", lambda path, X, y: save_file({"features": X, "labels": y}, path)),
    "parquet lists": ("parquet", write_lists),
    "parquet columns": ("parquet", write_columns),
}


def write_shards(write: Write, suffix: str, X: np.ndarray, y: np.ndarray, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"part-{number}.{suffix}" for number in range(len(ROWS))]
    for path, features, labels in zip(paths, np.split(X, ENDS[:-1]), np.split(y, ENDS[:-1]), strict=True):
        write(path, features, labels)
    return paths


def in_order(X: np.ndarray, names: tuple[str, ...] | None) -> np.ndarray:
    return X if names is None else X[:, [int(name[1:]) for name in names]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("other", [None, "by columns", "bytes reversed", "npz"])
def test_rows_of_many_shards_are_standardised_as_they_are_read(
    tmp_path: Path, rng: np.random.Generator, dtype: str, other: str | None
) -> None:
    """In one call, as many shards as may be open at a time; one that is stored in another way is read by itself."""
    parts = [rng.normal(size=(number % 4 + 1, 5)).astype(dtype) for number in range(2 * TOGETHER + 3)]
    for number, part in enumerate(parts):
        np.save(tmp_path / f"{number:03}.npy", part)
    if other == "by columns":
        np.save(tmp_path / "002.npy", np.asfortranarray(parts[2]))
    elif other == "bytes reversed":
        np.save(tmp_path / "002.npy", parts[2].astype(parts[2].dtype.newbyteorder()))
    elif other == "npz":
        (tmp_path / "002.npy").unlink()
        np.savez(tmp_path / "002.npz", X=parts[2])
    X, features = np.concatenate(parts), open_sharded(tmp_path)
    scaling = Moments.of(X.astype(np.float64)).scaling(each=True)
    for rows in (np.arange(len(X)), rng.integers(0, len(X), 2 * len(X)), np.empty(0, np.int64)):
        found, expected = np.empty((2, len(rows), 5), np.float32)
        features.read(rows, found, scaling)
        scaling.apply(X[rows], expected)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
@pytest.mark.parametrize("words", [False, True], ids=["numbers", "words"])
@pytest.mark.parametrize("kind", WRITERS)
def test_shards_of_every_kind_are_one_table(
    tmp_path: Path, X: np.ndarray, y: np.ndarray, kind: str, words: bool, dtype: str, rng: np.random.Generator
) -> None:
    suffix, write = WRITERS[kind]
    X, labels = (8 * X).astype(dtype), WORDS[y] if words and suffix != "safetensors" else y
    write_shards(write, suffix, X, labels, tmp_path / "all")
    for place in (tmp_path / "all", tmp_path / "all" / f"*.{suffix}"):
        table = open_table(place)
        np.testing.assert_array_equal(table.labels, labels)
        assert (table.features.shape, table.features.dtype) == (X.shape, X.dtype)
        wanted = in_order(X, table.names)
        for rows in (
            slice(None),
            slice(5, 60, 7),
            rng.permutation(len(X)),
            np.array([], int),
            np.array([79, 0, 0]),
            44,
            -1,
        ):
            np.testing.assert_array_equal(table.features[rows], wanted[rows])


def test_labels_beside_shards(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    write_shards(lambda path, X, _: np.save(path, np.asfortranarray(X)), "npy", X, y, tmp_path / "x")
    write_shards(lambda path, _, y: np.save(path, y), "npy", X, y, tmp_path / "y")
    np.save(tmp_path / "all.npy", WORDS[y])
    for labels, wanted in ((tmp_path / "y", y), (tmp_path / "y" / "*.npy", y), (tmp_path / "all.npy", WORDS[y])):
        table = open_table(tmp_path / "x" / "*", labels)
        np.testing.assert_array_equal(table.features[:], X)
        np.testing.assert_array_equal(table.labels, wanted)
    np.testing.assert_array_equal(open_features(tmp_path / "x")[:], X)


def test_bfloat16_is_widened_where_rows_are_read(tmp_path: Path, X: np.ndarray) -> None:
    bits = (X.view(np.uint32) >> 16).astype(np.uint16)
    for number, part in enumerate(np.split(bits, ENDS[:-1])):
        about = {"dtype": "BF16", "shape": part.shape, "data_offsets": [0, part.nbytes]}
        header = json.dumps({"features": about}).encode()
        content = len(header).to_bytes(8, "little") + header + part.tobytes()
        (tmp_path / f"{number}.safetensors").write_bytes(content)
    exact = (X.view(np.uint32) & 0xFFFF0000).view(np.float32)
    rows = np.array([41, 3, 79])
    features = open_features(tmp_path)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[rows], exact[rows])


def test_a_folder_with_a_manifest(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    parts = zip(np.split(X, ENDS[:-1]), np.split(y, ENDS[:-1]), strict=True)
    entries = [write_shard(tmp_path, number, *part) for number, part in enumerate(parts)]
    np.save(tmp_path / "other.npy", X)
    write_manifest(tmp_path, entries[::-1])
    table = open_table(tmp_path)
    rows = np.concatenate(np.split(np.arange(len(X)), ENDS[:-1])[::-1])
    np.testing.assert_array_equal(table.features[:], X[rows])
    np.testing.assert_array_equal(table.labels, y[rows])


# What is refused.


def test_a_shard_that_does_not_go_with_the_others(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    cases: list[tuple[str, np.ndarray, np.ndarray]] = [
        ("has 4 features per row, but", X[:7, :4], y[:7]),
        ("float16 features, but", X[:7].astype(np.float16), y[:7]),
        ("int32 features, but", X[:7].astype(np.int32), y[:7]),
        ("features must be numbers", X[:7, 0], y[:7]),
        ("has no features", X[:0], y[:0]),
        ("7 rows, but", X[:7], y[:6]),
        ("are words, but", X[:7], WORDS[y[:7]]),
        ("has label -", X[:7], -1 - y[:7]),
    ]
    *_, last = write_shards(WRITERS["npz"][1], "npz", X, y, tmp_path)
    for reason, features, labels in cases:
        np.savez(last, features=features, labels=labels)
        with pytest.raises(DataError, match=reason) as caught:
            open_table(tmp_path)
        assert last.name in str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_damaged_shard_is_named(tmp_path: Path, X: np.ndarray, y: np.ndarray, kind: str) -> None:
    suffix, write = WRITERS[kind]
    *_, last = write_shards(write, suffix, X, y, tmp_path)
    content = last.read_bytes()
    for kept in (0, 3, len(content) // 2, len(content) - 1):
        last.write_bytes(content[:kept])
        with pytest.raises(DataError, match=last.name):
            open_table(tmp_path)


def test_a_shard_without_labels_is_named(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    _, middle, _ = write_shards(WRITERS["safetensors"][1], "safetensors", X, y, tmp_path)
    save_file({"features": X[40:47]}, middle)
    with pytest.raises(DataError, match=rf"{middle.name} has no labels"):
        open_table(tmp_path)


@pytest.mark.parametrize("change", [{"f0": "z"}, {"f4": None}])
def test_a_shard_with_other_columns_is_named(
    tmp_path: Path, X: np.ndarray, y: np.ndarray, change: dict[str, str | None]
) -> None:
    *_, last = write_shards(write_columns, "parquet", X, y, tmp_path)
    table = parquet.read_table(last)
    [(old, new)] = change.items()
    changed = table.drop([old]) if new is None else table.rename_columns({old: new})
    parquet.write_table(changed, last)
    with pytest.raises(DataError, match=f"{last.name}.*has a column|has a column.*{last.name}"):
        open_table(tmp_path)


def test_a_shard_that_changes_after_it_was_opened(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    for kind in WRITERS:
        suffix, write = WRITERS[kind]
        folder = tmp_path / kind.replace(" ", "")
        first, _, last = write_shards(write, suffix, X, y, folder)
        features = open_table(folder).features
        np.testing.assert_array_equal(features[:40], in_order(X, open_table(folder).names)[:40])
        write(last, X[:33], y[:33])
        with pytest.raises(DataError, match=rf"{last.name} has changed"):
            features[np.array([0, 50])]
        first.unlink()
        with pytest.raises(DataError, match=rf"{first.name} is gone"):
            features[:1]


@pytest.mark.parametrize("first", [0, 1])
def test_a_missing_shard_that_names_tell_of(tmp_path: Path, X: np.ndarray, y: np.ndarray, first: int) -> None:
    paths = [tmp_path / f"train-{number:05d}-of-00003.npz" for number in range(first, first + 3)]
    for path in paths:
        np.savez(path, features=X, labels=y)
    assert len(open_table(tmp_path).features) == 3 * len(X)
    paths[1].unlink()
    with pytest.raises(DataError, match=paths[1].name + " is missing"):
        open_table(tmp_path)


def test_a_manifest_that_does_not_hold(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    entry, other = (write_shard(tmp_path, number, X[number:], y[number:]) for number in range(2))
    cases: list[tuple[str, list[Entry]]] = [
        ("shard-00001.safetensors is not the one", [entry, other._replace(rows=5)]),
        ("shard-00000.safetensors is not the one", [entry._replace(sha256=other.sha256), other]),
        ("shard-00007.safetensors is missing", [entry, other._replace(name="shard-00007.safetensors")]),
        ("manifest.json is damaged", [entry._replace(name="../a.npz")]),
        ("manifest.json is damaged", []),
    ]
    for reason, entries in cases:
        write_manifest(tmp_path, entries)
        with pytest.raises(DataError, match=reason):
            open_table(tmp_path)
    for content in ("[]", "{", '{"format": 1}', '{"format": 1, "shards": [1]}'):
        (tmp_path / MANIFEST).write_text(content)
        with pytest.raises(DataError, match="is damaged"):
            open_table(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 2, "shards": []}))
    with pytest.raises(DataError, match="has format 2, not 1"):
        open_table(tmp_path)


def test_labels_that_are_not_as_many(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    write_shards(lambda path, X, _: np.save(path, X), "npy", X, y, tmp_path / "x")
    paths = write_shards(lambda path, _, y: np.save(path, y), "npy", X, y, tmp_path / "y")
    np.save(tmp_path / "all.npy", y[:-1])
    with pytest.raises(DataError, match=r"80 rows of features in .*, but 79 labels"):
        open_table(tmp_path / "x", tmp_path / "all.npy")
    np.save(paths[1], y[:6])
    with pytest.raises(DataError, match=r"part-1\.npy has 7 rows, but .*part-1\.npy 6 labels"):
        open_table(tmp_path / "x", tmp_path / "y")
    paths[1].unlink()
    with pytest.raises(DataError, match=r"3 shards in .*, but 2 of labels in"):
        open_table(tmp_path / "x", tmp_path / "y")


def test_labels_in_another_order_than_their_shards(
    tmp_path: Path, X: np.ndarray, y: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    """By names 10 comes before 2: whoever wrote these counted."""
    for number in (1, 2, 10):
        for folder, name, rows in (
            ("x", str(number), X[:9]),
            ("y", str(number), y[:9]),
            ("padded", f"{number:02}", y[:9]),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            np.save(tmp_path / folder / f"{name}.npy", rows)
    np.save(tmp_path / "all.npy", y[:27])
    assert not open_table(tmp_path / "x", tmp_path / "y").notices
    with pytest.raises(DataError, match=r"padded/02\.npy would be those of .*x/10\.npy: number both"):
        open_table(tmp_path / "x", tmp_path / "padded")
    [notice] = open_table(tmp_path / "x", tmp_path / "all.npy").notices
    assert "in the order of the shards' names, which is 1.npy, 10.npy, 2.npy" in notice
    assert notice in capsys.readouterr().err


def test_shards_in_two_orders_of_bytes(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    write_shards(WRITERS["npz"][1], "npz", X, y, tmp_path)
    np.savez(tmp_path / "part-1.npz", features=X[40:47].astype(">f4"), labels=y[40:47].astype(">i8"))
    table = open_table(tmp_path)
    np.testing.assert_array_equal(table.features[:], X)
    np.testing.assert_array_equal(table.labels, y)


def write_groups(path: Path, *groups: list[list[float | None] | None]) -> None:
    """Each group's lists, with labels of 0."""
    schema = pa.schema({"embedding": pa.list_(pa.float32()), "label": pa.int64()})
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in groups:
            writer.write_table(pa.table([pa.array(rows, schema.types[0]), [0] * len(rows)], schema=schema))


def test_row_groups_without_rows(tmp_path: Path) -> None:
    write_groups(tmp_path / "a.parquet", [], [[1, 2], [3, 4]], [], [[5, 6]], [])
    features = open_table(tmp_path).features
    assert isinstance(features, ShardedRows)
    np.testing.assert_array_equal(features[:], [[1, 2], [3, 4], [5, 6]])
    assert StreamedRows(features, window_rows=1, seed=0).borders().tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ([[5, 6], None], "missing values, the first in row 3"),
        ([[5, 6], [7, None]], "missing values, the first in row 3"),
        ([[5], [6]], "has 2 features per row, but 1 from row 2 on"),
    ],
)
def test_a_later_row_group_that_is_refused(tmp_path: Path, group: list[list[float | None] | None], says: str) -> None:
    """Whatever dtype it is read in: one column would be broadcast to the width of the others."""
    write_groups(tmp_path / "a.parquet", [[1, 2], [3, 4]], group)
    for dtype in ("float32", "float64"):
        with pytest.raises(DataError, match=says):
            finite_rows(open_table(tmp_path).features, None, dtype, tmp_path)


def test_a_place_that_is_not_there(tmp_path: Path, X: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", X)
    for features, labels in (("nothing", None), ("nothing.npy", None), ("x.npy", "nothing")):
        for opened in (open_table, open_shards):
            with pytest.raises(DataError, match=r"nothing(\.npy)? does not exist or is not a file: check the path"):
                opened(tmp_path / features, None if labels is None else tmp_path / labels)


def test_a_place_without_shards(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    for place in (tmp_path, tmp_path / "*.npy"):
        with pytest.raises(DataError, match=r"There are no \.npy, .* files in"):
            open_table(place)


def test_a_row_that_is_not_finite_is_told_by_its_shard(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    X[45, 2] = np.nan
    write_shards(WRITERS["npz"][1], "npz", X, y, tmp_path)
    with pytest.raises(DataError, match=r"Row 5 of .*part-1\.npz has NaN"):
        finite_rows(open_table(tmp_path).features, None, "float32", tmp_path)
