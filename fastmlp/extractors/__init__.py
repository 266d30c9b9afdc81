"""Extractors: frozen functions from images to features."""

from __future__ import annotations

from pathlib import Path

from fastmlp.backends.base import Backend
from fastmlp.errors import BackendError, UsageError
from fastmlp.extractors.base import Extractor

__all__ = ["NAMES", "Extractor", "open_extractor"]

NAMES = ("resnet18", "patches", "pixels", "torchvision:NAME", "timm:NAME")


def open_extractor(
    name: str, backend: Backend, *, weights: Path | None = None, image_size: int | None = None
) -> Extractor:
    """The extractor of that name.

    weights is the state dict of a backbone of torchvision or timm (by default its own, downloaded), or the codebook
    of `patches` (see `fastmlp.extractors.patches.learned_codebook`); image_size in pixels is for backbones.
    Raises UsageError for an unknown name, BackendError where PyTorch is missing, DataError for bad weights.
    """
    if name in ("patches", "pixels"):
        if image_size is not None:
            raise UsageError(f"--image-size is for backbones: leave it out with {name}.")
        return _open_built_in(name, backend, weights)
    if name != "resnet18" and name.partition(":")[0] not in ("torchvision", "timm"):
        raise UsageError(f"There is no extractor {name!r}: choose one of {', '.join(NAMES)}.")
    try:
        from fastmlp.extractors.vision import VisionExtractor
    except ImportError as error:
        raise BackendError(f"Extractor {name} needs PyTorch ({error}): pip install 'fastmlp[torch]'.") from None
    # the device that trains also extracts
    return VisionExtractor(name, weights, image_size, backend.device)


def _open_built_in(name: str, backend: Backend, weights: Path | None) -> Extractor:
    if name == "pixels":
        from fastmlp.extractors.pixels import Pixels

        if weights is not None:
            raise UsageError("pixels have no weights: leave --weights out.")
        return Pixels()
    from fastmlp.extractors.patches import Patches, load_codebook

    if weights is None:
        raise UsageError("patches need a codebook: pass one with --weights FILE.")
    return Patches(load_codebook(weights), backend)
