"""Folders of images: the layouts that people use, and everything that can be wrong with them."""

import contextlib
import os
import struct
import tempfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastmlp.common.errors import DataError
from fastmlp.datasets import load
from fastmlp.datasets.folder import read_images

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

    def test_hidden_and_other_files_are_passed_over(self, tmp_path):
        write_classes(tmp_path)
        write_image(tmp_path / ".thumbnails" / "1.png")
        (tmp_path / "cat" / ".1.png").write_bytes(b"of another system")
        (tmp_path / "cat" / "notes.txt").write_text("whiskers")
        (tmp_path / "README.md").write_text("cats and dogs")
        dataset = load_folder(tmp_path)
        assert dataset.class_names == ("cat", "dog")
        assert len(dataset.train) + len(dataset.test) == 10

    def test_links_to_images_will_do(self, tmp_path):
        write_classes(tmp_path / "real")
        for name in ("a", "b"):
            (tmp_path / "linked" / name).mkdir(parents=True)
            for i in range(2):
                (tmp_path / "linked" / name / f"{i}.png").symlink_to(tmp_path / "real" / "cat" / f"{i}.png")
        assert len(load_folder(tmp_path / "linked").train) == 2

    @pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "gif", "webp", "ppm", "tif", "TIFF"])
    def test_every_format_is_read(self, tmp_path, suffix):
        for name, colour in (("blue", BLUE), ("red", RED)):
            for i in range(2):
                write_image(tmp_path / name / f"{i}.{suffix}", colour)
        image = load_folder(tmp_path).train.images[0]
        assert np.abs(np.sort(image.mean(axis=(1, 2))) - (0, 0, 255)).max() < 4

    def test_a_home_folder_may_be_written_short(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        write_classes(tmp_path / "pets")
        assert len(load("folder:~/pets").train) == 8


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
