"""Files are whole or absent; progress shows how many units are done, how fast, and the time left."""

import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.files import atomic_path, cache_dir, read_json, read_safetensors, write_json, write_text
from fastmlp.common.progress import clock, progress


def write_half(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="No space"):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """A stand-in for a device, which anyone with write access to /dev could otherwise replace by a file."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(UsageError, match=f"{path.name} is not a regular file, .* choose another path"):
            write_text(path, "mine")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="not a regular file"):
        write_text(tmp_path / "folder", "mine")
    assert not list((tmp_path / "folder").iterdir())


def test_a_link_stays_one_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for link, file in (("old", "file"), ("dangling", "new")):
        (tmp_path / "here" / link).symlink_to(tmp_path / file)
    write_text(tmp_path / "file", "before")
    for link, file in (("old", "file"), ("dangling", "new")):
        write_text(tmp_path / "here" / link, "after")
        assert (tmp_path / "here" / link).is_symlink()
        assert (tmp_path / file).read_text() == "after"
    assert {path.name for path in tmp_path.rglob("*")} == {"here", "old", "dangling", "file", "new"}


def test_a_circle_of_links_gives_way_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    write_text(tmp_path / "a", "mine")
    assert (tmp_path / "a").read_text() == "mine"


def test_folders_are_made_and_permissions_are_the_usual(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.json"
    write_json(path, {"x": 1})
    assert read_json(path) == {"x": 1}
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{1: 1}", b"[" * 100_000])
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_json(path)
    with pytest.raises(DataError, match="missing"):
        read_json(tmp_path / "gone.json")


@pytest.fixture
def tensor_file(tmp_path: Path) -> Callable[..., Path]:
    """A .safetensors file with one tensor x of a type that NumPy may lack."""

    def write(dtype: str, shape: list[int], data: bytes) -> Path:
        header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
        (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
        return tmp_path / "x.safetensors"

    return write


@pytest.mark.parametrize("shape", [[], [6], [2, 3], [0, 3]])
def test_bfloat16_tensors_are_widened_to_the_last_bit(tensor_file: Callable[..., Path], shape: list[int]) -> None:
    halves = np.array([0x3FC0, 0xBF80, 0x8000, 0x7F80, 0x0001, 0x4049], "<u2")[: math.prod(shape)]
    _, tensors = read_safetensors(tensor_file("BF16", shape, halves.tobytes()))
    exact = np.array([1.5, -1, -0.0, np.inf, 2.0**-133, 3.140625], np.float32)[: math.prod(shape)].reshape(shape)
    assert tensors["x"].dtype == np.float32
    np.testing.assert_array_equal(tensors["x"], exact)
    np.testing.assert_array_equal(np.signbit(tensors["x"]), np.signbit(exact))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0"])
def test_types_that_numpy_lacks_are_named(tensor_file: Callable[..., Path], dtype: str) -> None:
    with pytest.raises(ValueError, match=f"'x' is of type {dtype}, .* convert it to float32"):
        read_safetensors(tensor_file(dtype, [2], b"ab"))


def test_the_cache_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("FASTMLP_CACHE_DIR")
    assert cache_dir().name == "fastmlp"


def test_a_log_gets_plain_lines_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("fastmlp.common.progress.time.monotonic", lambda: now[0])
    with progress("extract", 1000, "images", done=200) as bar:
        for _ in range(4):
            now[0] += 6
            bar.advance(60)
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0] == "extract: 320/1,000 images, 10 images/s, 1:08 left"
    )  # 120 in 12 s; what was done before is no speed
    assert len(lines) == 2


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress("train", 3, "epochs") as bar:
        for epoch in range(3):
            bar.advance(1, f"epoch {epoch}")
    assert "train" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_written_json_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", [1, 2])
    text = (tmp_path / "x.json").read_text()
    assert text.endswith("\n")
    assert json.loads(text) == [1, 2]
