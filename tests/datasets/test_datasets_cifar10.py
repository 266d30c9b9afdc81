"""CIFAR-10's binary files: read, refused, found, unpacked. The download is tested in test_datasets_download.py."""

import io
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.common.errors import DataError
from fastmlp.common.files import sha256_of
from fastmlp.datasets import cifar10, load
from fastmlp.datasets.archive import unpack
from fastmlp.datasets.download import md5_of

RECORD = 3073
SIZES = dict.fromkeys(cifar10.OFFICIAL_SHA256, 2 * RECORD)


def records(labels, seed=0):
    """The bytes of random records with these labels."""
    rows = np.random.default_rng(seed).integers(0, 256, (len(labels), RECORD), dtype=np.uint8)
    rows[:, 0] = labels
    return rows.tobytes()


def write_folder(folder, **changes):
    """A small valid folder with `changes`: the content of a file by its name without suffix, None for no file."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name.removesuffix(".bin") for name in cifar10.FILES]
    contents = {name: records([3, 9], seed) for seed, name in enumerate(names)} | changes
    for name, content in contents.items():
        if content is not None:
            (folder / f"{name}.bin").write_bytes(content)
    return folder


def write_archive(path, members):
    """A .tar.gz of (name or TarInfo, content) pairs; a TarInfo's size may differ from its content's."""
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def good_members():
    yield "cifar-10-batches-bin/readme.html", b"<html>"
    for seed, name in enumerate(SIZES):
        yield f"cifar-10-batches-bin/{name}", records([1, 2], seed)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no environment, and small official files."""
    for name in ("FASTMLP_DATA_DIR", "FASTMLP_CIFAR10_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar10, "FILE_BYTES", 2 * RECORD)
    return tmp_path / "cache"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive that passes for the official one."""
    (tmp_path / "data").mkdir()
    path = write_archive(tmp_path / "data" / cifar10.ARCHIVE, good_members())
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", md5_of(path))
    return path


class TestReading:
    @settings(max_examples=30)
    @given(st.lists(st.integers(0, 9), min_size=5, max_size=9), st.lists(st.integers(0, 9), min_size=1, max_size=3))
    def test_records_come_back_as_they_were_written(self, train_labels, test_labels):
        train, test = records(train_labels, 1), records(test_labels, 2)
        ends = [RECORD * end for end in (0, 1, 2, 3, 4, len(train_labels))]
        parts = {f"data_batch_{i + 1}": train[ends[i] : ends[i + 1]] for i in range(5)}
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), **parts, test_batch=test)
            dataset = cifar10.read_folder(Path(folder))
        for split, labels, content in ((dataset.train, train_labels, train), (dataset.test, test_labels, test)):
            assert split.labels.tolist() == labels
            assert split.images.flags.c_contiguous
            pixels = split.images.reshape(len(labels), -1)
            written = np.column_stack([split.labels.astype(np.uint8), pixels])
            assert written.tobytes() == content

    @settings(max_examples=60)
    @given(st.binary(max_size=40), st.sampled_from((0, RECORD, 2 * RECORD)) | st.integers(0, 9999), st.binary())
    def test_any_bytes_give_a_dataset_or_a_data_error(self, head, length, meta):
        content = head.ljust(length, b"\x07")
        valid = len(content) % RECORD == 0 and len(content) > 0 and max(content[::RECORD]) <= 9
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), data_batch_2=content)
            Path(folder, "batches.meta.txt").write_bytes(meta)
            if valid:
                assert len(cifar10.read_folder(Path(folder)).train) == 8 + len(content) // RECORD
            else:
                with pytest.raises(DataError, match=r"data_batch_2\.bin"):
                    cifar10.read_folder(Path(folder))

    def test_red_rows_come_first(self, tmp_path):
        row = np.arange(RECORD - 1) // 32 % 256  # every row of 32 pixels is its own number
        folder = write_folder(tmp_path, test_batch=bytes([4]) + row.astype(np.uint8).tobytes())
        image = cifar10.read_folder(folder).test.images[0]
        assert np.array_equal(image[:, :, 0], np.arange(96).reshape(3, 32))
        assert np.array_equal(image[:, :, 0], image[:, :, 31])

    def test_the_training_files_follow_each_other_by_name(self, tmp_path):
        folder = write_folder(tmp_path, data_batch_1=records([1, 2]), data_batch_2=records([3]))
        assert cifar10.read_folder(folder).train.labels.tolist() == [1, 2, 3, 3, 9, 3, 9, 3, 9]

    @pytest.mark.parametrize("length", [0, 1, RECORD - 1, RECORD + 1, 2 * RECORD - 1])
    def test_a_truncated_file_is_named(self, tmp_path, length):
        folder = write_folder(tmp_path, data_batch_2=records([1, 2])[:length])
        with pytest.raises(DataError, match=rf"data_batch_2\.bin is truncated.* {length:,} bytes"):
            cifar10.read_folder(folder)

    @pytest.mark.parametrize("label", [10, 200])
    def test_a_label_out_of_range_is_named_with_its_record(self, tmp_path, label):
        folder = write_folder(tmp_path, test_batch=records([0, 9, label]))
        with pytest.raises(DataError, match=rf"test_batch\.bin: record 2 has label {label}"):
            cifar10.read_folder(folder)

    @pytest.mark.parametrize("missing", [[name] for name in cifar10.FILES] + [cifar10.FILES[3:5], cifar10.FILES[:5]])
    def test_missing_files_are_named(self, tmp_path, missing):
        folder = write_folder(tmp_path, **{name.removesuffix(".bin"): None for name in missing})
        with pytest.raises(DataError, match=f"lacks {', '.join(missing)}: delete"):
            load("cifar10", folder)

    @pytest.mark.parametrize("extra", ["data_batch_1 (1)", "data_batch_6", "data_batch_10", "test_batch copy"])
    def test_a_file_of_another_name_is_left_out_and_told(self, tmp_path, capsys, extra):
        plain = cifar10.read_folder(write_folder(tmp_path))
        dataset = cifar10.read_folder(write_folder(tmp_path, **{extra: records([5, 5])}))
        assert dataset.train.content_hash == plain.train.content_hash
        assert dataset.left_out.files == {f"{extra}.bin": 1}
        assert f"Left out of {tmp_path}: {extra}.bin" in capsys.readouterr().err
        assert not plain.left_out

    def test_the_archives_other_files_are_not_told_of(self, tmp_path, capsys):
        write_folder(tmp_path)
        for name in ("readme.html", "batches.meta.txt", "._data_batch_1.bin"):
            (tmp_path / name).write_text("")
        assert not cifar10.read_folder(tmp_path).left_out
        assert "Left out" not in capsys.readouterr().err

    def test_a_folder_in_the_place_of_a_file_is_a_data_error(self, tmp_path):
        folder = write_folder(tmp_path, data_batch_1=None)
        (folder / "data_batch_1.bin").mkdir()
        with pytest.raises(DataError, match=r"data_batch_1\.bin cannot be read"):
            cifar10.read_folder(folder)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have names")
    def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(self, tmp_path):
        folder = write_folder(tmp_path, data_batch_1=None)
        os.mkfifo(folder / "data_batch_1.bin")
        with pytest.raises(DataError, match=r"data_batch_1\.bin cannot be read, because it is not a file"):
            cifar10.read_folder(folder)

    @pytest.mark.parametrize(
        ("meta", "first"), [(None, "airplane"), ("a\nb\n", "airplane"), ("\n".join("klmnopqrst") + "\n\n", "k")]
    )
    def test_ten_names_in_the_meta_file_are_the_class_names(self, tmp_path, meta, first):
        folder = write_folder(tmp_path)
        if meta is not None:
            (folder / "batches.meta.txt").write_text(meta)
        names = cifar10.read_folder(folder).class_names
        assert (len(names), names[0]) == (10, first)

    def test_files_that_are_not_the_official_ones_are_noted_and_told(self, tmp_path, monkeypatch, capsys):
        folder = write_folder(tmp_path)
        note = cifar10.read_folder(folder).note
        assert "not those of the official archive" in note
        assert note in capsys.readouterr().err
        monkeypatch.setattr(cifar10, "OFFICIAL_SHA256", {path.name: sha256_of(path) for path in folder.iterdir()})
        assert cifar10.read_folder(folder).note == ""


class TestFinding:
    def test_the_folder_or_the_one_that_holds_it_will_do(self, tmp_path):
        folder = write_folder(tmp_path / "cifar-10-batches-bin")
        assert load("cifar10", folder).train.content_hash == load("cifar10", tmp_path).train.content_hash

    def test_the_argument_beats_the_environment_which_beats_the_cache(self, tmp_path, monkeypatch, cache):
        write_folder(cache / "cifar-10-batches-bin", test_batch=records([1]))
        write_folder(tmp_path / "environment", test_batch=records([2]))
        write_folder(tmp_path / "argument", test_batch=records([3]))
        assert load("cifar10").test.labels.tolist() == [1]
        monkeypatch.setenv("FASTMLP_DATA_DIR", str(tmp_path / "environment"))
        assert load("cifar10").test.labels.tolist() == [2]
        assert load("cifar10", tmp_path / "argument").test.labels.tolist() == [3]

    def test_a_named_folder_without_the_data_starts_no_download(self, tmp_path, cache):
        write_folder(cache / "cifar-10-batches-bin")
        with pytest.raises(DataError, match=r"has neither cifar-10-batches-bin/ nor cifar-10-binary\.tar\.gz"):
            load("cifar10", tmp_path / "typo")

    def test_an_archive_in_the_named_folder_is_unpacked_into_the_cache(self, archive, cache):
        dataset = load("cifar10", archive.parent)
        assert dataset.train.labels.tolist() == [1, 2] * 5
        assert sorted(path.name for path in (cache / "cifar-10-batches-bin").iterdir()) == sorted(SIZES)
        assert [path.name for path in archive.parent.iterdir()] == [archive.name]

    def test_an_archive_in_the_cache_is_unpacked_there(self, archive, cache):
        cache.mkdir()
        archive.rename(cache / archive.name)
        assert len(load("cifar10").test) == 2

    def test_another_archive_is_refused_and_kept(self, tmp_path, cache):
        path = write_archive(tmp_path / cifar10.ARCHIVE, good_members())
        with pytest.raises(DataError, match="not the official archive"):
            load("cifar10", tmp_path)
        assert path.exists()
        assert not cache.exists()


class TestUnpacking:
    """What a hostile or damaged archive could do if its checksum were right."""

    def refused(self, tmp_path, members, message):
        path = write_archive(tmp_path / "hostile.tar.gz", members)
        target = tmp_path / "place" / "cifar-10-batches-bin"
        with pytest.raises(DataError, match=message):
            unpack(path, target, SIZES)
        assert list(target.parent.iterdir()) == [], "something was left behind"

    def test_only_the_wanted_files_are_written(self, tmp_path):
        hostile = [
            ("../escaped", b"x"),
            (str(tmp_path / "escaped"), b"x"),
            ("cifar-10-batches-bin/../../escaped", b"x"),
            ("cifar-10-batches-bin/extra.bin", b"x"),
            ("test_batch.bin", b"x"),
            ("elsewhere/test_batch.bin", b"x"),
            ("cifar-10-batches-bin/../test_batch.bin", b"x"),
        ]
        path = write_archive(tmp_path / "hostile.tar.gz", [*hostile, *good_members()])
        target = tmp_path / "place" / "cifar-10-batches-bin"
        unpack(path, target, SIZES)
        assert {file.name: file.read_bytes()[0] for file in target.iterdir()} == dict.fromkeys(SIZES, 1)
        assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
            ["hostile.tar.gz", "place", "cifar-10-batches-bin", *SIZES]
        )

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
    def test_a_member_that_is_no_regular_file_is_refused(self, tmp_path, kind):
        link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        link.type, link.linkname = kind, "/etc/passwd"
        self.refused(tmp_path, [(link, bytes(2 * RECORD)), *good_members()], "not the expected file")

    @pytest.mark.parametrize("size", [0, 2 * RECORD - 1, 2 * RECORD + 1, 1 << 20])
    def test_a_member_of_another_size_is_refused(self, tmp_path, size):
        members = [("cifar-10-batches-bin/data_batch_1.bin", bytes(size)), *good_members()]
        self.refused(tmp_path, members, r"data_batch_1\.bin is not the expected file")

    def test_a_second_member_of_the_same_name_does_not_replace_the_first(self, tmp_path):
        path = write_archive(tmp_path / "a.tar.gz", [*good_members(), ("cifar-10-batches-bin/test_batch.bin", b"x")])
        unpack(path, tmp_path / "cifar-10-batches-bin", SIZES)
        assert (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").stat().st_size == 2 * RECORD

    def test_a_missing_member_is_named(self, tmp_path):
        members = [member for member in good_members() if "batch_3" not in member[0]]
        self.refused(tmp_path, members, r"lacks data_batch_3\.bin")

    @settings(max_examples=40)
    @given(data=st.data())
    def test_a_damaged_archive_is_a_data_error_and_leaves_nothing(self, data):
        with tempfile.TemporaryDirectory() as scratch:
            path = write_archive(Path(scratch, "a.tar.gz"), good_members())
            content = bytearray(path.read_bytes())
            cut = data.draw(st.integers(0, len(content) - 1), label="cut at")
            if data.draw(st.booleans(), label="truncate, else flip a byte"):
                del content[cut:]
            else:
                content[cut] ^= data.draw(st.integers(1, 255), label="flip")
            path.write_bytes(content)
            target = Path(scratch, "place", "cifar-10-batches-bin")
            try:
                unpack(path, target, SIZES)
            except DataError:
                assert list(target.parent.iterdir()) == []
            else:
                assert {file.name: file.stat().st_size for file in target.iterdir()} == SIZES

    def test_a_cache_that_cannot_be_written_is_a_data_error(self, archive, tmp_path):
        (tmp_path / "place").write_text("a file in the folder's place")
        with pytest.raises(DataError, match=r"cannot be written .* FASTMLP_CACHE_DIR"):
            unpack(archive, tmp_path / "place" / "cifar-10-batches-bin", SIZES)

    def test_a_process_that_was_quicker_wins(self, archive, tmp_path):
        target = tmp_path / "cifar-10-batches-bin"
        for _ in range(2):
            unpack(archive, target, SIZES)
        assert {path.name for path in target.iterdir()} == set(SIZES)


class TestRealData:
    def test_it_has_the_published_sizes_and_balance(self, cifar10_folder):
        dataset = load("cifar10", cifar10_folder)
        assert np.array_equal(np.bincount(dataset.train.labels), [5000] * 10)
        assert np.array_equal(np.bincount(dataset.test.labels), [1000] * 10)
        assert dataset.class_names == cifar10.CLASS_NAMES

    def test_its_mean_and_spread_are_the_well_known_ones(self, cifar10_folder):
        """The per-channel statistics with which CIFAR-10 training code normalises."""
        images = load("cifar10", cifar10_folder).train.images
        levels = np.arange(256) / 255
        known = ((0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616))
        for channel, (mean, spread) in enumerate(known):
            share = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
            assert abs(share @ levels - mean) < 2e-3
            assert abs(np.sqrt(share @ (levels - mean) ** 2) - spread) < 3e-3
