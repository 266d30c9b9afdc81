"""Datasets by name: `load("cifar10")`, `load("synthetic:60000")`, `load("folder:pets")`, `load("tar:s3://mine/pets")`.

A name always means the same images in the same order: random datasets have a fixed seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.datasets.base import Dataset, LeftOut, Split
from fastmlp.datasets.places import place_of
from fastmlp.datasets.reading import DEFAULT_READING, Reading

if TYPE_CHECKING:
    from fastmlp.datasets.sources import Reader

__all__ = ["BUILT_IN", "NAMES", "Dataset", "LeftOut", "Reading", "Split", "check_name", "load"]

BUILT_IN = ("cifar10", "digits", "synthetic")
OF_FILES = ("folder", "parquet", "tar")
NAMES = (*BUILT_IN, "synthetic:N", *(f"{kind}:PATH" for kind in OF_FILES))


def load(
    name: str,
    data_dir: Path | None = None,
    reading: Reading = DEFAULT_READING,
    reader: Reader | None = None,
    keep: Path | None = None,
) -> Dataset:
    """The dataset called `name`, one of NAMES; only `cifar10` looks into `data_dir`, only files need the rest.

    PATH may be a URL that fsspec knows. reader: what reads images, by default this process; keep: where they are kept
    from run to run, as `image_store.load` has it. Raises UsageError for any other name, DataError if the data are
    missing or damaged.
    """
    match name.split(":", maxsplit=1):
        case ["cifar10"]:
            from fastmlp.datasets import cifar10

            return cifar10.load(data_dir)
        case ["digits"]:
            from fastmlp.datasets import digits

            return digits.load()
        case ["synthetic", *size]:
            from fastmlp.datasets import synthetic

            return synthetic.load(*map(_train_size, size))
        case ["folder", path] if path:
            from fastmlp.datasets import folder

            return folder.load(place_of(path), reading, reader, keep)
        case ["parquet", path] if path:
            from fastmlp.datasets import parquet

            return parquet.load(place_of(path), reading, reader, keep)
        case ["tar", path] if path:
            from fastmlp.datasets import tar

            return tar.load(place_of(path), reading, reader, keep)
    raise _unknown(name)


def check_name(name: str) -> None:
    """Raise UsageError for a name that `load` does not know, before anything is downloaded or read."""
    kind, _, argument = name.partition(":")
    known = name in ("cifar10", "digits") or kind == "synthetic" or (kind in OF_FILES and argument)
    if not known:
        raise _unknown(name)


def _unknown(name: str) -> UsageError:
    if name and Path(name).is_dir():
        return UsageError(f"There is no dataset {name!r}: use folder:{name} for that folder of images.")
    kind = name.partition(":")[0]
    if kind in OF_FILES:
        return UsageError(f"{kind} needs a path: for example, --dataset {kind}:photos.")
    near = did_you_mean(name, (*BUILT_IN, *OF_FILES))
    return UsageError(f"There is no dataset {name!r}{near}: choose one of {', '.join(NAMES)}.")


def _train_size(text: str) -> int:
    """The N of synthetic:N."""
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"synthetic:{text} needs a whole number of images: for example, synthetic:10000.")
    return int(text)
