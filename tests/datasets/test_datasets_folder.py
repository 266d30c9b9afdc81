"""Folders of images: the layouts that people use, and everything that can be wrong with them."""

import contextlib
import os
import struct
import tempfile
import unicodedata
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastmlp.common.errors import DataError, UsageError
from fastmlp.datasets import Reading, image_files, load
from fastmlp.datasets.folder import read_images

# All that Pillow gives files of the formats we read, but for the one that has always more than eight bits.
SUFFIXES = (
    *(".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def write_image(path, colour=RED, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def write_classes(folder, n=5, names=("cat", "dog")):
    """`n` images per class: each class has its own level of red, each image its own level of green."""
    for k, name in enumerate(names):
        for i in range(n):
            write_image(folder / name / f"{i}.png", (200 + k, 10 * i, 0))
    return folder


def load_folder(path):
    return load(f"folder:{path}")


def test_the_suffixes_are_those_of_pillows_formats():
    assert tuple(sorted(image_files.suffixes())) == SUFFIXES


def image_of(path, content):
    """The loader's result for the one test image of class `odd`; the other images are plain."""
    write_image(path / "train" / "odd" / "1.png")
    write_image(path / "train" / "plain" / "1.png")
    write_image(path / "test" / "plain" / "1.png")
    (path / "test" / "odd").mkdir()
    if isinstance(content, bytes):
        (path / "test" / "odd" / "1.png").write_bytes(content)
    else:
        content.save(path / "test" / "odd" / "1.png")
    test = load_folder(path).test
    return test.images[test.labels == 0][0]


def png_of_size(width, height):
    """A well-formed PNG that claims these sizes and has almost no data."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestLayout:
    def test_one_folder_a_class_is_split_four_to_one(self, tmp_path):
        dataset = load_folder(write_classes(tmp_path, n=10))
        assert dataset.class_names == ("cat", "dog")
        assert np.bincount(dataset.train.labels).tolist() == [8, 8]
        assert np.bincount(dataset.test.labels).tolist() == [2, 2]
        for split in (dataset.train, dataset.test):
            assert np.array_equal(split.images[:, 0, 0, 0], 200 + split.labels)
        greens = np.concatenate([dataset.train.images, dataset.test.images])[:, 1, 0, 0]
        assert sorted(greens) == sorted(list(range(0, 100, 10)) * 2), "an image was lost or is in both splits"

    def test_train_and_test_folders_are_taken_as_they_are(self, tmp_path):
        write_classes(tmp_path / "train", n=20)
        write_classes(tmp_path / "test", n=2)
        dataset = load_folder(tmp_path)
        assert np.bincount(dataset.train.labels).tolist() == [20, 20]
        assert sorted(dataset.test.images[:, 1, 0, 0]) == [0, 0, 10, 10]
        assert len(set(dataset.limited(12).train.labels)) == 2, "a quick look must see every class"

    def test_it_is_the_same_dataset_every_time(self, tmp_path):
        write_classes(tmp_path)
        once, again = load_folder(tmp_path), load_folder(tmp_path)
        assert once.train.content_hash == again.train.content_hash
        assert once.test.content_hash == again.test.content_hash

    def test_hidden_files_are_passed_over(self, tmp_path, capsys):
        write_classes(tmp_path)
        write_image(tmp_path / ".thumbnails" / "1.png")
        (tmp_path / "cat" / ".1.png").write_bytes(b"of another system")
        dataset = load_folder(tmp_path)
        assert dataset.class_names == ("cat", "dog")
        assert len(dataset.train) + len(dataset.test) == 10
        assert not dataset.left_out
        assert "Left out" not in capsys.readouterr().err

    def test_links_to_images_will_do(self, tmp_path):
        write_classes(tmp_path / "real")
        for name in ("a", "b"):
            (tmp_path / "linked" / name).mkdir(parents=True)
            for i in range(2):
                (tmp_path / "linked" / name / f"{i}.png").symlink_to(tmp_path / "real" / "cat" / f"{i}.png")
        assert len(load_folder(tmp_path / "linked").train) == 2

    @pytest.mark.parametrize("suffix", [*SUFFIXES, ".JPEG", ".TIFF"])
    def test_every_format_is_read(self, tmp_path, suffix):
        for name, colour in (("blue", BLUE), ("red", RED)):
            for i in range(2):
                write_image(tmp_path / name / f"{i}{suffix}", colour)
        dataset = load_folder(tmp_path)
        assert np.abs(np.sort(dataset.train.images[0].mean(axis=(1, 2))) - (0, 0, 255)).max() < 4
        assert not dataset.left_out

    def test_a_home_folder_may_be_written_short(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        write_classes(tmp_path / "pets")
        assert len(load("folder:~/pets").train) == 8


class TestLeftOut:
    """What lies in the folder but is not in the dataset is counted, told once, and recorded."""

    def others_of(self, folder, capsys):
        """What is recorded of the folder's dataset, and what is told, in one line."""
        counts = load_folder(folder).left_out.files
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "Left out" in line]
        assert line.startswith(f"Left out of {folder}: ")
        return counts, line

    @pytest.mark.parametrize("name", ["a.heic", "a.AVIF", "a.txt", "a.jpg.part", "a.pfm", "a.eps", "noname", "a.npy"])
    def test_other_files_by_suffix(self, tmp_path, capsys, name):
        write_classes(tmp_path)
        for folder in (tmp_path / "cat", tmp_path / "dog", tmp_path):
            (folder / name).write_bytes(b"")
        counts, line = self.others_of(tmp_path, capsys)
        kind = Path(name).suffix.lower() or "without a suffix"
        assert counts == {kind: 3}
        assert f"3 {kind}" in line

    def test_images_beside_the_class_folders(self, tmp_path, capsys):
        write_image(write_classes(tmp_path) / "stray.jpg")
        counts, line = self.others_of(tmp_path, capsys)
        assert counts == {".jpg beside the class folders": 1}
        assert "1 .jpg beside the class folders" in line

    def test_folders_in_class_folders(self, tmp_path, capsys):
        write_image(write_classes(tmp_path) / "cat" / "kittens" / "1.png")
        assert self.others_of(tmp_path, capsys)[1].endswith(": 1 nested folder.")
        write_image(tmp_path / "dog" / "puppies.png" / "1.png")  # a folder, whatever its name
        assert self.others_of(tmp_path, capsys)[1].endswith(": 2 nested folders.")

    def test_what_lies_beside_train_and_test(self, tmp_path, capsys):
        for part in ("train", "test", "val"):
            write_classes(tmp_path / part)
        write_image(tmp_path / "stray.png")
        write_image(tmp_path / "train" / "stray.png")
        (tmp_path / "labels.csv").write_text("")
        counts, _ = self.others_of(tmp_path, capsys)
        assert counts == {
            ".csv": 1,
            ".png beside the class folders": 1,
            ".png beside train/ and test/": 1,
            "val/": 1,
        }

    def test_a_class_of_other_files_only_names_them(self, tmp_path):
        (write_classes(tmp_path) / "owl").mkdir()
        (tmp_path / "owl" / "1.heic").write_bytes(b"")
        (tmp_path / "owl" / "nested").mkdir()
        with pytest.raises(DataError, match=r"owl has no images \(.*\.jpg.*\), only 1 \.heic, 1 nested folder: add"):
            load_folder(tmp_path)

    def test_of_many_kinds_the_most_frequent_are_told(self, tmp_path, capsys):
        """Names that end with numbers, say."""
        write_classes(tmp_path)
        for i in range(100):
            (tmp_path / "cat" / f"photo.{i:04}").write_bytes(b"")
        for name in ("a.heic", "b.heic"):
            (tmp_path / "dog" / name).write_bytes(b"")
        counts, line = self.others_of(tmp_path, capsys)
        assert sum(counts.values()) == 102
        assert line.startswith(f"Left out of {tmp_path}: 2 .heic, 1 .0000, 1 .0001")
        assert line.endswith(", 91 others.")

    def test_of_folders_to_predict_too(self, tmp_path, capsys):
        write_classes(tmp_path, n=2)
        (tmp_path / "cat" / "1.heic").write_bytes(b"")
        (tmp_path / "cat" / "nested").mkdir()
        found, _ = read_images([tmp_path / "cat"])
        assert [path.name for path in found] == ["0.png", "1.png"]
        assert f"Left out of {tmp_path / 'cat'}: 1 .heic, 1 nested folder." in capsys.readouterr().err


NAMES = ("Äpfel", "café", "dog", "한국")


class TestSpellings:
    """A name is one name, composed (NFC) as Linux and Windows write it, or decomposed (NFD) as macOS may."""

    def write(self, folder, form, names=NAMES):
        return write_classes(folder, n=3, names=[unicodedata.normalize(form, name) for name in names])

    def test_train_and_test_may_differ(self, tmp_path):
        self.write(tmp_path / "train", "NFD")
        self.write(tmp_path / "test", "NFC")
        dataset = load_folder(tmp_path)
        assert set(dataset.class_names) == {unicodedata.normalize("NFC", name) for name in NAMES}
        for split in (dataset.train, dataset.test):  # each class has its own level of red
            reds = [set(split.images[split.labels == label][:, 0, 0, 0].tolist()) for label in range(len(NAMES))]
            assert reds == [{200 + NAMES.index(name)} for name in dataset.class_names]

    def test_the_dataset_is_the_same(self, tmp_path):
        one, other = (load_folder(self.write(tmp_path / form, form)) for form in ("NFC", "NFD"))
        assert one.class_names == other.class_names
        assert one.train.content_hash == other.train.content_hash

    @pytest.mark.parametrize("part", [".", "train"])
    def test_both_spellings_in_one_folder_are_refused(self, tmp_path, part):
        for form in ("NFC", "NFD"):
            self.write(tmp_path / part, form)
        if part == "train":
            self.write(tmp_path / "test", "NFC")
        with pytest.raises(DataError, match=r"two folders 'café', whose names differ in their Unicode spelling only"):
            load_folder(tmp_path)


class TestBadImages:
    SKIP = Reading(on_bad_image="skip")

    def spoil(self, folder, *names):
        for name in names:
            (folder / name).write_bytes(b"no image")

    def test_one_is_named_with_the_way_on(self, tmp_path):
        self.spoil(write_classes(tmp_path), "cat/3.png")
        with pytest.raises(DataError, match=r"cat/3\.png cannot be read as an image \(not a BMP.*--on-bad-image skip"):
            load_folder(tmp_path)

    @pytest.mark.parametrize("parts", [("",), ("train", "test")])
    def test_several_are_all_told(self, tmp_path, capsys, parts):
        for part in parts:
            self.spoil(write_classes(tmp_path / part), "cat/3.png", "dog/0.png")
        bad = 2 * len(parts)
        with pytest.raises(DataError, match=rf"cat/3\.png cannot be .*, nor can {bad - 1} more: .*--on-bad-image skip"):
            load_folder(tmp_path)
        told = capsys.readouterr().err
        assert f"{bad} of {5 * bad} images cannot be read:" in told
        for part in parts:
            for name in ("cat/3.png", "dog/0.png"):
                assert f"{tmp_path / part / name} (not a BMP" in told

    def test_of_many_the_first_are_told(self, tmp_path, capsys):
        names = [f"cat/{i}.png" for i in range(25)]
        self.spoil(write_classes(tmp_path, n=30), *names)
        dataset = load(f"folder:{tmp_path}", reading=self.SKIP)
        told = capsys.readouterr().err.splitlines()
        assert sum("(not a BMP" in line for line in told) == 20
        assert "  and 5 more" in told
        assert sorted(dataset.left_out.images) == sorted(str(tmp_path / name) for name in names)

    @pytest.mark.parametrize("parts", [("",), ("train", "test")])
    def test_skipped_ones_might_not_be_there(self, tmp_path, capsys, parts):
        for part in parts:
            self.spoil(write_classes(tmp_path / part), "cat/3.png", "dog/0.png")
        dataset = load(f"folder:{tmp_path}", reading=self.SKIP)
        assert (
            f"{2 * len(parts)} of {10 * len(parts)} images cannot be read and are left out:" in capsys.readouterr().err
        )
        for path in dataset.left_out.images:
            Path(path).unlink()
        without = load_folder(tmp_path)
        assert not without.left_out
        for split in ("train", "test"):
            assert getattr(dataset, split).content_hash == getattr(without, split).content_hash

    def test_a_class_without_a_good_image_is_refused(self, tmp_path):
        for part in ("train", "test"):
            write_classes(tmp_path / part, n=2)
        self.spoil(tmp_path, "test/dog/0.png", "test/dog/1.png")
        with pytest.raises(DataError, match="test/dog has no image that can be read"):
            load(f"folder:{tmp_path}", reading=self.SKIP)

    def test_a_class_with_one_good_image_is_refused_where_one_is_held_out(self, tmp_path):
        self.spoil(write_classes(tmp_path, n=2), "dog/0.png")
        with pytest.raises(DataError, match="dog has only one image"):
            load(f"folder:{tmp_path}", reading=self.SKIP)

    @pytest.mark.parametrize("names", [["cat/0.png"], ["cat/0.png", "cat/0.png"], ["gone.png", "cat/0.png"]])
    def test_none_at_all_is_refused(self, tmp_path, names):
        self.spoil(write_classes(tmp_path), "cat/0.png")
        with pytest.raises(DataError, match=r"cannot be read as an image .*: repair or remove (it|them)\.$"):
            read_images([tmp_path / name for name in names], self.SKIP)

    def test_a_missing_file_is_one(self, tmp_path):
        write_classes(tmp_path)
        gone = tmp_path / "gone.png"
        with pytest.raises(DataError, match=r"gone\.png cannot be read as an image \(No such file or directory\)"):
            read_images([gone])
        found, (images, reasons) = read_images([gone, tmp_path / "cat"], self.SKIP)
        assert (len(found), len(images), list(reasons)) == (6, 5, [gone])

    @pytest.mark.parametrize("options", [{"on_bad_image": "skib"}, {"on_bad_image": ""}, {"max_pixels": 0}])
    def test_other_values_are_refused(self, options):
        name = next(iter(options)).replace("_", "-")
        with pytest.raises(UsageError, match=f"--{name}"):
            Reading(**options)


class TestMaxPixels:
    @pytest.fixture(autouse=True)
    def low_limit(self, monkeypatch):
        """As if Pillow's limit were 1,000 pixels: above it warns, above the double it raises an error."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        monkeypatch.setattr(image_files, "MAX_PIXELS", 1000)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("side", [35, 50])
    def test_a_giant_is_read_if_allowed(self, tmp_path, side, suffix):
        path = tmp_path / f"giant{suffix}"
        write_image(path, size=(side, side))
        with pytest.raises(DataError, match=r"giant.* cannot be read as an image .*pixels.*--max-pixels"):
            read_images([path], Reading(max_pixels=1000))
        with pytest.raises(
            DataError, match=rf"{side * side} pixels\) exceeds .*{side * side - 1} pixels.*--max-pixels"
        ):
            read_images([path], Reading(max_pixels=side * side - 1))
        assert len(read_images([path], Reading(max_pixels=side * side))[1].images) == 1
        assert Image.MAX_IMAGE_PIXELS == 1000

    def test_a_lower_limit_holds_too(self, tmp_path):
        write_image(tmp_path / "a.png", size=(10, 10))
        with pytest.raises(DataError, match=r"Image size \(100 pixels\) exceeds limit of 99 pixels"):
            read_images([tmp_path / "a.png"], Reading(max_pixels=99))
        assert Image.MAX_IMAGE_PIXELS == 1000

    def test_a_program_without_a_limit_keeps_ours(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        write_image(tmp_path / "a.png", size=(50, 50))
        with pytest.raises(DataError, match="--max-pixels"):
            read_images([tmp_path / "a.png"], Reading(max_pixels=1000))
        assert Image.MAX_IMAGE_PIXELS is None

    def test_threads_leave_the_programs_settings_as_they_were(self, tmp_path):
        write_image(tmp_path / "a.png", size=(20, 20))
        filters = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            readings = [Reading(max_pixels=1000 + 500 * (i % 3)) for i in range(200)]
            list(pool.map(lambda reading: read_images([tmp_path / "a.png"], reading), readings))
        assert Image.MAX_IMAGE_PIXELS == 1000
        assert warnings.filters == filters


def test_images_to_predict_are_files_and_folders_of_them(tmp_path):
    write_classes(tmp_path, n=2)
    paths, (images, _) = read_images([tmp_path / "dog" / "1.png", tmp_path / "cat"])
    assert [str(path.relative_to(tmp_path)) for path in paths] == ["dog/1.png", "cat/0.png", "cat/1.png"]
    assert images[:, :2, 0, 0].tolist() == [[201, 10], [200, 0], [200, 10]]


class TestPixels:
    def test_the_central_square_is_kept(self, tmp_path):
        image = Image.new("RGB", (96, 32), RED)
        image.paste(BLUE, (32, 0, 64, 32))
        pixels = image_of(tmp_path, image)
        assert np.array_equal(pixels[2, :, 2:-2], np.full((32, 28), 255))
        assert np.array_equal(pixels[0, :, 2:-2], np.zeros((32, 28)))

    def test_an_image_of_the_right_size_is_unchanged(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        assert np.array_equal(image_of(tmp_path, Image.fromarray(pixels)), pixels.transpose(2, 0, 1))

    def test_transparent_pixels_are_white(self, tmp_path):
        assert image_of(tmp_path, Image.new("RGBA", (32, 32), (255, 0, 0, 0))).min() == 255

    def test_a_palette_with_a_transparent_colour_is_read(self, tmp_path):
        image = Image.new("P", (32, 32), 0)
        image.putpalette([10, 20, 30])
        image.info["transparency"] = b"\xff"
        assert image_of(tmp_path, image)[:, 0, 0].tolist() == [10, 20, 30]

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
    def test_grey_images_become_rgb(self, tmp_path, mode):
        image = Image.fromarray(np.tile(np.array([0, 255], np.uint8).repeat(16), (32, 1))).convert(mode)
        pixels = image_of(tmp_path, image)
        assert pixels[:, 5, 3].tolist() == [0, 0, 0]
        assert pixels[:, 5, 28].tolist() == [255, 255, 255]

    def test_a_photo_taken_upright_stands_upright(self, tmp_path):
        image = Image.new("RGB", (32, 32), RED)
        image.paste(BLUE, (0, 0, 32, 16))  # blue above
        exif = Image.Exif()
        exif[0x0112] = 3  # to be turned by half a turn
        content = BytesIO()
        image.save(content, "jpeg", exif=exif)
        assert image_of(tmp_path, content.getvalue())[2, :, 5].argmax() >= 14

    @pytest.mark.parametrize("side", [240, 1200])
    def test_a_large_jpeg_is_shrunk_as_if_decoded_whole(self, tmp_path, side):
        """Decoding at a half or an eighth of the size saves time and must not be visible."""
        y, x = np.mgrid[:side, :side] / side
        waves = 127 + 60 * np.sin(40 * x + 5 * y) + 60 * np.sin(40 * y)
        image = Image.fromarray(waves.astype(np.uint8)).convert("RGB")
        content = BytesIO()
        image.save(content, "jpeg", quality=95)
        exact = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        assert np.abs(image_of(tmp_path, content.getvalue()).astype(int) - exact).max() <= 2


class TestRefused:
    def test_no_folder(self, tmp_path):
        with pytest.raises(DataError, match="is not a folder"):
            load_folder(tmp_path / "typo")

    @pytest.mark.parametrize("names", [(), ("cat",)])
    def test_fewer_than_two_classes(self, tmp_path, names):
        write_classes(tmp_path, names=names)
        with pytest.raises(DataError, match=f"has {len(names)} folders of images: make one per class, for at"):
            load_folder(tmp_path)

    def test_a_class_without_images(self, tmp_path):
        (write_classes(tmp_path) / "owl").mkdir()
        with pytest.raises(DataError, match="owl has no images"):
            load_folder(tmp_path)

    def test_a_class_with_one_image(self, tmp_path):
        write_image(write_classes(tmp_path) / "owl" / "1.png")
        with pytest.raises(DataError, match="owl has only one image"):
            load_folder(tmp_path)

    @pytest.mark.parametrize("lacking", ["train", "test"])
    def test_a_class_in_one_of_train_and_test_only(self, tmp_path, lacking):
        for part in ("train", "test"):
            write_classes(tmp_path / part, names=("cat", "dog") if part == lacking else ("cat", "dog", "owl"))
        with pytest.raises(DataError, match=f"{lacking} lacks the class 'owl'"):
            load_folder(tmp_path)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no image",
            png_of_size(40, 40),
            b"\x89PNG\r\n\x1a\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        ],
    )
    def test_a_file_that_is_no_image_is_named(self, tmp_path, content):
        with pytest.raises(DataError, match=r"odd/1\.png cannot be read as an image"):
            image_of(tmp_path, content)

    def test_a_format_that_is_not_offered_is_not_read_under_another_name(self, tmp_path):
        """Some of Pillow's readers start programs."""
        content = BytesIO()
        Image.new("RGB", (32, 32), RED).save(content, "pcx")
        with pytest.raises(DataError, match=r"odd/1\.png cannot be read as an image"):
            image_of(tmp_path, content.getvalue())

    def test_a_broken_link_is_named(self, tmp_path):
        (write_classes(tmp_path) / "cat" / "9.png").symlink_to(tmp_path / "gone.png")
        with pytest.raises(DataError, match=r"cat/9\.png cannot be read"):
            load_folder(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have names")
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(write_classes(tmp_path) / "cat" / "9.png")
        with pytest.raises(DataError, match=r"cat/9\.png cannot be read as an image \(it is not a file\)"):
            load_folder(tmp_path)

    @pytest.mark.parametrize("side", [10_000, 20_000, 2_000_000_000])
    def test_an_image_bomb_is_named(self, tmp_path, side):
        with pytest.raises(DataError, match=r"odd/1\.png cannot .* \(Image size .* limit .*, which --max-pixels rais"):
            image_of(tmp_path, png_of_size(side, side))

    def test_more_than_eight_bits_a_channel(self, tmp_path):
        deep = Image.fromarray(np.full((32, 32), 40_000, np.uint16))
        with pytest.raises(DataError, match="not 8 bits per channel"):
            image_of(tmp_path, deep)

    @settings(max_examples=60)
    @given(data=st.data(), form=st.sampled_from(["png", "jpeg", "gif", "tiff", "webp", "bmp", "ppm"]))
    def test_a_damaged_image_gives_a_dataset_or_a_data_error(self, data, form):
        content = BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(content, form)
        damaged = bytearray(content.getvalue())
        for _ in range(data.draw(st.integers(0, 4))):
            damaged[data.draw(st.integers(0, min(len(damaged), 200) - 1))] = data.draw(st.integers(0, 255))
        del damaged[data.draw(st.integers(1, len(damaged))) :]
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(DataError):
            assert image_of(Path(folder), bytes(damaged)).shape == (3, 32, 32)
