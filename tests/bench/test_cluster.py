"""The measuring of extraction on Ray: both engines are timed by their shards, and each part by itself."""

import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from fastmlp.bench import cluster, processes
from fastmlp.bench.processes import Used
from fastmlp.extractors.pixels import Pixels


def test_every_part_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SIZES", {(32, 32): 3, (50, 40): 2})
    monkeypatch.setattr(cluster, "ROWS", 60)
    measured = list(cluster.parts(tmp_path))
    assert [row["part"].partition(",")[0] for row in measured] == [
        "decode a JPEG of 32x32 pixels",
        "decode a JPEG of 50x40 pixels",
        "lay an image down",
        "hash an image",
        "augment an image",
        "write 512 features",
    ]
    assert all(row["microseconds"] >= 0 for row in measured)


def test_without_ray_no_engine_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    assert not list(cluster.engines(tmp_path, Namespace(extractors=["pixels"])))


def test_a_run_is_timed_by_its_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastmlp.cli.main import main

    monkeypatch.setattr(Pixels, "batch_size", 1)

    def run(command: list[str], env: dict[str, str]) -> Used:
        monkeypatch.setenv("FASTMLP_CACHE_DIR", env["FASTMLP_CACHE_DIR"])
        begun = time.time()
        assert main(command[command.index("fastmlp") + 1 :]) == 0
        return Used([begun, time.time()], [0.0, 7.0], 0, None)

    monkeypatch.setattr("fastmlp.bench.cluster.watched", run)
    measured = cluster.run(tmp_path, ["extract", "--dataset", "synthetic:200", "--extractor", "pixels"])
    assert measured.seconds_per_row > 0
    assert 0 < measured.cpu_per_row < 7
    assert measured.other > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes use")
def test_a_command_is_watched_with_all_that_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(processes, "WORKER", "sleep\0")
    used = processes.watched(["sh", "-c", "sleep 0.3 & wait"], os.environ)
    assert used.worker_peak is not None
    assert used.cpu_between(used.times[0], used.times[-1]) == used.cpu[-1]
    with pytest.raises(CalledProcessError):
        processes.watched(["sh", "-c", "exit 3"], os.environ)
