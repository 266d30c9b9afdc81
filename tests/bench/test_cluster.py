"""The measuring of extraction on Ray: both engines are timed by their shards, and each part by itself."""

from argparse import Namespace
from pathlib import Path

import pytest

from fastmlp.bench import cluster
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
    monkeypatch.setattr("fastmlp.bench.cluster.subprocess.run", lambda command, env, **_: run(command, env))

    def run(command: list[str], env: dict[str, str]) -> None:
        monkeypatch.setenv("FASTMLP_CACHE_DIR", env["FASTMLP_CACHE_DIR"])
        assert main(command[command.index("fastmlp") + 1 :]) == 0

    measured = cluster.run(tmp_path, ["extract", "--dataset", "synthetic:200", "--extractor", "pixels"])
    assert measured["seconds_per_row"] > 0
    assert measured["other"] > 0
