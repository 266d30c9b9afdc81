"""What extraction costs on Ray, beside the same in one process, and part by part: python -m fastmlp.bench.cluster.

`--images` synthetic images are extracted in turn here and by Ray with one worker, on `--threads` threads each. While
shards are written, an engine has its rate; the rest of its time, in which Ray and its worker start, too, is told apart.
Then the processor time of each part of extraction, per image, on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fastmlp import augment
from fastmlp.backends import open_backend
from fastmlp.common.files import write_array
from fastmlp.common.progress import quietly
from fastmlp.datasets import Split, synthetic
from fastmlp.datasets.image_files import read
from fastmlp.features.shard_files import MANIFEST, read_manifest, write_rows

from .extracting import draw_resnet
from .processes import watched

IMAGES = {"pixels": 100_000, "patches": 20_000, "resnet18": 600}  # several shards
SIZES = {(32, 32): 2_000, (500, 375): 400, (2000, 1500): 50}  # pixels of JPEGs, and how many are decoded
QUALITY = 85
WIDTH, ROWS = 512, 8_192


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fastmlp.bench.cluster", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--extractors", nargs="*", default=["patches", "resnet18"], help="(%(default)s)")
    parser.add_argument("--images", type=int, help="the largest part of them for training (by extractor)")
    parser.add_argument("--threads", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the best of which is taken (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for row in chain(engines(Path(folder), options), parts(Path(folder))):
            print(json.dumps(row), flush=True)


# Ray beside one process.


def engines(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each extractor: both engines, and by how much Ray's rate is lower."""
    if find_spec("ray") is None:
        return
    for extractor in options.extractors:
        images = options.images or IMAGES[extractor]
        weights = draw_resnet(1, 1, 224, folder).weights if extractor == "resnet18" else None
        command = ["extract", "--dataset", f"synthetic:{images}", "--extractor", extractor]
        command += ["--threads", str(options.threads), *(["--weights", str(weights)] if weights else [])]
        ways: dict[str, list[str]] = {"local": [], "ray": ["--engine", "ray", "--workers", "1"]}
        rounds = [{way: run(folder, [*command, *more]) for way, more in ways.items()} for _ in range(options.rounds)]
        best = {way: [min(values) for values in zip(*(one[way] for one in rounds), strict=True)] for way in ways}
        local, ray = (Spent(*best[way]) for way in ways)
        yield {
            "extractor": extractor,
            "images": images,
            "threads": options.threads,
            "local": local._asdict(),
            "ray": ray._asdict(),
            "overhead": ray.seconds_per_row / local.seconds_per_row - 1,
            "cpu_overhead": ray.cpu_per_row / local.cpu_per_row - 1,
        }


class Spent(NamedTuple):
    """Seconds, by the clock and of processors, that a row takes from the first to the last shard of a store.

    other: all other time.
    """

    seconds_per_row: float
    cpu_per_row: float
    other: float


def run(folder: Path, arguments: list[str]) -> Spent:
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        environment = {**os.environ, "FASTMLP_CACHE_DIR": cache}
        begun = time.time()
        used = watched([sys.executable, "-m", "fastmlp", *arguments, "--quiet", "--out", cache], environment)
        total, rows, counted, spent, cpu = time.time() - begun, 0, 0, 0.0, 0.0
        for manifest in Path(cache, "features").glob(f"*/{MANIFEST}"):
            entries = read_manifest(manifest.parent)
            written = sorted((manifest.parent.joinpath(entry.name).stat().st_mtime, entry.rows) for entry in entries)
            first, last = written[0][0], written[-1][0]
            rows += sum(count for _, count in written)
            counted += sum(count for _, count in written[1:])
            spent += last - first
            cpu += used.cpu_between(first, last)
        return Spent(spent / counted, cpu / counted, total - spent * rows / counted)


# The parts.


def parts(folder: Path) -> Iterator[dict[str, Any]]:
    for (width, height), count in SIZES.items():
        paths = draw_photos(folder / f"{width}x{height}", width, height, count)
        size = sum(path.stat().st_size for path in paths) // count
        yield timed(f"decode a JPEG of {width}x{height} pixels, {size:,} bytes", partial(read, paths), count)
    images = synthetic.load(ROWS).train
    yield timed("lay an image down", lambda: write_array(folder / "images.npy", images.images), ROWS)
    yield timed("hash an image", lambda: Split(images.images, images.labels).content_hash, ROWS)
    backend = open_backend("numba", 1)
    plan = augment.draw(np.random.default_rng(0), ROWS, augment.Policy())
    yield timed("augment an image", lambda: augment.apply(backend, images.images, plan), ROWS)
    rows, labels = np.random.default_rng(0).random((ROWS, WIDTH), np.float32), np.arange(ROWS)
    yield timed(f"write {WIDTH} features", lambda: write_rows(folder / "rows.safetensors", rows, labels), ROWS)


def draw_photos(folder: Path, width: int, height: int, count: int) -> list[Path]:
    """JPEG files of fields of colour with some noise, which are about as large as photos are."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    fields = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((width, height))
    noise = rng.integers(-16, 17, (height, width, 3))
    Image.fromarray(np.clip(np.asarray(fields) + noise, 0, 255).astype(np.uint8)).save(
        folder / "0.jpg", quality=QUALITY
    )
    content = (folder / "0.jpg").read_bytes()
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        path.write_bytes(content)
    return paths


def timed(what: str, work: Callable[[], object], count: int, rounds: int = 3) -> dict[str, Any]:
    """Processor time of each of so many, the least of some rounds."""
    spent = []
    with quietly():
        for _ in range(rounds):
            begun = time.process_time()
            work()
            spent.append((time.process_time() - begun) / count)
    return {"part": what, "microseconds": round(1e6 * min(spent), 2)}


if __name__ == "__main__":
    main()
