"""fastmlp: one MLP, every array engine.

    from fastmlp import MLPClassifier, augment

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastmlp._version import __version__

if TYPE_CHECKING:
    from fastmlp import augment
    from fastmlp.estimator import MLPClassifier

__all__ = ["MLPClassifier", "__version__", "augment"]


def __getattr__(name: str) -> Any:
    if name == "MLPClassifier":
        return import_module("fastmlp.estimator").MLPClassifier
    if name == "augment":
        return import_module("fastmlp.augment")
    raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
