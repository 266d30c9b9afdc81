"""Every parser of bytes that come from outside, as a function of bytes; run as a program, it hunts with atheris.

The property: any bytes give an object that is right, or a FastMLPError of one sentence; never another exception, a
hang, or an allocation out of proportion. tests/faults/test_fuzz.py holds the parsers to it on a fixed number of cases,
and on tests/faults/corpus/, where every file once broke one.

    pip install atheris                               # Linux, Python 3.11 to 3.13
    python -m tests.faults.fuzz model --seconds 600   # one parser; what breaks it is written to crash-* and named
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib
import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from fastmlp.backends import open_backend
from fastmlp.common.errors import FastMLPError
from fastmlp.common.files import read_json, sha256_of
from fastmlp.datasets import archive, cifar10, image_files
from fastmlp.extractors import patches
from fastmlp.extractors.pixels import Pixels
from fastmlp.features import tables
from fastmlp.features.extraction import Shard
from fastmlp.features.first_format import FILES
from fastmlp.features.shard_files import MANIFEST
from fastmlp.features.store import FeatureStore, key_of, open_or_extract, open_store
from fastmlp.models import storage
from fastmlp.models.predictor import _read_config
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.trainer import Trainer
from fastmlp.training.history import History
from tests.shell import is_one_sentence

SIZES = (5, 4, 3)
MEMBERS = {"a.bin": 700, "b.bin": 20}
PROVENANCE = {"dataset": "d", "split": "train", "extractor": {"name": "pixels"}}
STORE = key_of(PROVENANCE)


@dataclass(frozen=True)
class Parser:
    """`parse` reads the file it is given; `samples` makes files that it takes."""

    suffix: str
    parse: Callable[[Path], object]
    samples: Callable[[], list[bytes]]

    def try_bytes(self, content: bytes) -> object:
        """What comes of them: the object, or the FastMLPError; AssertionError if that is no sentence."""
        with tempfile.TemporaryDirectory(dir=memory()) as scratch:
            path = Path(scratch, f"file{self.suffix}")
            path.write_bytes(content)
            try:
                return self.parse(path)
            except FastMLPError as error:
                if is_one_sentence(str(error)):
                    return error
                raise AssertionError(f"no sentence: {error}") from error


def memory() -> str | None:
    """A folder in memory, where there is one: millions of small files are written."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


# CIFAR-10.


def records(count: int) -> bytes:
    return b"".join(bytes([label]) + bytes(3072) for label in range(count))


def parse_batch(path: Path) -> object:
    path.rename(path.with_name(cifar10.TEST_FILE))
    for name in cifar10.TRAIN_FILES:
        path.with_name(name).write_bytes(records(1))
    dataset = cifar10.read_folder(path.parent)
    assert dataset.test.labels.max() < 10
    assert len(dataset.test) * cifar10.RECORD_BYTES == path.with_name(cifar10.TEST_FILE).stat().st_size
    return dataset


def parse_meta(path: Path) -> object:
    path.rename(path.with_name("batches.meta.txt"))
    for name in cifar10.FILES:
        path.with_name(name).write_bytes(records(1))
    dataset = cifar10.read_folder(path.parent)
    assert len(dataset.class_names) == 10
    return dataset


def parse_archive(path: Path) -> object:
    target = path.parent / "into" / "folder"
    try:
        archive.unpack(path, target, MEMBERS)
    except FastMLPError:
        assert not list(target.parent.iterdir())
        raise
    assert {file.name: file.stat().st_size for file in target.iterdir()} == MEMBERS
    assert sorted(file.name for file in path.parent.iterdir()) == ["file.tar.gz", "into"]
    return target


def parse_tar(path: Path) -> object:
    """What is inside gzip, whose checksum would keep nearly every case from the tar reader."""
    path.with_name("file.tar.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    path.unlink()
    return parse_archive(path.with_name("file.tar.gz"))


def tar_samples() -> list[bytes]:
    samples = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=form) as members:
            for name, size in {**MEMBERS, "x/" * 70 + "y" * 20: 5}.items():
                info = tarfile.TarInfo(f"folder/{name}")
                info.size, info.mtime = size, 1.5
                members.addfile(info, io.BytesIO(bytes(size)))
        samples.append(made.getvalue())
    return samples


# Models and weights.


def saved(about: dict[str, object], state: bool) -> bytes:
    network = Trainer(initial_parameters(SIZES, "he"), open_backend("numpy"), 4)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "m.safetensors")
        storage.save(network.parameters, about, path, network.state if state else None)
        return path.read_bytes()


def history() -> dict[str, list[float]]:
    kept = History()
    kept.add(0.1, (1.0, 0.5), (1.1, 0.4))
    return kept.as_dict()


def parse_model(path: Path) -> object:
    found = storage.load(path)
    assert found.parameters.sizes[0] == found.parameters.weights[0].shape[0]
    Trainer(found.parameters, open_backend("numpy"), 1)
    return found


def parse_checkpoint(path: Path) -> object:
    """As a run resumes from it, its checksum set right so that what follows is reached."""
    parameters, about, state = storage.load(path)
    if parameters.sizes != SIZES:
        return None
    network = Trainer(parameters, open_backend("numpy"), 1)
    try:
        if state:
            storage.restore(network, state)
        return History.from_dict(about.get("history"))
    except (TypeError, ValueError) as error:  # which a run says in a sentence
        return error


def parse_tensors(path: Path) -> object:
    """A model file of any header and tensors, with the checksum that fits them."""
    content = path.read_bytes()
    original = storage._checksum
    storage._checksum = lambda *_: "0" * 64
    try:
        path.write_bytes(content)
        return parse_checkpoint(path)
    finally:
        storage._checksum = original


def tensor_samples() -> list[bytes]:
    made = [saved({"history": history()}, state) for state in (True, False)]
    return [sample.replace(checksum_in(sample), b"0" * 64) for sample in made]


def checksum_in(sample: bytes) -> bytes:
    return sample.partition(b'\\"sha256\\": \\"')[2][:64]


def parse_config(path: Path) -> object:
    return _read_config(path, (2, 2))


def config() -> bytes:
    values = {
        "class_names": ["a", "b"],
        "dataset": "d",
        "weights": None,
        "extractor": {"name": "pixels"},
        "feature_names": ["u", "v"],
    }
    return json.dumps(values).encode()


@cache
def codebook() -> bytes:
    arrays = {name: np.zeros(shape, np.float32) for name, shape in patches.SHAPES.items()}
    with tempfile.TemporaryDirectory() as scratch:
        patches.save_codebook(patches.Codebook(**arrays), Path(scratch, "c"))
        return Path(scratch, "c").read_bytes()


def parse_weights(path: Path) -> object:
    from torch import nn

    from fastmlp.extractors import vision

    state, origin = vision._read_state(path)
    assert origin.startswith("sha256:")
    vision._load(nn.Linear(3, 2), state, "linear", path)
    return state


def torch_samples() -> list[bytes]:
    import torch

    samples = []
    for new in (True, False):
        made = io.BytesIO()
        torch.save(torch.nn.Linear(3, 2).state_dict(), made, _use_new_zipfile_serialization=new)
        samples.append(made.getvalue())
    return samples


def safetensors_samples() -> list[bytes]:
    from safetensors.numpy import save

    return [save({"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(2, np.float32)})]


# The feature store, its checksums set right where another file than store.json is tried.

SHARD = Shard(0, 4).name
IMAGES_OF_STORE, LABELS_OF_STORE = np.full((4, 3, 32, 32), 9, np.uint8), np.arange(4)


def store(path: Path, name: str, content: bytes) -> Path:
    """A store with one file changed: of the first format, if that had such a file."""
    made = open_or_extract(IMAGES_OF_STORE, LABELS_OF_STORE, Pixels(), PROVENANCE, path.parent)
    if name == "store.json":
        (made.path / name).write_bytes(content)
        return made.path
    meta = first_format(made) if name in FILES else json.loads((made.path / "store.json").read_text())
    (made.path / name).write_bytes(content)
    summed = (name, content) if name in FILES else (MANIFEST, listing(made.path, name, content))
    meta["sha256"][summed[0]] = hashlib.sha256(summed[1]).hexdigest()
    (made.path / "store.json").write_text(json.dumps(meta))
    return made.path


def listing(path: Path, name: str, content: bytes) -> bytes:
    """The manifest, which lists the shard of that name with that content, or is it."""
    if name == MANIFEST:
        return content
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["shards"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    (path / MANIFEST).write_text(json.dumps(manifest))
    return (path / MANIFEST).read_bytes()


def first_format(made: FeatureStore) -> dict[str, Any]:
    """What store.json said of a store, whose files as the first version wrote them are put beside."""
    arrays: dict[str, np.ndarray] = {"features.npy": made.features, "labels.npy": made.labels}
    for name, array in arrays.items():
        np.save(made.path / name, array)
    sums = {name: sha256_of(made.path / name) for name in arrays}
    return {"format": 1, "provenance": made.provenance, "sha256": sums}


def parse_store(name: str) -> Callable[[Path], object]:
    def parse(path: Path) -> object:
        found = open_store(store(path, name, path.read_bytes()))
        assert found.features.shape == (len(found.labels), found.features.shape[1])
        assert (found.features.dtype.name, found.labels.dtype.name) == ("float32", "int64")
        return found

    return parse


def store_samples(name: str) -> Callable[[], list[bytes]]:
    def samples() -> list[bytes]:
        with tempfile.TemporaryDirectory() as scratch:
            made = open_or_extract(IMAGES_OF_STORE, LABELS_OF_STORE, Pixels(), PROVENANCE, Path(scratch))
            first_format(made)
            return [(made.path / name).read_bytes()]

    return samples


def parse_partial(path: Path) -> object:
    """A partial store with that shard: one of other rows is extracted again."""
    partial = path.with_name(f"{STORE}.partial")
    partial.mkdir()
    path.rename(partial / SHARD)
    found = open_or_extract(IMAGES_OF_STORE, LABELS_OF_STORE, Pixels(), PROVENANCE, path.parent)
    assert found.shape == (4, Pixels.features)
    assert np.array_equal(found.labels, LABELS_OF_STORE)
    return found


# Features and labels made elsewhere.


def parse_table(path: Path) -> object:
    found = tables.read_features(path)
    assert found.size
    return found


def parse_labels(path: Path) -> object:
    labels = tables.read_labels(path)
    assert labels.ndim == 1
    return labels


def npy_samples() -> list[bytes]:
    samples = []
    for array in (np.zeros((3, 2), np.float32), np.zeros((2, 3, 4, 4), np.uint8)):
        made = io.BytesIO()
        np.save(made, array)
        samples.append(made.getvalue())
    return samples


def npz_samples() -> list[bytes]:
    samples = []
    for save in (np.savez, np.savez_compressed):
        made = io.BytesIO()
        save(made, features=np.zeros((3, 2), np.float32), labels=np.array([0, 1, 0]))
        samples.append(made.getvalue())
    return samples


def safetensors_table() -> list[bytes]:
    from safetensors.numpy import save

    return [save({"features": np.zeros((2, 3), np.float32), "labels": np.zeros(2, np.int64)})]


def parquet_samples() -> list[bytes]:
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    samples = []
    for columns in ({"features": [[1.5, 2], [3, 4]], "label": ["a", "b"]}, {"a": [1.5, 2], "b": [3, 4], "y": [0, 1]}):
        made = io.BytesIO()
        table = pyarrow.table(columns).replace_schema_metadata({"pandas": json.dumps({"index_columns": ["b"]})})
        parquet.write_table(table, made)
        samples.append(made.getvalue())
    return samples


# Images.


def parse_image(path: Path) -> object:
    images, _ = image_files.read([path])
    assert images.shape == (1, 3, 32, 32)
    return images


def image_samples() -> list[bytes]:
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    samples = []
    for form in image_files.FORMATS:
        made = io.BytesIO()
        picture.save(made, form)
        samples.append(made.getvalue())
    return samples


def one(make: Callable[[], bytes]) -> Callable[[], list[bytes]]:
    return lambda: [make()]


PARSERS = {
    "cifar10-batch": Parser(".bin", parse_batch, lambda: [records(2)]),
    "cifar10-meta": Parser(".txt", parse_meta, lambda: ["\n".join(cifar10.CLASS_NAMES).encode()]),
    "archive": Parser(".tar.gz", parse_archive, lambda: [gzip.compress(tar, mtime=0) for tar in tar_samples()]),
    "tar": Parser(".tar", parse_tar, tar_samples),
    "model": Parser(".safetensors", parse_model, lambda: [saved({"a": 1}, state=False)]),
    "checkpoint": Parser(".safetensors", parse_tensors, tensor_samples),
    "config": Parser(".json", parse_config, one(config)),
    "json": Parser(".json", read_json, lambda: [b'{"a": [1.5, null, "b"]}']),
    "codebook": Parser(".safetensors", patches.load_codebook, one(codebook)),
    "weights": Parser(".safetensors", parse_weights, safetensors_samples),
    "weights-torch": Parser(".pth", parse_weights, torch_samples),
    "store-json": Parser(".json", parse_store("store.json"), store_samples("store.json")),
    "store-features": Parser(".npy", parse_store("features.npy"), store_samples("features.npy")),
    "store-labels": Parser(".npy", parse_store("labels.npy"), store_samples("labels.npy")),
    "store-manifest": Parser(".json", parse_store(MANIFEST), store_samples(MANIFEST)),
    "store-shard": Parser(".safetensors", parse_store(SHARD), store_samples(SHARD)),
    "store-partial": Parser(".safetensors", parse_partial, store_samples(SHARD)),
    "table-npy": Parser(".npy", parse_table, npy_samples),
    "table-npz": Parser(".npz", parse_table, npz_samples),
    "table-npz-labels": Parser(".npz", parse_labels, npz_samples),
    "table-safetensors": Parser(".safetensors", parse_table, safetensors_table),
    "table-parquet": Parser(".parquet", parse_table, parquet_samples),
    "table-parquet-labels": Parser(".parquet", parse_labels, parquet_samples),
    "image": Parser(".png", parse_image, image_samples),
}


def functions_of(*packages: str) -> Iterator[FunctionType]:
    """All functions and methods of these packages' modules that are imported by now: what the fuzzer looks into."""
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in packages]:
        owners = [module, *(value for value in vars(module).values() if isinstance(value, type))]
        values = [value for owner in owners for value in vars(owner).values()]
        yield from (
            value for value in values if isinstance(value, FunctionType) and value.__module__ == module.__name__
        )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("parser", choices=PARSERS)
    options.add_argument("--seconds", type=int, default=60)
    given = options.parse_args()
    atheris = importlib.import_module("atheris")
    parser = PARSERS[given.parser]
    seeds = Path(tempfile.mkdtemp(prefix="fastmlp-fuzz-"))
    for number, sample in enumerate(parser.samples()):
        (seeds / str(number)).write_bytes(sample)
    parser.try_bytes(b"")  # imports what takes longer than a case may
    for function in functions_of("fastmlp", "tarfile", "gzip", "PIL"):
        atheris.instrument_func(function)
    limits = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=20000", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], f"-max_total_time={given.seconds}", *limits, str(seeds)], parser.try_bytes)
    sys.stderr = io.StringIO()  # progress and waits
    atheris.Fuzz()


if __name__ == "__main__":
    main()
