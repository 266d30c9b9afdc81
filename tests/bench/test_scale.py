"""What `--memory` bounds, measured in a process that may not hold more."""

import sys
from pathlib import Path

import pytest

from fastmlp.bench import scale
from fastmlp.experiments.config import Config

MEMORY = 24_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the peak of a process")
def test_training_holds_no_more_than_its_memory(tmp_path: Path) -> None:
    scale.write_drawn(tmp_path / "few", scale.FEW, 512)
    scale.write_drawn(tmp_path / "many", 3 * MEMORY // 2048, 512)
    config = Config(preset="fast", epochs=1, backend="numpy", threads=1, out=tmp_path / "out", memory=MEMORY)
    measured = scale.in_own_process(tmp_path, config, report=False)
    assert 0 < measured["held_more"] <= MEMORY
