"""Extractors: frozen functions from images to features."""

from __future__ import annotations

import re
from pathlib import Path

from fastmlp.backends.base import Backend
from fastmlp.common.errors import BackendError, UsageError, did_you_mean
from fastmlp.extractors.base import REDUCED, Extractor
from fastmlp.extractors.ways import PLAIN, check_convolutions

__all__ = ["NAMES", "Extractor", "check_name", "open_extractor"]

OURS = ("patches", "pixels")
BUILT_IN = ("resnet18", *OURS)
LIBRARIES = ("torchvision", "timm")
NAMES = (*BUILT_IN, *(f"{library}:NAME" for library in LIBRARIES))
BACKBONE = re.compile(r"[a-z_]+\d\w*")  # what names like resnet50 and vit_b_16 look like


def open_extractor(
    name: str,
    backend: Backend,
    *,
    weights: Path | None = None,
    image_size: int | None = None,
    dtype: str = "float32",
    convolutions: str = PLAIN,
) -> Extractor:
    """The extractor of that name.

    weights: the state dict of a torchvision or timm backbone (by default its own, downloaded), or the codebook of
    `patches` (see `fastmlp.extractors.patches.learned_codebook`). For backbones only: image_size, in pixels; dtype, in
    which they compute: float32 or, on a GPU, tf32, float16 or bfloat16, whose features are float32 with errors of
    about a thousandth or, of bfloat16, a percent; and convolutions, on NVIDIA's GPUs: plain, cudnn or compiled, with
    `:BATCH` images at once, or the fastest of these, measured.
    Raises UsageError for an unknown name, BackendError if PyTorch is missing, DataError for bad weights.
    """
    _check_options_of_gpus(name, backend, dtype, convolutions)
    if not is_backbone(name):
        if image_size is not None:
            raise UsageError(f"--image-size is for backbones: leave it out with {name}.")
        return _open_built_in(name, backend, weights)
    check_name(name)
    try:
        from fastmlp.extractors.vision import VisionExtractor
    except ImportError as error:
        raise BackendError(f"Extractor {name} needs PyTorch ({error}): pip install 'fastmlp[torch]'.") from None
    from fastmlp.backends.cupy import CudaBackend

    # the device that trains also extracts
    kernels = backend if isinstance(backend, CudaBackend) else None
    return VisionExtractor(name, weights, image_size, backend.device, dtype, kernels, convolutions)


def _check_options_of_gpus(name: str, backend: Backend, dtype: str, convolutions: str) -> None:
    where = f"with {name} on backend {backend}"
    if dtype in REDUCED and not (is_backbone(name) and backend.device != "cpu"):
        # a CPU without instructions for it, like most, takes several times as long as in float32
        raise UsageError(f"{dtype} is for backbones on a GPU: leave --dtype out {where}.")
    check_convolutions(convolutions)
    if convolutions != PLAIN and not (is_backbone(name) and backend.device.startswith("cuda")):
        raise UsageError(f"--convolutions {convolutions} is for backbones on an NVIDIA GPU: leave it out {where}.")


def is_backbone(name: str) -> bool:
    """Whether that is a network of a library, rather than an extractor of our own."""
    return name not in OURS


def check_name(name: str) -> None:
    """Raise UsageError for a name that `open_extractor` does not know, as far as that is known without any library."""
    library, _, model = name.partition(":")
    if name in BUILT_IN or (library in LIBRARIES and model):
        return
    near = did_you_mean(name, BUILT_IN)
    if BACKBONE.fullmatch(name):
        near = f", did you mean torchvision:{name}"
    raise UsageError(f"There is no extractor {name!r}{near}: choose one of {', '.join(NAMES)}.")


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
