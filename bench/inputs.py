"""Peak memory of `fastmlp extract` by the number of images: python -m fastmlp.bench.inputs.

For each input and each number of images, drawn ones are written there, extracted as they are and once augmented, in a
process of its own, and deleted again. What that process held at most is the system's own count; with `--engine ray` it
is the driver, and what a worker held at most is told beside it. Most of the disk is for features: 3 GB for 100,000
images as `pixels`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from fastmlp.datasets import load

from .processes import watched

DRAWN = 1_000  # images, which are repeated
PER_SHARD = 10_000  # images in a tar or Parquet file
ROWS = 100  # of a row group
Sample = tuple[str, bytes, str]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fastmlp.bench.inputs", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000], help="(%(default)s)")
    parser.add_argument("--inputs", nargs="+", choices=WRITERS, default=list(WRITERS), help="(%(default)s)")
    parser.add_argument("--extractor", default="pixels", help="(%(default)s)")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="(%(default)s)")
    parser.add_argument("--folder", type=Path, help="with room for it (that of temporary files)")
    options = parser.parse_args()
    for name in options.inputs:
        for count in options.images:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                print(json.dumps(measured(name, count, Path(folder), options)), flush=True)


def measured(name: str, count: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """An extraction's peak of memory, and its time."""
    dataset = WRITERS[name](folder / "images", count)
    given = ["--dataset", dataset, "--extractor", options.extractor, "--engine", options.engine]
    given += ["--backend", "numpy", "--threads", "1", "--quiet", "--out", str(folder / "out")]
    command = [sys.executable, "-m", "fastmlp", "extract", *given]
    environment = {**os.environ, "FASTMLP_CACHE_DIR": str(folder / "cache")}
    began = time.monotonic()
    used = watched(command, environment)
    return {
        "input": name,
        "images": count,
        "engine": options.engine,
        "peak_mb": used.peak,
        **({"worker_peak_mb": used.worker_peak} if used.worker_peak else {}),
        "cpu_seconds": round(used.cpu[-1], 1),
        "seconds": round(time.monotonic() - began, 1),
    }


def samples(count: int) -> Iterator[Sample]:
    """Names, JPEG files and classes of so many images."""
    drawn = load(f"synthetic:{DRAWN}").train
    files = []
    for image in drawn.images:
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG")
        files.append(file.getvalue())
    for number in range(count):
        yield f"{number:08}", files[number % DRAWN], str(drawn.labels[number % DRAWN])


def write_nothing(folder: Path, count: int) -> str:
    return f"synthetic:{count}"


def write_folder(folder: Path, count: int) -> str:
    for name, content, label in samples(count):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{name}.jpg").write_bytes(content)
    return f"folder:{folder}"


def write_tars(folder: Path, count: int) -> str:
    folder.mkdir()
    for number, shard in enumerate(_shards(count)):
        with tarfile.open(folder / f"{number:04}.tar", "w") as archive:
            for name, content, label in shard:
                for member, data in ((f"{name}.jpg", content), (f"{name}.cls", label.encode())):
                    about = tarfile.TarInfo(member)
                    about.size = len(data)
                    archive.addfile(about, io.BytesIO(data))
    return f"tar:{folder}"


def write_parquet(folder: Path, count: int) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    for number, shard in enumerate(_shards(count)):
        _, images, labels = zip(*shard, strict=True)
        table = pa.table({"image": [{"bytes": image} for image in images], "label": list(map(int, labels))})
        parquet.write_table(table, folder / f"{number:04}.parquet", row_group_size=ROWS)
    return f"parquet:{folder}"


def _shards(count: int) -> Iterator[list[Sample]]:
    rest = samples(count)
    while shard := list(islice(rest, PER_SHARD)):
        yield shard


WRITERS: dict[str, Callable[[Path, int], str]] = {
    "synthetic": write_nothing,
    "folder": write_folder,
    "tar": write_tars,
    "parquet": write_parquet,
}


if __name__ == "__main__":
    main()
