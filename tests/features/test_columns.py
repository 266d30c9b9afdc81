"""Which columns are features and which the labels: by what the user says, by their names, never in silence."""

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fastmlp.common.errors import DataError
from fastmlp.features.columns import Columns
from fastmlp.features.tables import read_features, read_labelled, read_labels, read_table
from tests.shell import is_one_sentence

ROWS = 20
NUMBERS = np.random.default_rng(0).normal(size=(ROWS, 4))
LABELS = np.arange(ROWS) % 2
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A Parquet file with these columns; index: those that pandas says are its index."""

    def write(columns: dict[str, Any], index: list[Any] | None = None, name: str = "t.parquet") -> Path:
        table = pa.table(columns)
        if index is not None:
            table = table.replace_schema_metadata({"pandas": json.dumps({"index_columns": index})})
        parquet.write_table(table, tmp_path / name)
        return tmp_path / name

    return write


def numbers(*names: str) -> dict[str, Any]:
    """A column of numbers for each name."""
    return {name: NUMBERS[:, place] for place, name in enumerate(names)}


# pandas' index.


@pytest.mark.parametrize(
    ("names", "index"),
    [
        (["__index_level_0__"], ["__index_level_0__"]),
        (["__index_level_0__"], None),
        (["__index_level_0__", "__index_level_1__"], ["__index_level_0__", "__index_level_1__"]),
        (["Unnamed: 0"], None),
        (["id"], ["id"]),
        (["id", "day"], ["id", "day"]),
        ([], [{"kind": "range", "name": None, "start": 0, "stop": 20, "step": 1}]),
    ],
)
@pytest.mark.parametrize("embedded", [False, True], ids=["columns", "lists"])
def test_the_index_of_a_data_frame_is_no_feature(
    write: Write, names: list[str], index: list[Any] | None, embedded: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"embedding": NUMBERS[:, :3].tolist()} if embedded else numbers("a", "b", "c")
    path = write({**dict.fromkeys(names, LABELS), **rows, "label": LABELS}, index)
    table = read_table(path)
    np.testing.assert_array_equal(table.features, NUMBERS[:, :3])
    np.testing.assert_array_equal(table.labels, LABELS)
    told = capsys.readouterr().err
    assert [told.count(f"{name} (a data frame's index)") for name in names] == [1] * len(names)
    assert ["".join(f"{notice}\n" for notice in table.notices)] == [told]
    assert read_features(path).shape == (ROWS, 3)


def test_an_index_may_hold_the_labels_if_asked_for(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write({**numbers("a", "b"), "label": LABELS}, ["label"])
    with pytest.raises(DataError, match="has no labels"):
        read_labelled(path)
    np.testing.assert_array_equal(read_labelled(path, columns=Columns(label="label"))[1], LABELS)
    alone = write({"class": LABELS, "__index_level_0__": LABELS}, name="y.parquet")
    np.testing.assert_array_equal(read_labels(alone), LABELS)
    assert "Read y.parquet: labels from 'class'; left out 1: __index_level_0__." in capsys.readouterr().err


# Names that labels or features often have.


@pytest.mark.parametrize("label", ["label", "labels", "target", "y"])
@pytest.mark.parametrize("names", ["abc", "xXz", ("features", "x", "embedding"), ("images", "1", "a b")])
def test_any_names_are_features_beside_the_labels(
    write: Write, names: tuple[str, ...], label: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_table(write({**numbers(*names), label: LABELS}))
    np.testing.assert_array_equal(table.features, NUMBERS[:, :3])
    assert (table.names, table.label) == (tuple(names), label)
    assert capsys.readouterr().err == f"Read t.parquet: 3 features ({', '.join(names)}), labels from {label!r}.\n"


@pytest.mark.parametrize("names", ["xyz", ("time", "y", "z"), ("a", "target", "b"), ("y", "target", "labels")])
def test_a_choice_between_labels_is_the_users(write: Write, names: tuple[str, ...]) -> None:
    path = write({**numbers(*names), "label": LABELS})
    for read in (read_labelled, read_features):
        with pytest.raises(DataError, match="each of which could be the labels") as raised:
            read(path)
        assert is_one_sentence(str(raised.value))
        assert all(f"{name!r}" in str(raised.value) for name in names if name in ("y", "target", "labels"))
    X, y = read_labelled(path, columns=Columns(label="label"))
    np.testing.assert_array_equal(X, NUMBERS[:, :3])
    np.testing.assert_array_equal(y, LABELS)
    X, y = read_labelled(path, columns=Columns(label="label", drop=(names[1],)))
    np.testing.assert_array_equal(X, NUMBERS[:, [0, 2]])


def test_with_a_file_of_labels_every_column_is_a_feature(write: Write, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", LABELS)
    X, y = read_labelled(write(numbers(*"xyz")), tmp_path / "y.npy")
    np.testing.assert_array_equal(X, NUMBERS[:, :3])
    np.testing.assert_array_equal(y, LABELS)


@pytest.mark.parametrize("copy", [LABELS, 1 - LABELS, LABELS == 1, 0.5 * LABELS])
def test_a_copy_of_the_labels_is_no_feature(write: Write, tmp_path: Path, copy: np.ndarray) -> None:
    np.save(tmp_path / "y.npy", LABELS)
    path = write({**numbers("a"), "target": copy})
    with pytest.raises(DataError, match=r"'target' .* says the same as the labels: .* --drop-columns target\."):
        read_labelled(path, tmp_path / "y.npy")
    both = write({**numbers("a"), "target": copy, "label": LABELS})
    with pytest.raises(DataError, match=r"'target' .* says the same"):
        read_labelled(both, columns=Columns(label="label"))


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_a_column_that_numbers_the_rows_is_told(write: Write, order: slice, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        {**numbers("a"), "id": 7 + np.arange(ROWS, dtype=np.int8)[order], "b": 2 * np.arange(ROWS), "y": LABELS}
    )
    assert read_features(path).shape == (ROWS, 3)
    assert (
        capsys.readouterr().err.count("numbers the rows: if it is no feature, leave it out by --drop-columns id.") == 1
    )
    read_features(path, Columns(drop=("id",)))
    assert "numbers the rows" not in capsys.readouterr().err


# Several arrays in .npz and .safetensors files.


@pytest.mark.parametrize("arrays", [("X", "embeddings"), ("a", "b"), ("x", "X")])
def test_a_choice_between_arrays_is_the_users(tmp_path: Path, arrays: tuple[str, str]) -> None:
    np.savez(tmp_path / "a.npz", **{arrays[0]: NUMBERS, arrays[1]: -NUMBERS, "y": LABELS})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="each of which could be the features: name the right one 'features'") as raised:
        read_labelled(tmp_path / "a.npz")
    assert all(repr(name) in str(raised.value) for name in arrays)
    X, _ = read_labelled(tmp_path / "a.npz", columns=Columns(drop=arrays[:1]))
    np.testing.assert_array_equal(X, -NUMBERS)


def test_features_need_no_choice_between_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=NUMBERS, y=LABELS, labels=LABELS)
    np.testing.assert_array_equal(read_features(tmp_path / "a.npz"), NUMBERS)


def test_what_was_chosen_among_arrays_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", features=NUMBERS, raw=-NUMBERS, labels=LABELS, id=LABELS)
    read_labelled(tmp_path / "a.npz")
    assert (
        capsys.readouterr().err == "Read a.npz: features from 'features', labels from 'labels'; left out 2: raw, id.\n"
    )
    read_labelled(tmp_path / "a.npz", columns=Columns(label="id", drop=("raw", "labels")))
    assert capsys.readouterr().err == ""
    np.savez(tmp_path / "b.npz", X=NUMBERS, y=LABELS, labels=LABELS)
    with pytest.raises(DataError, match="'labels' and 'y', each of which could be the labels: name the right one"):
        read_labelled(tmp_path / "b.npz")


# Named features.


@pytest.mark.parametrize("order", ["abcd", "dcba", "bxdacy"])
def test_features_are_found_by_name(write: Write, order: str, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {name: NUMBERS[:, "abcd".index(name)] if name in "abcd" else LABELS for name in order}
    path, known = write({**columns, "label": LABELS}), Columns(features=tuple("abcd"))
    X, y = read_labelled(path, columns=Columns(features=tuple("abcd"), usual_label="label"))
    np.testing.assert_array_equal(X, NUMBERS)
    np.testing.assert_array_equal(y, LABELS)
    left_out = [name for name in order if name not in "abcd"]
    assert capsys.readouterr().err.count(f"left out {len(left_out)}: {', '.join(left_out)}.") == bool(left_out)
    np.testing.assert_array_equal(read_features(path, known), NUMBERS)


def test_features_named_like_labels_or_an_index_are_found(write: Write) -> None:
    path = write({**numbers("y", "target", "label", "id"), "class": LABELS}, ["id"])
    X, y = read_labelled(path, columns=Columns(label="class", features=("id", "label", "target", "y")))
    np.testing.assert_array_equal(X, NUMBERS[:, ::-1])
    np.testing.assert_array_equal(y, LABELS)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("abc", r"has no column 'd', which the model was trained on: give every column"),
        (("a", "B", "c", "d"), "has no column 'b', did you mean B, which"),
        ("xyz", "has no column 'a', nor 3 more, which"),
    ],
)
def test_missing_features_are_named(write: Write, names: tuple[str, ...], says: str) -> None:
    with pytest.raises(DataError, match=says) as raised:
        read_features(write(numbers(*names)), Columns(features=tuple("abcd")))
    assert is_one_sentence(str(raised.value))


def test_rows_without_names_are_taken_in_their_order(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Columns(features=tuple("abcd"))
    np.save(tmp_path / "x.npy", NUMBERS)
    np.savez(tmp_path / "x.npz", X=NUMBERS, y=LABELS)
    for path in (tmp_path / "x.npy", tmp_path / "x.npz", write({"embedding": NUMBERS.tolist()})):
        np.testing.assert_array_equal(read_features(path, known), NUMBERS)
        assert (
            capsys.readouterr().err.count("have no names, so they are taken in the order of the training: a, b,") == 1
        )


# What columns hold.


@pytest.mark.parametrize(
    ("column", "holds"),
    [
        (["u", "v"], "words"),
        (pa.array(["u", "v"], pa.string_view()), "words"),
        (pa.array(["u", "v"]).dictionary_encode(), "words"),
        ([datetime.datetime(2026, 1, 1)] * 2, "dates"),
        (pa.array([1, 2], pa.timestamp("ns", "UTC")), "dates"),
        ([datetime.date(2026, 1, 1)] * 2, "dates"),
        ([datetime.timedelta(1)] * 2, "durations"),
        ([b"u", b"v"], "objects"),
        ([{"u": 1}] * 2, "objects"),
        ([["u", "v"], ["v"]], "objects"),
    ],
)
def test_columns_without_numbers_are_named(write: Write, column: Any, holds: str) -> None:
    path = write({"a": [1.0, 2.0], "when": column, "label": [0, 1]})
    with pytest.raises(
        DataError, match=f"Column 'when' .* has {holds}, not numbers: leave it out by --drop-columns when"
    ):
        read_features(path)
    assert read_features(path, Columns(drop=("when",))).tolist() == [[1], [2]]
    assert read_features(path, Columns(features=("a",))).tolist() == [[1], [2]], "what is not asked for is not read"


@pytest.mark.parametrize(
    "column",
    [
        [True, False],
        [decimal.Decimal("1.0"), decimal.Decimal("0.0")],
        pa.array([1, 0]).dictionary_encode(),
        pa.array(np.array([1, 0], np.float16)),
        pa.array([1, 0], pa.uint64()),
    ],
)
def test_kinds_of_numbers(write: Write, column: Any) -> None:
    assert read_features(write({"a": [0.5, 2.0], "b": column})).tolist() == [[0.5, 1], [2, 0]]
    assert read_features(write({"b": column})).tolist() == [[1], [0]]


@pytest.mark.parametrize("column", [[1.0, None, 2.0], [None] * 3, [[1.0], None, [2.0]], [[1.0], [None], [2.0]]])
def test_missing_values_are_named_with_their_column_and_row(write: Write, column: list[Any]) -> None:
    path, row = write({"a": column, "label": [0, 1, 0]}), column[:1] != [None]
    with pytest.raises(DataError, match=rf"Column 'a' .* missing values, the first in row {int(row)}: fill them"):
        read_features(path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_arrays([pa.array([1.0])] * 2, ["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="has 2 columns called 'a'"):
        read_features(tmp_path / "t.parquet")


@pytest.mark.parametrize("columns", [Columns(label="lable"), Columns(drop=("lable",))])
def test_names_that_are_not_there_have_a_hint(write: Write, tmp_path: Path, columns: Columns) -> None:
    with pytest.raises(DataError, match=r"has no column 'lable', did you mean label: it has a, label\."):
        read_labelled(write({**numbers("a"), "label": LABELS}), columns=columns)
    np.save(tmp_path / "y.npy", LABELS)
    with pytest.raises(DataError, match="its one array has no name, so leave that option out"):
        read_labelled(write(numbers("a")), tmp_path / "y.npy", Columns(label="lable"))
