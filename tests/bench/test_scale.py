"""What `--memory` bounds, measured in a process that may not hold more."""

import argparse
import sys
from pathlib import Path

import pytest

from fastmlp.bench import results, scale
from fastmlp.experiments.config import Config

MEMORY = 24_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the peak of a process")
def test_training_holds_no_more_than_its_memory(tmp_path: Path) -> None:
    scale.write_drawn(tmp_path / "few", scale.FEW, 512)
    scale.write_drawn(tmp_path / "many", 3 * MEMORY // 2048, 512)
    config = Config(preset="fast", epochs=1, backend="numpy", threads=1, out=tmp_path / "out", memory=MEMORY)
    measured = scale.in_own_process(tmp_path, config, report=False)
    assert 0 < measured["held_more"] <= MEMORY


def test_costs_are_drawn_against_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_own_process(folder: Path, config: Config) -> dict[str, float]:
        shards = sum(path.stat().st_size for path in (folder / "many").glob("*.safetensors"))
        return {"train_seconds": shards / 1e6, "held_more": config.memory or shards}

    monkeypatch.setattr(scale, "in_own_process", in_own_process)
    out = tmp_path / "out"
    options = argparse.Namespace(
        width=4, preset="fast", epochs=2, heads=1, gigabytes=1, rows=[100, 1000], megabytes=24, out=out
    )
    told = list(scale.costs(tmp_path, options))
    assert [(row["rows"], row["memory"]) for row in told] == [(n, m) for n in (100, 1000) for m in (MEMORY, None)]
    read = results.read(out / "results.jsonl")
    assert [one.contender.partition(", ")[2] for one in read] == ["--memory 24MB", ""] * 2
    assert [one.median for one in read] == [row["train_seconds"] / 2 for row in told]
    assert (out / "charts" / "growth-rows-in-shards.png").is_file()
    assert "| 1,000 |" in (out / "report.md").read_text()
    assert scale.HOW in (out / "report.md").read_text()
