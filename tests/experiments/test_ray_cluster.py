"""Extraction on real Ray clusters of this machine: workers and nodes killed, images that cannot be read, and stalls.

CI runs those that take less than a minute; with FASTMLP_SOAK=1, pytest runs all of this file, for some minutes.
"""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.stored import write_layouts
from tests.photos import draw_photos

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
pytestmark = pytest.mark.slow
soak = pytest.mark.skipif("FASTMLP_SOAK" not in os.environ, reason="takes minutes: set FASTMLP_SOAK=1")

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
KNOWN = "Ray runtime started"  # of a node: that it is known to the whole cluster
TRIES = 5  # to start a node, for which Ray allows 30 seconds
SECONDS = 400  # within which whatever is waited for comes on a busy machine


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
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # other tests' memory is none of this cluster's
    monkeypatch.setenv("RAY_worker_register_timeout_seconds", str(SECONDS))
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
        for _ in range(nodes):
            self.add_node()

    def add_node(self) -> None:
        self.processes.append(self._start(f"--address={self.address}", "--num-cpus=1"))

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        ray = str(Path(sys.executable).with_name("ray"))
        small = ["--object-store-memory=80000000", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        head = [f"--temp-dir={self.temporary}", "--include-dashboard=false"] if "--head" in options else []
        command = [ray, "start", "--block", *options, *head, *small]
        return next(filter(None, (self._tried(command) for _ in range(TRIES))))

    def _tried(self, command: Sequence[str]) -> subprocess.Popen[bytes] | None:
        """The node, once all of the cluster know it; None if Ray has given it up."""
        self.nodes += 1
        log = Path(f"ray-{self.nodes}.log")
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        wait_until(lambda: process.poll() is not None or KNOWN in log.read_text())
        if process.poll() is None:
            return process
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return None

    def kill_node(self) -> None:
        """The last one, with all of its processes."""
        node = self.processes.pop()
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def kill_something(self, chance: random.Random) -> str:
        """A worker or, one time in three, a node, for which another one comes."""
        if chance.random() < 1 / 3 or not (found := workers()):
            self.kill_node()
            self.add_node()
            return "node"
        os.kill(chance.choice(found), signal.SIGKILL)
        return "worker"

    def stop(self) -> None:
        while self.processes:
            self.kill_node()


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
    """Or until what would have to reach it has ended, or a busy machine's patience."""
    deadline = time.monotonic() + SECONDS
    ended = False
    while not reached():
        if ended or time.monotonic() > deadline:
            raise AssertionError(told())
        ended = any(process.poll() is not None for process in STARTED if process.stderr and not process.stderr.closed)
        time.sleep(0.02)


STARTED: list[subprocess.Popen[str]] = []


def told() -> str:
    """What Ray and those that were started have written so far."""
    for process in STARTED:
        process.kill()
    return "\n".join([ray_logs(), *(process.communicate()[1] for process in STARTED)])


def ray_logs() -> str:
    return "\n".join(path.read_text() for path in sorted(Path().glob("ray-*.log")))


def start(cache: str, *options: str, command: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
    environment = {**os.environ, "FASTMLP_CACHE_DIR": cache, "SECONDS_PER_BATCH": "0"}
    words = [sys.executable, "-m", "fastmlp", *command, *options]
    pipe = subprocess.PIPE
    STARTED.append(subprocess.Popen(words, env=environment, stdout=pipe, stderr=pipe, text=True))
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


def stamps(cache: str) -> dict[str, int]:
    """When each shard was written."""
    return {str(path).replace(".partial", ""): path.stat().st_mtime_ns for path in shards(cache)}


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


@soak
def test_killed_as_a_whole_it_resumes_with_what_is_missing(cluster: Cluster, unbroken: dict[str, bytes]) -> None:
    process = start("cache", *SYNTHETIC, *on(cluster))
    wait_until(lambda: len(shards("cache")) >= 8)
    process.kill()
    process.communicate()
    time.sleep(2)  # a worker may be writing
    there = stamps("cache")
    assert "Resuming" in finish(start("cache", *SYNTHETIC, *on(cluster)))
    assert contents("cache") == unbroken
    assert there.items() <= stamps("cache").items()


KILLS = 20


@soak
@pytest.mark.usefixtures("photos")
def test_twenty_kills_and_then_that_of_the_whole_run_change_nothing(cluster: Cluster) -> None:
    """At random times, but no sooner than something is done; the second run computes what the first one lacks."""
    finish(start("local", *PHOTOS, "--on-bad-image", "skip"))
    chance, killed = random.Random(0), Counter[str]()
    total = len(shards("local"))

    def is_due(kill: int) -> bool:
        return len(shards("cache")) >= kill * total * 3 // (4 * KILLS)

    process = start("cache", *PHOTOS, "--on-bad-image", "skip", *on(cluster))
    wait_until(workers)
    for kill in range(KILLS):
        wait_until(partial(is_due, kill))
        time.sleep(chance.random())
        killed[cluster.kill_something(chance)] += 1
    wait_until(partial(is_due, KILLS))
    assert process.poll() is None
    process.kill()
    _, log = process.communicate()
    time.sleep(2)  # a worker may be writing
    there = stamps("cache")
    missing = total - len(there)
    print(f"killed {dict(killed)}, and then the run at {len(there)} of {total} shards")
    assert min(killed["worker"], killed["node"], missing) > 0
    assert log.count("A worker of the Ray cluster died") >= killed["worker"] // 2
    assert "Resuming" in finish(start("cache", *PHOTOS, "--on-bad-image", "skip", *on(cluster)))
    assert contents("cache") == contents("local")
    done = stamps("cache")
    assert sum(there.get(name) != when for name, when in done.items()) == missing


@pytest.fixture
def photos(place: None) -> None:
    """Two classes, with decoys."""
    draw_photos(Path("photos"), {"train": 300, "test": 20}, size=(40, 50), digits=3)
    whole = Path("photos/train/cat/000.png").read_bytes()
    Path("photos/train/cat/truncated.png").write_bytes(whole[: len(whole) // 2])
    Path("photos/train/dog/empty.jpg").touch()
    Path("photos/test/dog/words.png").write_text("no image")
    Image.new("L", (3000, 2000)).save("photos/train/dog/huge.png")


PHOTOS = ["--dataset", "folder:photos", "--max-pixels", "1000000"]


@soak
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


SWEEP = ["sweep", "--features", "own.npz", "--backend", "numpy", "--threads", "1", "--widths", "16,32", "--seeds", "5"]
SWEEP += ["--learning-rates", "0.001,0.003,0.01", "--weight-decays", "0,0.1", "--preset", "paper", "--epochs", "60"]


@soak
def test_a_sweep_of_killed_workers_and_of_a_killed_run_has_the_results_of_a_local_one(cluster: Cluster) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 1000)
    np.savez("own.npz", features=rng.normal(size=(1000, 16)) + np.eye(3, 16)[labels], labels=labels)
    finish(start("cache", "--out", "local", command=SWEEP))
    options = ["--out", "swept", *on(cluster)]
    process = start("cache", *options, command=SWEEP)

    def parts() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in Path("swept").glob("parts/*/part-*.json")}

    wait_until(parts)
    os.kill(workers()[0], signal.SIGKILL)
    wait_until(lambda: len(parts()) >= 3)
    process.kill()
    assert "A worker of the Ray cluster died" in process.communicate()[1]
    time.sleep(2)  # a worker may be writing
    there = len(parts())
    assert there < 6
    assert f"Resuming: {there} of 6 parts" in finish(start("cache", *options, command=SWEEP))
    local, swept = (json.loads(Path(out, "sweep.json").read_text()) for out in ("local", "swept"))
    for name in {"seconds", "environment", "heads_per_second"}:
        del local[name], swept[name]
    assert swept == local
    model = "best/model.safetensors"
    assert Path("swept", model).read_bytes() == Path("local", model).read_bytes()
    assert not Path("swept/parts").exists()


@soak
@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_other_inputs_give_the_shards_of_a_folder(cluster: Cluster, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    draw_photos(Path("folder"), {"train": 20, "test": 4}, digits=2)
    write_layouts(Path("folder"))
    finish(start("local", "--dataset", "folder:folder"))
    finish(start("cache", "--dataset", f"{kind}:file://{tmp_path}/{kind}", *on(cluster)))
    shards = [
        sorted(content for name, content in contents(cache).items() if "rows-" in name) for cache in ("local", "cache")
    ]
    assert shards[0] == shards[1] != []


@soak
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
