"""Extractors: frozen functions from images to features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend
from fastmlp.errors import BackendError, UsageError
from fastmlp.extractors.base import Extractor

__all__ = ["NAMES", "Extractor", "open_extractor"]

NAMES = ("resnet18", "patches", "pixels", "torchvision:NAME", "timm:NAME")


def open_extractor(
    name: str,
    images: NDArray[np.uint8],
    backend: Backend,
    *,
    weights: Path | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> Extractor:
    """The extractor of that name; `patches` learns its codebook from the training images.

    weights (a state dict) and image_size (pixels) are for the backbones of torchvision and timm.
    Raises UsageError for an unknown name, BackendError where PyTorch is missing, DataError for bad weights.
    """
    if name in ("patches", "pixels"):
        if weights is not None or image_size is not None:
            raise UsageError(f"--weights and --image-size are for backbones: leave them out with {name}.")
        return _built_in(name, images, backend, seed)
    if name != "resnet18" and name.partition(":")[0] not in ("torchvision", "timm"):
        raise UsageError(f"There is no extractor {name!r}: choose one of {', '.join(NAMES)}.")
    try:
        from fastmlp.extractors.vision import VisionExtractor
    except ImportError as error:
        raise BackendError(f"Extractor {name} needs PyTorch ({error}): pip install 'fastmlp[torch]'.") from None
    return VisionExtractor(name, weights, image_size, _torch_device(backend))


def _built_in(name: str, images: NDArray[np.uint8], backend: Backend, seed: int) -> Extractor:
    if name == "pixels":
        from fastmlp.extractors.pixels import Pixels

        return Pixels()
    from fastmlp.extractors.patches import Patches

    return Patches.learn(images, seed, backend)


def _torch_device(backend: Backend) -> str:
    """The backend's own device where PyTorch has it, so that the GPU that trains also extracts."""
    return backend.device
