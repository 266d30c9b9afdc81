"""The datasets by name."""

from pathlib import Path

from fastmlp.datasets.base import Dataset, Split
from fastmlp.errors import UsageError

__all__ = ["Dataset", "Split", "load"]


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """The dataset called `name`."""
    if name == "cifar10":
        from fastmlp.datasets import cifar10

        return cifar10.load(data_dir)
    raise UsageError(f"{name!r} is no dataset: choose cifar10.")
