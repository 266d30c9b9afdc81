"""Parquet files and tar archives of images: the same datasets as folders, and all that can be wrong with them."""

import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.common.errors import BackendError, DataError, FastMLPError, UsageError
from fastmlp.datasets import Dataset, Reading, mapped, places
from fastmlp.datasets.sources import PartFile
from fastmlp.experiments.config import Config
from tests.datasets.stored import (
    LAYOUTS,
    Sample,
    halves,
    members_of,
    samples_in,
    write_layouts,
    write_parquet,
    write_tar,
)
from tests.photos import CLASSES, draw_photos

pytestmark = pytest.mark.usefixtures("own_folders")
SKIP = Reading(on_bad_image="skip")
KEPT = Path("kept")


@pytest.fixture
def photos(own_folders: None) -> None:
    """folder/, parquet/ and tar/ of the same images in train and test."""
    draw_photos(Path("folder"), {"train": 8, "test": 3})
    write_layouts(Path("folder"))


@pytest.fixture
def samples(own_folders: None) -> list[Sample]:
    """Ten of each class, for one set."""
    draw_photos(Path("folder"), {".": 10})
    return samples_in(Path("folder"))


def same(one: Dataset, other: Dataset) -> bool:
    splits = [(one.train, other.train), (one.test, other.test)]
    return one.class_names == other.class_names and all(a.content_hash == b.content_hash for a, b in splits)


# What is read.


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    "name",
    [
        "parquet:parquet",
        "tar:tar",
        "parquet:parquet/*.parquet",
        "tar:tar/{train,test}-{00000..00001}-of-00002.tar",
        "tar:file://{here}/tar",
        "folder:file://{here}/folder",
        "parquet:file://{here}/parquet/t*.parquet",
        "folder:memory://{here}/folder",
        "parquet:memory://{here}/parquet",
        "tar:memory://{here}/tar/train-{00000..00001}-of-00002.tar",
    ],
)
def test_the_dataset_is_the_same_whatever_it_lies_in(name: str, tmp_path: Path) -> None:
    if "memory" in name:
        pytest.importorskip("fsspec").filesystem("memory").put(f"{tmp_path}/", f"{tmp_path}/", recursive=True)
    found = datasets.load(name.replace("{here}", str(tmp_path)))
    if "test" not in name and "{0" in name:
        assert len(found.train) + len(found.test) == 16
    else:
        assert same(found, datasets.load("folder:folder"))


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_one_set_is_split_as_a_folder_is(samples: list[Sample], ending: str) -> None:
    folder = datasets.load("folder:folder")
    write_parquet(Path("a.parquet"), samples, named=False)
    write_parquet(Path("b.parquet"), samples, named=False, image=[content for _, content, _ in samples])
    write_tar(Path(f"a.{ending}"), members_of(samples))
    for name in ("parquet:a.parquet", "parquet:b.parquet", f"tar:a.{ending}"):
        assert same(folder, datasets.load(name)), name


def test_the_order_of_the_classes_does_not_matter(samples: list[Sample]) -> None:
    """Only that of the images of one class does."""
    mixed = [sample for pair in zip(samples[:10], samples[10:], strict=True) for sample in pair]
    write_parquet(Path("a.parquet"), mixed)
    assert same(datasets.load("parquet:a.parquet"), datasets.load("folder:folder"))


def test_the_files_of_a_sample_may_be_apart(samples: list[Sample]) -> None:
    write_tar(Path("a.tar"), sorted(members_of(samples), key=lambda member: member[0][-3:]))
    assert same(datasets.load("tar:a.tar"), datasets.load("folder:folder"))


@pytest.mark.parametrize("form", ['{"label": %s}', '{"cls": %s, "more": 1}'])
def test_labels_of_tars_may_be_json(samples: list[Sample], form: str) -> None:
    members = [
        member
        for name, content, label in samples
        for member in ((f"./a/{name}.PNG", content), (f"./a/{name}.json", (form % CLASSES.index(label)).encode()))
    ]
    write_tar(Path("a.tar"), members)
    found = datasets.load("tar:a.tar")
    assert found.class_names == ("0", "1")
    assert found.train.content_hash == datasets.load("folder:folder").train.content_hash


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("suffix", "says", "left_out"),
    [
        ("json", '{"label": "NAME"}', {}),
        ("json", '{"cls": "NAME"}', {}),
        ("json", '{"label": NUMBER}', {".json label beside .cls": 20}),
        ("json", '{"label": "NAME", "cls": NUMBER}', {".json cls beside .cls": 20}),
        ("json", '{"label": null, "cls": NUMBER}', {".json cls beside .cls": 20}),
        ("more.cls", "NAME", {}),
        ("more.cls", "NUMBER", {".cls beside .cls": 20}),
    ],
)
def test_of_a_word_and_a_number_that_label_an_image_one_is_left_out(
    samples: list[Sample], suffix: str, says: str, left_out: dict[str, int], first: bool
) -> None:
    more = []
    for name, _, label in samples:
        told = says.replace("NAME", label).replace("NUMBER", str(CLASSES.index(label)))
        more.append((f"{name}.{suffix}", told.encode()))
    write_tar(Path("a.tar"), [*more, *members_of(samples)] if first else [*members_of(samples), *more])
    found = datasets.load("tar:a.tar")
    assert same(found, datasets.load("folder:folder"))
    assert found.left_out.files == left_out


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"json": b'{"label": "dog"}', "cls": b"cat"}, "'cat' in a.tar/a.cls and 'dog' in a.tar/a.json: remove one of"),
        ({"cls": b"4", "json": b'{"cls": 3}'}, "4 in a.tar/a.cls and 3 in a.tar/a.json"),
        ({"json": b'{"label": 4, "cls": 3}'}, "4 in a.tar/a.json and 3 in a.tar/a.json"),
        ({"x.cls": b"dog", "cls": b"cat"}, "'cat' in a.tar/a.cls and 'dog' in a.tar/a.x.cls"),
    ],
)
def test_labels_of_an_image_that_differ_are_refused(samples: list[Sample], told: dict[str, bytes], said: str) -> None:
    more = [(f"a.{suffix}", content) for suffix, content in told.items()]
    write_tar(Path("a.tar"), [*members_of(samples), ("a.png", samples[0][1]), *more])
    with pytest.raises(DataError, match=f"^a.tar/a.png has two labels, {said}"):
        datasets.load("tar:a.tar")


def test_classes_are_those_that_the_file_names(samples: list[Sample]) -> None:
    """Also where their order is another, or the labels are plain numbers or words of a dictionary."""
    import pyarrow as pa

    labels = [label for _, _, label in samples]
    write_parquet(Path("a.parquet"), samples, named=False, label=pa.array(labels).dictionary_encode())
    assert datasets.load("parquet:a.parquet").class_names == CLASSES
    write_parquet(Path("b.parquet"), samples, named=False, label=[7 - 4 * (label == "cat") for label in labels])
    assert datasets.load("parquet:b.parquet").class_names == ("3", "7")


def test_what_else_lies_there_is_told(samples: list[Sample], capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test", "validation"):
        write_tar(Path("tars", f"{split}.tar"), members_of(samples))
    Path("tars/README.md").write_text("")
    found = datasets.load("tar:tars")
    assert found.left_out.files == {".md": 1, ".tar of neither train nor test": 1}
    assert "Left out of tars: 1 .md, 1 .tar of neither train nor test." in capsys.readouterr().err


# What is kept.


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sources that were read."""
    seen: list[Any] = []
    write = PartFile.write

    def seen_writing(part: Any, *arguments: Any) -> None:
        write(part, *arguments)
        seen.append(part.source)

    monkeypatch.setattr(PartFile, "write", seen_writing)
    return seen


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_read_once(layout: str, read: list[Any]) -> None:
    first = datasets.load(f"{layout}:{layout}", keep=KEPT)
    count = len(read)
    assert same(first, datasets.load(f"{layout}:{layout}", keep=KEPT))
    assert count == len(read) > 0
    file = next(path for path in Path(layout).rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes())  # at another time
    assert same(first, datasets.load(f"{layout}:{layout}", keep=KEPT))
    assert len(read) > count


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_killed_run_resumes_with_what_was_not_read(
    layout: str, read: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("image_files", "parquet"):
        monkeypatch.setattr(f"fastmlp.datasets.{module}.PART", 4)
    whole = datasets.load(f"{layout}:{layout}", keep=Path("elsewhere"))
    parts = len(read)

    def killed(parts: Sequence[PartFile], max_pixels: int) -> Iterator[int]:
        for number, part in enumerate(parts[:-1]):
            part.write(max_pixels, 1)
            yield number
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        datasets.load(f"{layout}:{layout}", reader=killed, keep=KEPT)
    next(KEPT.rglob("*.part")).write_bytes(b"damaged")
    read.clear()
    assert same(whole, datasets.load(f"{layout}:{layout}", keep=KEPT))
    assert len(read) == 2 < parts


def test_an_image_of_which_a_part_finds_no_room_is_not_kept(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes the first bytes of a write, and tells of the rest only by their number."""
    with monkeypatch.context() as patched:
        patched.setattr("fastmlp.datasets.image_store.os.pwrite", lambda *_: mapped.IMAGE_BYTES - 1)
        with pytest.raises(FastMLPError, match="No space left on device"):
            datasets.load("folder:folder", keep=KEPT)
    assert same(datasets.load("folder:folder", keep=KEPT), datasets.load("folder:folder"))


@pytest.mark.usefixtures("photos")
def test_damage_to_what_is_kept_is_named() -> None:
    datasets.load("parquet:parquet", keep=KEPT)
    (images,) = KEPT.rglob("train-images.npy")
    content = images.read_bytes()
    images.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"kept in .* are damaged: delete that folder"):
        datasets.load("parquet:parquet", keep=KEPT)


@pytest.mark.usefixtures("photos")
def test_many_images_stay_in_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    few = datasets.load("tar:tar")
    monkeypatch.setattr(mapped, "MOST_IN_MEMORY", 0)
    many = datasets.load("tar:tar")
    assert isinstance(many.train.images, mapped.MappedImages)
    assert same(few, many)
    assert same(few.limited(5), many.limited(5))
    rows = np.array([3, 0, 3])
    for index in (2, slice(1, 4), rows):
        assert np.array_equal(many.train.images[index], few.train.images[index])
    assert np.array_equal(np.asarray(many.train.images), few.train.images)
    drawn = datasets.load("synthetic:60").train
    assert isinstance(drawn.images, mapped.MappedImages)
    monkeypatch.undo()
    assert datasets.load("synthetic:60").train.content_hash == drawn.content_hash


# Bad images.


@pytest.mark.parametrize("content", [b"no image", b"", None])
def test_bad_images_are_named_by_their_row_or_member(samples: list[Sample], content: bytes | None) -> None:
    good = [sample[1] for sample in samples]
    write_parquet(Path("a.parquet"), samples, image=[*good[:7], content, *good[8:]])
    name = f"{samples[7][0]}.png"
    write_tar(Path("a.tar"), [(n, (content or b"") if n == name else c) for n, c in members_of(samples)])
    for dataset, place in (("parquet:a.parquet", "a.parquet#7"), ("tar:a.tar", f"a.tar/{name}")):
        with pytest.raises(DataError, match=rf"^{place} cannot be read as an image \(.*--on-bad-image skip"):
            datasets.load(dataset, keep=KEPT)
        found = datasets.load(dataset, reading=SKIP, keep=KEPT)
        assert list(found.left_out.images) == [place]
        assert len(found.train) + len(found.test) == 19
        with pytest.raises(DataError, match=rf"^{place} cannot be read"):
            datasets.load(dataset, keep=KEPT)


def test_a_label_without_an_image_is_a_bad_one(samples: list[Sample]) -> None:
    write_tar(Path("a.tar"), [*members_of(samples), ("more.cls", b"cat")])
    with pytest.raises(DataError, match=r"^a.tar/more cannot be read as an image \(a label without an image\)"):
        datasets.load("tar:a.tar")
    assert list(datasets.load("tar:a.tar", reading=SKIP).left_out.images) == ["a.tar/more"]


# What is refused.


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image": None}, r"has no column of images, only label: call one of bytes, or of bytes and path, 'image'\.$"),
        ({"image": None, "a": [b""] * 20, "b": [b""] * 20}, r"'a' and 'b', each of which could be the images"),
        ({"label": None}, r"has no column of labels, only image: call one of whole numbers or words 'label'"),
        ({"label": None, "y": [0] * 20, "target": [0] * 20}, r"'y' and 'target', each of which could be the labels"),
        ({"label": [0.5] * 20}, r"Column 'label' of a.parquet is of type double: give labels that are whole"),
        ({"label": [0] * 19 + [None]}, r"a.parquet#19 has no label"),
        ({"label": [0] * 3 + [-1] + [1] * 16}, r"a.parquet#3 has the label -1, which stands for none"),
        ({"label": [0] * 3 + [5] + [1] * 16}, r"a.parquet#3 has label 5, but the file names 2 classes"),
        ({"label": [0] * 19 + [1]}, r"The class 'dog' of a.parquet has only one image"),
    ],
)
def test_columns_that_cannot_be_used(samples: list[Sample], columns: dict[str, Any], said: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    write_parquet(Path("a.parquet"), samples, **{name: value for name, value in columns.items() if value is not None})
    table = parquet.read_table("a.parquet").drop_columns([name for name, value in columns.items() if value is None])
    assert isinstance(table, pa.Table)
    parquet.write_table(table, "a.parquet")
    with pytest.raises(DataError, match=said):
        datasets.load("parquet:a.parquet")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"thumb": [b"x"] * 20}, "1 column 'thumb'"),
        ({"y": [3] * 20, "img": [b"x"] * 20}, "1 column 'img', 1 column 'y'"),
    ],
)
def test_other_columns_of_images_or_labels_are_told(
    samples: list[Sample], columns: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(Path("a", "0.parquet"), samples, **columns)
    write_parquet(Path("a", "1.parquet"), samples, **columns)
    left_out = datasets.load("parquet:a").left_out
    assert capsys.readouterr().err == f"Left out of a: {said}.\n"
    assert str(left_out) == said


@pytest.mark.parametrize("members", [[], [("a.txt", b"hello")], [(".a.png", b"hidden")]])
@pytest.mark.parametrize("empty", ["only", "train", "test"])
def test_files_without_images_are_named(samples: list[Sample], members: list[tuple[str, bytes]], empty: str) -> None:
    from pyarrow import parquet

    for name in ("train", "test") if empty != "only" else ("only",):
        write_tar(Path("tars", f"{name}.tar"), members if name == empty else members_of(samples))
        write_parquet(Path("tables", f"{name}.parquet"), samples)
        if name == empty:
            none = parquet.read_table(f"tables/{name}.parquet")[:0]
            parquet.write_table(none, f"tables/{name}.parquet")
    said = "" if empty == "only" else f" to {empty} on"
    for name in ("tar:tars", "parquet:tables"):
        with pytest.raises(DataError, match=f"{name} has no images{said}: add some"):
            datasets.load(name, reading=SKIP)


@pytest.mark.parametrize("name", ["image", "label"])
def test_columns_of_one_name_are_told(samples: list[Sample], name: str) -> None:
    from pyarrow import parquet

    write_parquet(Path("a.parquet"), samples)
    table = parquet.read_table("a.parquet")
    parquet.write_table(table.append_column(name, table.column(name)), "a.parquet")
    with pytest.raises(DataError, match=f"a.parquet has 2 columns called '{name}': rename all but the one of {name}s"):
        datasets.load("parquet:a.parquet")


def test_other_members_of_archives_are_told(samples: list[Sample], capsys: pytest.CaptureFixture[str]) -> None:
    """Each time, though they are read once."""
    more = [
        ("cat-0.txt", b"a cat"),
        ("dog-0.TXT", b"a dog"),
        ("README", b"pets"),
        (".hidden", b""),
        ("cat-0.json", b"{}"),
    ]
    write_tar(Path("a.tar"), [*members_of(samples), *more])
    with tarfile.open("a.tar", "a") as archive:
        link = tarfile.TarInfo("again.png")
        link.type, link.linkname = tarfile.SYMTYPE, samples[0][0]
        archive.addfile(link)
    for _ in range(2):
        dataset = datasets.load("tar:a.tar", keep=KEPT)
        told = "Left out of the files of tar:a.tar: 2 .txt, 1 without a suffix, 1 link or device.\n"
        assert capsys.readouterr().err == told
        assert dataset.left_out.files == {".txt": 2, "without a suffix": 1, "link or device": 1}


def test_files_that_do_not_go_together(samples: list[Sample]) -> None:
    for number, part in halves(samples):
        first = number.startswith("00000")
        write_parquet(Path("words", f"{number}.parquet"), part, named=not first)
        members = [(name, b"1" if first and name.endswith("cls") else content) for name, content in members_of(part)]
        write_tar(Path("mixed", f"{number}.tar"), members)
    with pytest.raises(DataError, match=r"words/00001.* has its images and labels in other columns than words/00000"):
        datasets.load("parquet:words")
    with pytest.raises(DataError, match=r"mixed/00001.*\.tar are words, but some of mixed/00000.*whole numbers"):
        datasets.load("tar:mixed")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.png", b"1")], "a.tar/a.png has no label: put a.cls beside it"),
        ([("a.png", b"1"), ("a.json", b"{}")], "a.tar/a.png has no label"),
        ([("a.png", b"1"), ("a.jpg", b"1"), ("a.cls", b"1")], "two images in one sample, a.png and a.jpg"),
        ([("a.png", b"1"), ("a.cls", b"")], "a.tar/a.cls has the label ''"),
        ([("a.png", b"1"), ("a.cls", b"-1")], "a.tar/a.cls has the label -1"),
        ([("a.png", b"1"), ("a.cls", b"\xff")], "a.tar/a.cls is damaged"),
        ([("a.png", b"1"), ("a.cls", b"9" * 5000)], "a.tar/a.cls is damaged"),
        ([("a.png", b"1"), ("a.json", b"{")], "a.tar/a.json is damaged"),
        ([("a.png", b"1"), ("a.json", b'{"label": 1.5}')], "a.tar/a.json has the label 1.5"),
        ([("a.png", b"1"), ("a.json", b'{"label": true}')], "a.tar/a.json has the label True"),
    ],
)
def test_samples_that_cannot_be_used(members: list[tuple[str, bytes]], said: str) -> None:
    write_tar(Path("a.tar"), members)
    with pytest.raises(DataError, match=said):
        datasets.load("tar:a.tar", reading=SKIP)


@pytest.mark.parametrize("bytes_kept", [0, 100, 512, 700, 5000, -10240, -9216, -600])
def test_a_truncated_archive_is_named(samples: list[Sample], bytes_kept: int) -> None:
    """Wherever it ends: in a file, in a header, between files."""
    write_tar(Path("a.tar"), members_of(samples))
    content = Path("a.tar").read_bytes()
    end = content.rstrip(b"\0")
    Path("a.tar").write_bytes(content[:bytes_kept] if bytes_kept >= 0 else end[: max(0, len(end) + bytes_kept + 600)])
    with pytest.raises(DataError, match=r"^a\.tar is truncated or damaged \(.*\): fetch it again\.$"):
        datasets.load("tar:a.tar", reading=SKIP)


def test_other_damage_is_named(samples: list[Sample]) -> None:
    write_tar(Path("a.tar"), members_of(samples))
    write_tar(Path("b.tar.gz"), members_of(samples))
    write_parquet(Path("a.parquet"), samples)
    content = bytearray(Path("a.tar").read_bytes())
    first = 512 + -(-len(samples[0][1]) // 512) * 512
    content[first : first + 512] = b"x" * 512  # the header of the second member
    Path("a.tar").write_bytes(content)
    for name in ("b.tar.gz", "a.parquet"):
        Path(name).write_bytes(Path(name).read_bytes()[:-1000])
    for kind, name in (("tar", "a.tar"), ("tar", "b.tar.gz"), ("parquet", "a.parquet")):
        with pytest.raises(DataError, match=f"^{name} (is truncated or damaged|cannot be read) "):
            datasets.load(f"{kind}:{name}")


@pytest.mark.parametrize("kind", ["folder", "parquet", "tar"])
@pytest.mark.parametrize("colon", ["", ":"])
def test_a_dataset_without_its_path_is_told_what_is_missing(kind: str, colon: str) -> None:
    with pytest.raises(UsageError, match=f"{kind} needs a path: for example, --dataset {kind}:photos"):
        datasets.check_name(f"{kind}{colon}")


@pytest.mark.parametrize("kind", ["parquet", "tar"])
@pytest.mark.parametrize("place", ["gone", "empty", "gone/*.tar", "a.txt", "memory://gone", "file:///gone.tar"])
def test_places_without_files_are_named(kind: str, place: str) -> None:
    Path("empty").mkdir()
    Path("a.txt").write_text("")
    with pytest.raises(DataError, match=rf"There are no \.{kind}.* files in .*gone|empty|a\.txt.*: check the path"):
        datasets.load(f"{kind}:{place}")


def test_a_file_that_braces_name_must_be_there(samples: list[Sample]) -> None:
    write_tar(Path("a-01.tar"), members_of(samples))
    with pytest.raises(DataError, match=r"a-02\.tar is missing"):
        datasets.load("tar:a-{01..02}.tar")


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    "place", ["parquet:parquet", "tar:tar/*", "tar:file://{here}/tar", "parquet:memory://x/parquet"]
)
def test_a_file_that_others_tell_of_must_be_there(place: str, tmp_path: Path) -> None:
    for gone in ("parquet/train-00001-of-00002.parquet", "tar/train-00001-of-00002.tar"):
        Path(gone).unlink()
    pytest.importorskip("fsspec").filesystem("memory").put("parquet/", "/x/parquet/", recursive=True)
    with pytest.raises(DataError, match=r"train-00001-of-00002.* is missing, by the name of train-00000-of-00002"):
        datasets.load(place.replace("{here}", str(tmp_path)))
    with pytest.raises(DataError, match=r"only one image|one class only"):
        datasets.load("tar:tar/test-00001-of-00002.tar")  # alone, it is what somebody wants


def test_train_without_test_is_refused_among_others(samples: list[Sample]) -> None:
    for split in ("train", "validation"):
        write_tar(Path("tars", f"{split}.tar"), members_of(samples))
    with pytest.raises(DataError, match=r"tars has files of train but none of test"):
        datasets.load("tar:tars")
    assert len(datasets.load("tar:tars/train*").train) == 16


# What is elsewhere.


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_url_that_nobody_knows_is_a_mistake(kind: str) -> None:
    with pytest.raises(
        UsageError, match=r"nonsense://bucket/x cannot be read \(.*nonsense.*: check the part before ://"
    ):
        datasets.load(f"{kind}:nonsense://bucket/x")


def test_without_fsspec_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UsageError, match=r"s3://bucket/x needs fsspec: pip install 'fastmlp\[remote\]'"):
        datasets.load("tar:s3://bucket/x")


def test_without_what_a_url_needs_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match=r"s3://bucket/x cannot be read yet \(.*s3fs.*\): pip install 'fsspec\[s3\]'"):
        datasets.load("tar:s3://bucket/x")


def test_without_pyarrow_the_way_to_it_is_told(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(Path("a.parquet"), samples)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BackendError, match=r"pip install 'fastmlp\[parquet\]'"):
        datasets.load("parquet:a.parquet")


def test_what_a_file_system_raises_is_told_as_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether buckets are missing, credentials are wrong, or networks are down: no image counts as bad for it."""
    fsspec = pytest.importorskip("fsspec")
    draw_photos(Path("folder"), {".": 4})
    system = fsspec.filesystem("memory")
    system.put(f"{tmp_path}/folder/", f"{tmp_path}/folder/", recursive=True)
    place = f"folder:memory://{tmp_path}/folder"

    def fails(*_: Any, **__: Any) -> Any:
        raise PermissionError("Access Denied")

    for method in ("cat_file", "ls", "info"):
        with monkeypatch.context() as patched:
            patched.setattr(type(system), method, fails)
            with pytest.raises(DataError, match=r"memory://.* cannot be read \(PermissionError: Access Denied\)"):
                datasets.load(place, reading=SKIP)


def test_braces_are_as_shells_have_them() -> None:
    assert places._unbraced("a-{08..10}{x,y}") == ["a-08x", "a-08y", "a-09x", "a-09y", "a-10x", "a-10y"]
    assert places._unbraced("a-{02..00}") == ["a-02", "a-01", "a-00"]


@pytest.mark.parametrize(
    ("dataset", "folder"),
    [
        ("parquet:pets", "parquet_pets"),
        ("tar:pets/*.tar", "tar_pets"),
        ("tar:s3://bucket/pets/{0..9}.tar", "pets"),
        ("tar:*.tar", "tar"),
        ("folder:a/pets/", "pets"),
    ],
)
def test_runs_are_named_by_the_last_name_without_signs(dataset: str, folder: str) -> None:
    assert Config(dataset=dataset).folder == Path("runs", f"{folder}-patches")
