"""Shards that cannot be trained on, or answered: one sentence that names them, exit code 4, and nothing written."""

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import save_file

from fastmlp.cli.main import main
from fastmlp.common.errors import DataError
from fastmlp.common.files import sha256_of
from fastmlp.features.shard_files import MANIFEST, write_manifest, write_shard
from fastmlp.features.sharded_rows import Shard
from fastmlp.features.shards import open_features, open_table
from fastmlp.features.store import open_store
from fastmlp.network.scaling import Moments

ROWS, WIDTH, SHARDS = 90, 4, 3
BAD = 1  # the number of the shard that is bad
MACHINE = ["--backend", "numpy", "--threads", "1"]
MEMORY = ["--memory", "12KB"]  # of which a window is smaller than the rows, and larger than a shard
LABELS = Path("labels")
Rows = tuple[np.ndarray, np.ndarray]
Write = Callable[[Path, np.ndarray, np.ndarray], object]
Fail = Callable[..., str]


@pytest.fixture(autouse=True)
def without_report(own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.report.head.write", lambda *_: None)  # which takes a second


# Shards of every kind.


def write_lists(path: Path, X: np.ndarray, y: np.ndarray) -> None:
    parquet.write_table(pa.table({"embedding": X.tolist(), "label": y}), path, row_group_size=8)


def write_columns(path: Path, X: np.ndarray, y: np.ndarray) -> None:
    columns = {f"f{place}": column for place, column in enumerate(X.reshape(len(X), -1).T)}
    parquet.write_table(pa.table({**columns, "label": y}), path, row_group_size=8)


def write_apart(path: Path, X: np.ndarray, y: np.ndarray) -> None:
    LABELS.mkdir(exist_ok=True)
    np.save(path, X)
    np.save(LABELS / path.name, y)


def write_tensors(path: Path, X: np.ndarray, y: np.ndarray) -> None:
    save_file({"features": np.ascontiguousarray(X), "labels": np.ascontiguousarray(y)}, path)


WRITERS: dict[str, tuple[str, Write]] = {
    "npy": ("npy", write_apart),
    "npz": ("npz", lambda path, X, y: np.savez(path, features=X, labels=y)),
    "npz, packed": ("npz", lambda path, X, y: np.savez_compressed(path, features=X, labels=y)),
    "safetensors": ("safetensors", write_tensors),
    "parquet lists": ("parquet", write_lists),
    "parquet columns": ("parquet", write_columns),
}


@pytest.fixture(name="rows")
def rows_of_all(rng: np.random.Generator) -> Rows:
    y = rng.integers(0, 3, ROWS)
    return (4 * np.eye(3)[y].repeat(2, axis=1)[:, :WIDTH] + rng.normal(size=(ROWS, WIDTH))).astype(np.float32), y


def parts(rows: Rows) -> Iterator[Rows]:
    yield from zip(*(np.split(array, SHARDS) for array in rows), strict=True)


def write_all(kind: str, rows: Rows) -> tuple[Path, list[str]]:
    """The shard to spoil, in the folder shards, and the option that names the labels, if they are elsewhere."""
    suffix, write = WRITERS[kind]
    for folder in ("shards", LABELS):
        shutil.rmtree(folder, ignore_errors=True)
    Path("shards").mkdir()
    paths = [Path("shards") / f"part-{number}.{suffix}" for number in range(SHARDS)]
    for path, part in zip(paths, parts(rows), strict=True):
        write(path, *part)
    return paths[BAD], ["--labels", str(LABELS)] if LABELS.exists() else []


# What is bad about them.


def cut(kept: Callable[[bytes], bytes]) -> Callable[..., None]:
    return lambda path, *_: path.write_bytes(kept(path.read_bytes()))


def written(change: Callable[[np.ndarray, np.ndarray], Rows]) -> Callable[..., None]:
    return lambda path, write, X, y: write(path, *change(X, y))


def instead(make: Callable[[Path], object]) -> Callable[..., None]:
    def replace(path: Path, *_: object) -> None:
        path.unlink()
        make(path)

    return replace


def with_number(number: float) -> Callable[[np.ndarray, np.ndarray], Rows]:
    return lambda X, y: (np.where(np.arange(X.size).reshape(X.shape) == WIDTH * 20 + 1, number, X).astype(X.dtype), y)


FAULTS: dict[str, Callable[..., None]] = {
    "empty": cut(lambda content: b""),
    "a part of the header": cut(lambda content: content[:6]),
    "a byte less": cut(lambda content: content[:-1]),
    "half": cut(lambda content: content[: len(content) // 2]),
    "bytes behind": cut(lambda content: content + bytes(8)),
    "another kind": cut(lambda content: b"\x7fELF\x02\x01\x01\x00" + content[8:]),
    "another width": written(lambda X, y: (X[:, 1:], y)),
    "another dtype": written(lambda X, y: (X.astype(np.int16), y)),
    "no rows": written(lambda X, y: (X[:0], y[:0])),
    "one dimension": written(lambda X, y: (X[:, 0], y)),
    "three dimensions": written(lambda X, y: (np.stack([X, X], axis=2), y)),
    "NaN": written(with_number(np.nan)),
    "infinity": written(with_number(-np.inf)),
    "a label less": written(lambda X, y: (X, y[:-1])),
    "words": written(lambda X, y: (X, np.array(["ant", "bee", "cat"])[y])),
    "numbers with a fraction": written(lambda X, y: (X, y + 0.5)),
    "labels below 0": written(lambda X, y: (X, y - 5)),
    "a folder": instead(Path.mkdir),
    "a link to nothing": instead(lambda path: path.symlink_to("nowhere")),
    "a link to itself": instead(lambda path: path.symlink_to(path.name)),
    "a pipe": instead(os.mkfifo),
    "another shard": instead(lambda path: path.symlink_to(path.name.replace(str(BAD), "0"))),
    "the same file": instead(lambda path: path.hardlink_to(path.with_name(path.name.replace(str(BAD), "2")))),
}
OF_LABELS = ("a label less", "words", "numbers with a fraction", "labels below 0")
OF_NUMBERS = ("NaN", "infinity")  # which are found where all rows are read
IMPOSSIBLE = {  # what such a file cannot hold, or is right in spite of
    "npz": ("bytes behind",),  # a zip archive is read from its end, and has checksums
    "npz, packed": ("bytes behind",),
    "safetensors": ("words",),
    "parquet lists": ("a label less", "another dtype"),  # lists of Python's numbers are all of one type
    "parquet columns": ("a label less", "no rows"),
}
CASES = [(kind, fault) for kind in WRITERS for fault in FAULTS if fault not in IMPOSSIBLE.get(kind, ())]


def spoilt(kind: str, fault: str, rows: Rows) -> tuple[Path, list[str]]:
    bad, labels = write_all(kind, rows)
    FAULTS[fault](bad, WRITERS[kind][1], *list(parts(rows))[BAD])
    return bad, labels


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Fail:
    """The sentence with which a command fails, having written nothing into the folder out."""

    def fail(*options: str, code: int = 4) -> str:
        out = [] if options[0] == "predict" else ["--out", "out"]
        assert main([*options, *out, *MACHINE]) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert not [path for path in Path("out").rglob("*") if path.is_file()]
        [sentence] = [line for line in told.err.splitlines() if line.startswith("fastmlp: ")]
        return sentence

    return fail


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A head on as many features, which have no names."""
    folder, rng = tmp_path_factory.mktemp("model"), np.random.default_rng(0)
    np.savez(folder / "data.npz", X=rng.normal(size=(60, WIDTH)), y=np.arange(60) % 3)
    argv = ["train", "--features", str(folder / "data.npz"), "--epochs", "1", "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fastmlp.report.head.write", lambda *_: None)
        assert main([*argv, *MACHINE, "--quiet"]) == 0
    return str(folder / "head")


@pytest.mark.parametrize(("kind", "fault"), CASES)
def test_a_bad_shard_is_named_by_what_trains(kind: str, fault: str, rows: Rows, fail: Fail) -> None:
    bad, labels = spoilt(kind, fault, rows)
    assert bad.name in fail("train", "--features", "shards", *labels, "--epochs", "1", *MEMORY)


@pytest.mark.parametrize("command", ["train", "sweep", "probe", "evaluate", "predict", "test"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_shard_is_named_by_every_command(fault: str, command: str, rows: Rows, fail: Fail, model: str) -> None:
    bad, labels = spoilt("npy", fault, rows)
    if command == "predict":
        if fault not in OF_LABELS:
            assert bad.name in fail("predict", "--model", model, "shards")
    elif command == "evaluate":
        assert bad.name in fail("evaluate", "--model", model, "--features", "shards", *labels)
    elif command == "test":
        np.savez("sound.npz", X=rows[0], y=rows[1])
        given = ["--features", "sound.npz", "--test-features", "shards", "--test-labels", str(LABELS)]
        assert bad.name in fail("train", *given, "--memory", "24KB")
    else:
        assert bad.name in fail(command, "--features", "shards", *labels)


@pytest.mark.parametrize("fault", ["empty", "a byte less", "bytes behind", "a folder", "a link to itself", "a pipe"])
def test_a_bad_file_of_labels_is_named(fault: str, rows: Rows, fail: Fail) -> None:
    write_all("npy", rows)
    bad = LABELS / f"part-{BAD}.npy"
    FAULTS[fault](bad)
    assert str(bad) in fail("train", "--features", "shards", "--labels", str(LABELS))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_shard_that_may_not_be_read(kind: str, rows: Rows, fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, labels = write_all(kind, rows)
    real = Path.open

    def refusing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == bad.name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    assert f"{bad} cannot be read (Permission denied)" in fail("train", "--features", "shards", *labels)


def test_a_folder_that_may_not_be_listed(fail: Fail, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    Path("shards").mkdir()
    monkeypatch.setattr(Path, "iterdir", refusing)
    for options in (["train", "--features", "shards"], ["predict", "--model", model, "shards"]):
        assert "shards cannot be listed (Permission denied)" in fail(*options)


@pytest.mark.parametrize("place", ["nothing/*.npy", "*.npy", "shards/[", "shards"])
def test_a_place_without_shards(place: str, fail: Fail, model: str) -> None:
    Path("shards").mkdir()
    for options in (["train", "--features", place], ["evaluate", "--model", model, "--features", place]):
        assert f"There are no .npy, .npz, .parquet or .safetensors files in {place}" in fail(*options)


def test_a_copy_of_a_shard_is_told_of(rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    write_all("npz", rows)
    shutil.copy("shards/part-0.npz", "shards/part-3.npz")
    assert main(["train", "--features", "shards", "--epochs", "1", *MACHINE]) == 0
    told = capsys.readouterr().err
    assert told.count("The shard shards/part-3.npz is a copy of shards/part-0.npz: its rows count twice.") == 1


# While they are read.


def vanish(path: Path) -> None:
    path.unlink()


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rewrite(path: Path) -> None:
    """Other content, as many bytes."""
    path.write_bytes(path.read_bytes()[::-1])


def block(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("moment", [0, 2, 10])  # before or within the first reading of all rows, and in a later one
@pytest.mark.parametrize("change", [vanish, touch, shorten, rewrite, block])
@pytest.mark.parametrize("kind", ["npy", "parquet lists"])
def test_a_shard_that_changes_is_named_when_it_is_read_again(
    kind: str, change: Callable[[Path], None], moment: int, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, labels = write_all(kind, rows)
    features = open_table(Path("shards"), LABELS if labels else None).features
    real, moments = Shard.read, iter(range(1000))

    def changing(shard: Shard, places: np.ndarray, *into: Any) -> None:
        if next(moments) == moment:
            change(bad)
        real(shard, places, *into)

    monkeypatch.setattr(Shard, "read", changing)
    with pytest.raises(DataError, match=rf"The shard {bad} (has changed since it was opened|is gone)"):
        deque((features[:] for _ in range(6)), maxlen=0)


@pytest.mark.parametrize("change", [vanish, touch, shorten, rewrite, block])
@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_shard_that_changes_before_it_is_read_with_others(
    kind: str, change: Callable[[Path], None], rows: Rows
) -> None:
    bad, labels = write_all(kind, rows)
    features: Any = open_table(Path("shards"), LABELS if labels else None).features
    out, scaling = np.empty(features.shape, np.float32), Moments.of(features[:]).scaling(each=True)
    features.read(np.arange(len(out)), out, scaling)
    change(bad)
    with pytest.raises(DataError, match=f"{bad} (has changed since it was opened|is gone)"):
        features.read(np.arange(len(out)), out, scaling)


@pytest.mark.parametrize("change", [vanish, shorten, rewrite])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_shard_that_changes_as_it_is_read(
    kind: str, change: Callable[[Path], None], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, labels = write_all(kind, rows)
    features: Any = open_table(Path("shards"), LABELS if labels else None).features
    file = type(features.shards[BAD].file)
    real = file.read

    def changing(own: Any, places: np.ndarray, *into: Any) -> None:
        if own.path == bad:
            change(bad)
        real(own, places, *into)

    monkeypatch.setattr(file, "read", changing)
    with pytest.raises(DataError, match=f"{bad} (has changed since it was opened|is gone)"):
        _ = features[:]


# Manifests, and feature stores.


def write_with_manifest(rows: Rows) -> Path:
    folder = Path("shards")
    folder.mkdir()
    write_manifest(folder, [write_shard(folder, number, *part) for number, part in enumerate(parts(rows))])
    return folder / MANIFEST


def change_entry(manifest: Path, **changes: object) -> None:
    content = json.loads(manifest.read_text())
    content["shards"][BAD] |= changes
    manifest.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../shards/a.npz", "inner/a.npz", "a.csv", MANIFEST, "..", ".", "", "a\0.npz", 5, None, "again"],
)
def test_a_manifest_of_names_that_no_shard_has(name: object, rows: Rows, fail: Fail) -> None:
    manifest = write_with_manifest(rows)
    change_entry(manifest, name="shard-00000.safetensors" if name == "again" else name)
    assert str(manifest) in fail("train", "--features", "shards")


@pytest.mark.parametrize("change", [{"rows": 29}, {"rows": 10**30}, {"sha256": "00"}, {"name": "a" * 300 + ".npy"}])
def test_a_manifest_that_is_out_of_date(change: dict[str, object], rows: Rows, fail: Fail, model: str) -> None:
    change_entry(write_with_manifest(rows), **change)
    named = str(change.get("name", "shard-00001.safetensors"))
    assert named in fail("train", "--features", "shards")
    assert named in fail("predict", "--model", model, "shards")


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda path: path.symlink_to(path.name), lambda path: path.write_text("{")]
)
def test_a_manifest_that_cannot_be_read(make: Callable[[Path], object], rows: Rows, fail: Fail) -> None:
    manifest = write_with_manifest(rows)
    manifest.unlink()
    make(manifest)
    assert str(manifest) in fail("train", "--features", "shards")


def test_shards_that_a_manifest_does_not_list_are_told_of(rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    write_with_manifest(rows)
    write_shard(Path("shards"), 3, *rows)
    assert main(["train", "--features", "shards", "--epochs", "1", *MACHINE]) == 0
    said = "Left out 1 files of shards that its manifest.json does not list: shard-00003.safetensors."
    assert said in capsys.readouterr().err


@pytest.fixture
def store() -> Path:
    argv = ["extract", "--dataset", "synthetic:200", "--extractor", "pixels", "--limit", "60", "--quiet"]
    assert main([*argv, *MACHINE]) == 0
    [found] = Path(os.environ["FASTMLP_CACHE_DIR"], "features").glob("*-train-*")
    return found


@pytest.mark.usefixtures("store")
def test_a_feature_store_is_trained_on_and_answered_in_windows(store: Path) -> None:
    given = ["--features", str(store), *MACHINE, "--quiet", "--memory", "700KB", "--epochs", "1"]
    assert main(["train", *given, "--out", "run"]) == 0
    assert json.loads(Path("run/head/results.json").read_text())["data"]["window_rows"] == 18
    sweep = ["--learning-rates", "0.01", "--weight-decays", "0", "--seeds", "1"]
    assert main(["sweep", *given, *sweep, "--out", "swept"]) == 0
    assert main(["evaluate", "--model", "run/head", "--features", str(store), *MACHINE]) == 0
    assert main(["predict", "--model", "run/head", str(store), *MACHINE]) == 0


def test_a_feature_store_that_is_not_finished_is_not_trained_on(store: Path, fail: Fail, model: str) -> None:
    partial = store.rename(store.with_name(f"{store.name}.partial"))
    for name in (MANIFEST, "store.json"):
        (partial / name).unlink()
    given = [["train", "--features", str(partial)], ["predict", "--model", model, str(partial)]]
    for options in (*given, ["train", "--features", f"{partial}/*"]):
        sentence = fail(*options)
        assert f"{partial} is a feature store whose extraction has not finished" in sentence
        assert sentence.endswith(f"give {store}.")


def of_the_first_format(store: Path) -> Path:
    """The same store, as it was once written."""
    content = open_store(store)
    old = Path(store.name)
    old.mkdir()
    np.save(old / "features.npy", content.features)
    np.save(old / "labels.npy", content.labels)
    sums = {name: sha256_of(old / name) for name in ("features.npy", "labels.npy")}
    (old / "store.json").write_text(json.dumps({"format": 1, "provenance": content.provenance, "sha256": sums}))
    return old


def test_a_store_of_the_first_format_is_read_in_windows(store: Path) -> None:
    old = of_the_first_format(store)
    for place, out in ((store, "new"), (old, "old")):
        argv = ["train", "--features", str(place), "--memory", "700KB", "--epochs", "2", "--out", out]
        assert main([*argv, *MACHINE]) == 0
    figures = [json.loads(Path(out, "head/results.json").read_text())["figures"] for out in ("new", "old")]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("file", ["features.npy", "labels.npy"])
def test_a_store_of_the_first_format_that_is_damaged(file: str, store: Path, fail: Fail) -> None:
    damaged = of_the_first_format(store) / file
    content = bytearray(damaged.read_bytes())
    content[-2] ^= 1
    damaged.write_bytes(content)
    assert f"{damaged} is missing or damaged" in fail("train", "--features", str(damaged.parent))


# Labels among the columns.


def test_labels_among_columns_are_no_features_of_shards_either(rows: Rows) -> None:
    write_all("parquet columns", rows)
    np.testing.assert_array_equal(open_features(Path("shards"))[:], rows[0])
    np.testing.assert_array_equal(open_features(Path("shards/part-0.parquet"))[:], rows[0][:30])
