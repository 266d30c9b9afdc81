"""Extraction on real Ray clusters of this machine: workers and nodes killed, images that cannot be read, and stalls.

Skipped where Ray is not installed, as in CI: run `pip install '.[ray]'`, and this file by pytest.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.photos import draw_photos

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SLOW = """
import os, sys, time
from fastmlp.extractors.pixels import Pixels
from fastmlp.features import extraction
extraction.SHARD_BATCHES = 1
Pixels.batch_size = 10
if (seconds := float(os.environ.get("SECONDS_PER_BATCH", 0))):
    plain = Pixels.__call__
    def slow(self, images):
        time.sleep(seconds)
        return plain(self, images)
    Pixels.__call__ = slow
"""
COMMAND = ["extract", "--extractor", "pixels", "--backend", "numpy", "--threads", "1", "--json", "--out", "out"]
SYNTHETIC = ["--dataset", "synthetic:300"]
SECONDS = 60


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder; every process that starts in it extracts in small shards, as slowly as it is told."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(ROOT)]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("SECONDS_PER_BATCH", "0.2")  # on nodes that are started from here; others do not wait
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    yield
    for process in STARTED:
        process.kill()
        process.communicate()
    STARTED.clear()


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder whose path is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ray-fastmlp-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """A head without CPUs, so that work is on the other nodes, each a process of its own on loopback."""

    def __init__(self, temporary: Path, nodes: int) -> None:
        self.temporary, self.address, self.nodes = temporary, f"127.0.0.1:{free_port()}", 0
        self.processes = [self._start("--head", f"--port={self.address.rpartition(':')[2]}", "--num-cpus=0")]
        self.processes += [self._start(f"--address={self.address}", "--num-cpus=1") for _ in range(nodes)]

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        ray = str(Path(sys.executable).with_name("ray"))
        small = ["--object-store-memory=80000000", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        head = [f"--temp-dir={self.temporary}", "--include-dashboard=false"] if "--head" in options else []
        command = [ray, "start", "--block", *options, *head, *small]
        with Path("ray.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.nodes += 1
        wait_until(lambda: len(list(self.temporary.glob("session_2*/sockets/raylet*"))) == self.nodes)
        return process

    def kill_node(self) -> None:
        """The last one, with all of its processes."""
        node = self.processes.pop()
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def stop(self) -> None:
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def cluster(temporary: Path) -> Iterator[Cluster]:
    made = Cluster(temporary, nodes=2)
    yield made
    made.stop()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < deadline, Path("ray.log").read_text()
        time.sleep(0.02)


STARTED: list[subprocess.Popen[str]] = []


def start(cache: str, *options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "FASTMLP_CACHE_DIR": cache, "SECONDS_PER_BATCH": "0"}
    command = [sys.executable, "-m", "fastmlp", *COMMAND, *options]
    pipe = subprocess.PIPE
    STARTED.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
    return STARTED[-1]


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    _, log = process.communicate(timeout=2 * SECONDS)
    assert process.returncode == code, log
    return log


def on(cluster: Cluster, *more: str) -> list[str]:
    return ["--engine", "ray", "--address", cluster.address, "--workers", "2", *more]


def contents(cache: str) -> dict[str, bytes]:
    files = (path for path in Path(cache).rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def shards(cache: str) -> list[Path]:
    return list(Path(cache).glob("features/*/rows-*"))


def workers() -> list[int]:
    """Our workers' processes: Ray names each by its actor's class."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::Worker") and str(Path.cwd()).encode() in environment:
            found.append(int(process.name))
    return found


@pytest.fixture
def unbroken() -> dict[str, bytes]:
    finish(start("local", *SYNTHETIC))
    assert len(shards("local")) == 30 + 30 + 6
    return contents("local")


def test_killed_workers_and_a_killed_node_change_nothing(cluster: Cluster, unbroken: dict[str, bytes]) -> None:
    process = start("cache", *SYNTHETIC, *on(cluster))
    wait_until(lambda: len(shards("cache")) >= 5)
    os.kill(workers()[0], signal.SIGKILL)
    wait_until(lambda: len(shards("cache")) >= 15)
    cluster.kill_node()
    assert "A worker of the Ray cluster died" in finish(process)
    assert contents("cache") == unbroken


def test_killed_as_a_whole_it_resumes_with_what_is_missing(cluster: Cluster, unbroken: dict[str, bytes]) -> None:
    process = start("cache", *SYNTHETIC, *on(cluster))
    wait_until(lambda: len(shards("cache")) >= 8)
    process.kill()
    process.communicate()
    time.sleep(2)  # a worker may be writing
    there = {path: path.stat().st_mtime_ns for path in shards("cache")}
    assert "Resuming" in finish(start("cache", *SYNTHETIC, *on(cluster)))
    assert contents("cache") == unbroken
    done = {path.name: path.stat().st_mtime_ns for path in Path("cache").glob("features/*-train-*/rows-*")}
    assert {path.name: time for path, time in there.items()}.items() <= done.items()


@pytest.fixture
def photos(place: None) -> None:
    """Two classes, with decoys."""
    draw_photos(Path("photos"), {"train": 90, "test": 20}, size=(40, 50), digits=3)
    whole = Path("photos/train/cat/000.png").read_bytes()
    Path("photos/train/cat/truncated.png").write_bytes(whole[: len(whole) // 2])
    Path("photos/train/dog/empty.jpg").touch()
    Path("photos/test/dog/words.png").write_text("no image")
    Image.new("L", (3000, 2000)).save("photos/train/dog/huge.png")


PHOTOS = ["--dataset", "folder:photos", "--max-pixels", "1000000"]


@pytest.mark.usefixtures("photos")
def test_bad_images_are_listed_and_left_out_as_they_are_locally(cluster: Cluster) -> None:
    finish(start("local", *PHOTOS, "--on-bad-image", "skip"))
    listed = Path("out/bad-images.jsonl").read_text()
    Path("out/bad-images.jsonl").unlink()
    finish(start("cache", *PHOTOS, "--on-bad-image", "skip", *on(cluster)))
    assert contents("cache") == contents("local")
    assert Path("out/bad-images.jsonl").read_text() == listed
    names = [Path(json.loads(line)["path"]).name for line in listed.splitlines()]
    assert names == ["truncated.png", "empty.jpg", "huge.png", "words.png"]
    log = finish(start("cache", *PHOTOS, *on(cluster)), code=4)
    assert "photos/train/cat/truncated.png cannot be read as an image" in log
    assert "--on-bad-image skip" in log


def test_no_progress_ends_with_a_sentence(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECONDS_PER_BATCH", "1000")
    cluster = Cluster(temporary, nodes=1)
    try:
        log = finish(start("cache", *SYNTHETIC, *on(cluster, "--stall", "5")), code=1)
    finally:
        cluster.stop()
    assert "Nothing was done on the Ray cluster for 5 seconds (--stall)" in log
    assert len(log.strip().splitlines()[-1].split(". ")) == 1
    assert not workers()


def test_a_cluster_of_its_own_is_started_and_ended(unbroken: dict[str, bytes], temporary: Path) -> None:
    os.environ["RAY_TMPDIR"] = str(temporary)
    try:
        finish(start("cache", *SYNTHETIC, "--engine", "ray"))
    finally:
        del os.environ["RAY_TMPDIR"]
    assert contents("cache") == unbroken
