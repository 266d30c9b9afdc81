"""Nothing is lost: full and read-only disks, a second process, a killed one, a clock that jumps back."""

import builtins
import errno
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.cli.main import main
from fastmlp.common.errors import DataError, FastMLPError
from fastmlp.common.files import LOCK, TEMPORARY, atomic_path, claimed, locked, write_text
from fastmlp.common.progress import progress
from tests.faults import kills, kills_streamed
from tests.faults.quick import COMMAND as QUICK
from tests.faults.quick import quicken

SMALL = ["reproduce", "--dataset", "synthetic:60", "--extractor", "patches", "--backend", "numpy", "--threads", "1"]
SMALL += ["--epochs", "2", "--out", "out"]
MOMENTS = 2  # of random kills; tests/README.md tells of a run with 50
KILLS = 5  # of a run on features larger than memory; tests/README.md tells of 50 of each command
STRIDE = 16  # of the steps at which a disk is full


# A disk that takes no more.


class FullDisk:
    """Counts what is written, made, renamed and synced under a folder, and from number `full_from` on refuses it."""

    def __init__(self, folder: Path, full_from: int, number: int) -> None:
        self.folder, self.full_from, self.number, self.count = str(folder), full_from, number, 0

    def step(self, path: Any) -> None:
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (resolve follows links, and so opens folders)
        if not place.startswith(self.folder):
            return
        self.count += 1
        if self.count > self.full_from:
            raise OSError(self.number, os.strerror(self.number), place)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("mkdir", "open", "rename", "replace"):
            patch.setattr(os, name, self._counted(name, getattr(os, name)))
        for name in ("fsync", "write"):
            patch.setattr(os, name, self._counted_handle(getattr(os, name)))
        opened = self._open(io.open)
        for module in (builtins, io, tempfile._io):  # type: ignore[attr-defined]
            patch.setattr(module, "open", opened)

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, *arguments: Any, **options: Any) -> Any:
            if name != "open" or arguments[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.step(path)
            return real(path, *arguments, **options)

        return counted

    def _counted_handle(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(handle: int, *arguments: Any) -> Any:
            try:
                self.step(Path(f"/proc/self/fd/{handle}").readlink())
            except OSError as error:
                if error.errno != self.number:  # no /proc
                    raise
                raise OSError(self.number, os.strerror(self.number)) from None  # which names no file
            return real(handle, *arguments)

        return counted

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+") or "opener" in options:
                return real(file, mode, *arguments, **options)
            self.step(file)
            raw = Guarded(file, mode.replace("b", "").replace("t", ""))
            raw.disk = self
            if "b" in mode:
                return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return io.TextIOWrapper(io.BufferedWriter(raw), encoding=options.get("encoding"))

        return opened


class Guarded(io.FileIO):
    """A file on it: the write that finds it full has written half."""

    disk: FullDisk

    def write(self, content: Any) -> int:
        try:
            self.disk.step(self.name)
        except OSError as error:
            super().write(memoryview(content).cast("B")[: len(content) // 2])
            raise OSError(error.errno, error.strerror) from None  # which names no file
        return super().write(content)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of tenths of a second: no figure is drawn, and few patches are learned from."""
    quicken(monkeypatch.setattr, 1000)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> Callable[[str], Path]:
    """place(name): a new folder, now the working one, with an empty cache in it."""
    for name in [name for name in os.environ if name.startswith("FASTMLP_")]:
        monkeypatch.delenv(name)

    def make(name: str) -> Path:
        folder = tmp_path / name
        (folder / "cache").mkdir(parents=True)
        monkeypatch.setenv("FASTMLP_CACHE_DIR", str(folder / "cache"))
        monkeypatch.chdir(folder)
        return folder

    return make


def lasting(folder: Path) -> dict[str, bytes]:
    """The content of all files that are the same on every run."""
    paths = [*folder.glob("cache/**/*"), *folder.glob("out/*/*.safetensors"), *folder.glob("out/*/history.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def assert_nothing_half_written(folder: Path, whole: dict[str, bytes]) -> None:
    assert not list(folder.rglob(f"*{TEMPORARY}"))
    for name, content in lasting(folder).items():
        unfinished = ".partial" in name or name.endswith("checkpoint.safetensors")
        assert unfinished or content == whole[name], name
    for path in folder.glob("out/**/*.json"):
        json.loads(path.read_text())
    for path in folder.glob("out/*.html"):
        assert path.read_text().rstrip().endswith("</html>")


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("fastmlp: ")
    assert last.endswith(".")
    return last


@pytest.fixture
def whole(place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    folder = place("whole")
    assert main(SMALL) == 0
    capsys.readouterr()
    return lasting(folder)


@pytest.mark.slow
def test_a_disk_full_at_any_step_ends_in_a_sentence_and_the_run_goes_on_later(
    place: Callable[[str], Path], whole: dict[str, bytes], capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """Every sixteenth of some two hundred steps; which ones depends on the seed, so that sixteen seeds try them all."""
    for full_from in itertools.count(seed % STRIDE, STRIDE):
        folder = place(str(full_from))
        disk = FullDisk(folder, full_from, errno.ENOSPC)
        with pytest.MonkeyPatch.context() as patch:
            disk.install(patch)
            code = main(SMALL)
        if disk.count <= full_from:
            break
        assert code == 1
        assert "No space left on device" in sentence(capsys), full_from
        assert_nothing_half_written(folder, whole)
        assert main([*SMALL, "--resume"]) == 0, full_from
        assert lasting(folder) == whole
        capsys.readouterr()
        shutil.rmtree(folder)
    assert code == 0
    assert full_from > 100, "the steps were not counted"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("read_only", ["out", "cache"])
def test_a_read_only_folder_is_named(
    number: int,
    read_only: str,
    place: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = place("run")
    disk = FullDisk(folder / read_only, 0, number)
    disk.install(monkeypatch)
    assert main(SMALL) == 1
    said = sentence(capsys)
    assert os.strerror(number) in said
    assert read_only in said
    assert not [path for path in (folder / read_only).rglob("*") if path.is_file()]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="Windows and root write everywhere")
def test_a_folder_without_leave_to_write_is_named(
    place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place("run")
    (folder / "out").mkdir(mode=0o500)
    assert main(SMALL) == 1
    assert "Permission denied" in sentence(capsys)


# A clock that jumps back.


def test_a_wall_clock_that_runs_backwards_changes_nothing(
    place: Callable[[str], Path], whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = place("run"), itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    monkeypatch.setattr(time, "time_ns", lambda: next(now) * 10**9)
    assert main(SMALL) == 0
    assert lasting(folder) == whole
    assert all(seconds >= 0 for seconds in json.loads(Path("out/results.json").read_text())["seconds"].values())


def test_progress_bears_a_clock_that_stands_or_jumps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([50.0, 50.0, 50.0, 40.0, 70.0, 40.0])
    monkeypatch.setattr("fastmlp.common.progress.time.monotonic", lambda: next(times))
    with progress("train", 9, "epochs") as bar:
        for _ in range(3):
            bar.advance(3)
    assert capsys.readouterr().err == "train: 9/9 epochs, 0 epochs/s, 0:00 left\n"


# Two processes at once.

HOLD = """
import sys, time
from pathlib import Path
from fastmlp.common.files import locked
with locked(Path(sys.argv[1]), "counting", sys.argv[2] or None):
    print("in", flush=True)
    sys.stdin.readline()
"""


def hold(path: Path, fix: str = "") -> subprocess.Popen[str]:
    """A process that locks path until it is sent a line."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLD, str(path), fix]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def line_of(stream: Any) -> str:
    return stream.readline().strip()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = hold(tmp_path / "lock")
    assert line_of(process.stdout) == "in"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_waits_and_says_for_whom(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    second = hold(tmp_path / "lock")
    said = line_of(second.stderr)
    assert said.startswith(f"Another process is counting: waiting for it (process {holder.pid} on ")
    assert "-c" in said, "the command"
    holder.communicate("go\n")
    assert line_of(second.stdout) == "in"
    second.communicate("go\n")
    assert (holder.returncode, second.returncode) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_with_a_fix_it_is_refused(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(FastMLPError, match=rf"is counting \(process {holder.pid} .*\): have patience\."):
        locked(tmp_path / "lock", "counting", "have patience").__enter__()


def test_a_killed_process_locks_nothing(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.communicate()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "counting", "have patience"):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()
    assert not (tmp_path / "lock").exists()


def test_of_many_processes_one_at_a_time_is_in(tmp_path: Path) -> None:
    """Although the file is removed by whoever leaves, and made anew by whoever comes."""
    script = """
import os, sys
from pathlib import Path
from fastmlp.common.files import locked
place = Path(sys.argv[1])
for _ in range(150):
    with locked(place / "lock", "counting"):
        (place / "inside").mkdir()  # fails if another is in
        (place / "inside").rmdir()
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        _, log = process.communicate(timeout=120)
        assert process.returncode == 0, log
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none_here(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none_here)
    with locked(tmp_path / "lock", "counting"):
        pass
    assert "cannot be locked" in capsys.readouterr().err


def test_what_a_hostile_lock_file_says_does_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "lock").open("w") as file:
        file.write("\x1b]0;owned\x07" * 1000)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        (tmp_path / "out").mkdir()
        (tmp_path / "lock").rename(tmp_path / "out" / LOCK)
        assert main([*SMALL[:-1], str(tmp_path / "out")]) == 1
    said = sentence(capsys)
    assert "\x1b" not in said
    assert len(said) < 2000


def test_two_runs_in_one_output_folder_are_one_too_many(
    place: Callable[[str], Path], whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place("run")
    shutil.copytree(folder.parent / "whole/cache/codebooks", folder / "cache/codebooks")  # of few patches
    command = [sys.executable, "-m", "fastmlp", *SMALL, "--epochs", "100000"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        while not (folder / "out/original/checkpoint.safetensors").exists():
            assert first.poll() is None
            time.sleep(0.01)
        before = lasting(folder)
        assert main(SMALL) == 1
        said = sentence(capsys)
        assert f"Another process is writing in out (process {first.pid} on " in said
        assert "reproduce --dataset synthetic:60" in said
        assert "choose another --out" in said
        assert lasting(folder).keys() == before.keys()
    finally:
        first.kill()
        first.communicate()
    assert (folder / "out" / LOCK).exists(), "a killed process cannot clear up"
    assert main(SMALL) == 0
    assert lasting(folder) == whole
    assert not (folder / "out" / LOCK).exists()


@pytest.mark.slow
def test_two_runs_with_one_cache_share_it(tmp_path: Path) -> None:
    """Codebook and features are made by whoever comes first, and both runs end with the same models."""
    variables = {**os.environ, "FASTMLP_CACHE_DIR": str(tmp_path / "cache")}
    runs = []
    for out in ("a", "b"):
        command = [*QUICK, *SMALL[:-1], str(tmp_path / out)]
        runs.append(
            subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        )
    for process in runs:
        _, log = process.communicate(timeout=300)
        assert process.returncode == 0, log
    for name in ("original", "augmented"):
        a, b = ((tmp_path / out / name / "model.safetensors").read_bytes() for out in ("a", "b"))
        assert a == b
    assert len(list(tmp_path.glob("cache/features/*"))) == 3
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".partial", ".lock")]


def test_claiming_a_folder_clears_it_of_what_killed_runs_left_and_of_nothing_else(tmp_path: Path) -> None:
    mine = [tmp_path / ".hidden.tmp", tmp_path / "file.tmp", tmp_path / "other" / LOCK]
    mine += [tmp_path / "other" / f".z{TEMPORARY}", tmp_path / "other" / "figures" / f".z{TEMPORARY}"]
    left = [tmp_path / f".x{TEMPORARY}", tmp_path / "a" / f".y{TEMPORARY}", tmp_path / "a" / "b" / f".z{TEMPORARY}"]
    for path in (*mine, *left):
        write_text(path, "x")
    with claimed(tmp_path):
        assert (tmp_path / LOCK).exists()
        assert not any(path.exists() for path in left)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(mine)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("error", [DataError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_a_folder_only_for_what_it_wrote(
    tmp_path: Path, written: bool, error: type[BaseException]
) -> None:
    (tmp_path / "there" / "empty").mkdir(parents=True)

    def fail(folder: Path) -> None:
        with claimed(folder):
            if written:
                write_text(folder / "file", "x")
            raise error("refused")

    for out in ("new/run", "there/run", "there/empty"):
        with pytest.raises(error):
            fail(tmp_path / out)
        assert (tmp_path / out / "file").is_file() is written
    assert (tmp_path / "there" / "empty").is_dir()
    assert (tmp_path / "there" / "run").exists() is (tmp_path / "new").exists() is written


def test_a_folder_that_cannot_be_made_leaves_none_of_those_above_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="long"), claimed(tmp_path / "new" / ("x" * 300)):
        pass
    assert not (tmp_path / "new").exists()


def test_a_write_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    script = "import os, sys; from pathlib import Path; from fastmlp.common.files import atomic_path\n"
    script += "with atomic_path(Path(sys.argv[1])) as new:\n    new.write_text('half'); os.kill(os.getpid(), 9)"
    assert subprocess.call([sys.executable, "-c", script, str(path)]) == -9
    assert path.read_text() == "old"
    with atomic_path(path) as new:
        new.write_text("new")
    assert path.read_text() == "new"


# Killed at random.


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(seed: int, tmp_path: Path) -> None:
    first = random.Random(seed).randrange(len(kills.STAGES))
    counts = kills.try_moments(MOMENTS, seed, tmp_path, first)
    assert sum(count for (_, outcome), count in counts.items() if outcome != kills.ENDED) == MOMENTS


@pytest.mark.slow
def test_killed_over_and_over_on_features_larger_than_memory(seed: int, tmp_path: Path) -> None:
    assert kills_streamed.survive("train", KILLS, random.Random(seed), tmp_path).total() == KILLS


# What terminals and pages are shown.

ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e\r\n<script>"


def test_error_sentences_carry_no_escape_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "--dataset", f"folder:{ESCAPES}"]) == 4
    (tmp_path / "pets").mkdir()
    for name in (ESCAPES.replace("/", ""), "dog"):
        (tmp_path / "pets" / name).mkdir()
        (tmp_path / "pets" / name / "\x1b[31m.png").write_bytes(b"no image")
        (tmp_path / "pets" / name / "2.png").write_bytes(b"no image")
    assert main(["reproduce", "--dataset", "folder:pets"]) == 4
    said = capsys.readouterr().err
    assert said.count("\n") == len(said.splitlines()) == 9  # four of them are images and reasons
    assert all(character.isprintable() or character == "\n" for character in said)


def test_arguments_that_are_refused_carry_no_escape_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([f"--{ESCAPES}"], ["--seed", ESCAPES], [ESCAPES]):
        with pytest.raises(SystemExit) as stopped:
            main(["train", *arguments])
        assert stopped.value.code == 2
        assert all(character.isprintable() or character == "\n" for character in capsys.readouterr().err)


def test_hostile_class_names_reach_neither_terminal_nor_page(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    names = ("<img src=x onerror=alert(1)>\x1b[31m", "b\x1b]0;owned\x07")
    rng = np.random.default_rng(0)
    for k, name in enumerate(names):
        for i in range(5):
            path = tmp_path / "pets" / name.replace("/", "") / f"\x1b[3{i}m{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(100 * k, 100 * k + 100, (32, 32, 3)).astype(np.uint8)).save(path, "png")
    options = ["--extractor", "pixels", "--backend", "numpy", "--epochs", "2", "--out", "out"]
    assert main(["reproduce", "--dataset", "folder:pets", *options]) == 0
    assert main(["predict", "--model", "out/original", "pets/b\x1b]0;owned\x07"]) == 0
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown + Path("out/report.html").read_text()
    assert "<img src=x" not in Path("out/report.html").read_text()
