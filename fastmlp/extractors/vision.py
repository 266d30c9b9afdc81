"""Frozen vision backbones from torchvision and timm, their last layer off, run by PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastmlp.errors import BackendError, DataError, UsageError
from fastmlp.extractors.base import Extractor
from fastmlp.files import sha256_of

BATCH_ON_CPU, BATCH_ON_GPU = 16, 512  # on a CPU, a batch whose activations stay in cache is the fastest


@dataclass(frozen=True)
class Backbone:
    """A model that ends in features, the preprocessing its weights were trained with, and a hash of the weights."""

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    weights: str


class VisionExtractor(Extractor):
    """Resize (bilinear), normalise, backbone; batch norm folded into the convolutions, channels-last.

    Raises DataError if the weights are missing, damaged or of another network; UsageError for an unknown name.
    """

    def __init__(self, name: str, weights: Path | None, image_size: int | None, device: str) -> None:
        self.name, self.device = name, device
        backbone = open_backbone(name, weights)
        self.weights = backbone.weights
        self.image_size = image_size or backbone.image_size
        self.batch_size = BATCH_ON_CPU if device == "cpu" else BATCH_ON_GPU
        self._model = fold_batch_norm(backbone.model).to(device=device, memory_format=torch.channels_last)
        self._scale, self._shift = _normalisation(backbone, device)
        self.features = self._count_features()

    def provenance(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "weights": self.weights,
            "image_size": self.image_size,
            "engine": "torch" if self.device == "cpu" else f"torch:{self.device}",
        }

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = torch.as_tensor(np.ascontiguousarray(images), device=self.device)
        pixels = batch.to(torch.float32).contiguous(memory_format=torch.channels_last)
        size = (self.image_size, self.image_size)
        resized = nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False)
        features = self._model(resized.mul_(self._scale).add_(self._shift))
        return np.asarray(features.float().cpu())

    def _count_features(self) -> int:
        features = self(np.zeros((1, 3, 32, 32), np.uint8))
        if features.ndim != 2:
            raise UsageError(f"{self.name} gives an output of shape {features.shape}, not features (n, d): choose another.")
        return features.shape[1]


def open_backbone(name: str, weights: Path | None) -> Backbone:
    """The backbone `resnet18`, `torchvision:NAME` or `timm:NAME`."""
    library, _, model = name.partition(":")
    if library == "timm":
        return _open_timm(model, weights)
    return _open_torchvision(model or name, weights)


def _open_torchvision(name: str, weights: Path | None) -> Backbone:
    from torchvision import models

    try:
        default = models.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError):
        raise UsageError(
            f"torchvision has no classifier {name!r}: its names are in torchvision.models.list_models()."
        ) from None
    model = models.get_model(name, weights=None).eval()
    state, origin = _read_state(weights) if weights else _download_state(name, default)
    _load(model, state, name, origin)
    _remove_last_linear(model, name)
    preset = default.transforms()
    return Backbone(model, tuple(preset.mean), tuple(preset.std), preset.crop_size[0], origin)


def _download_state(name: str, weights: Any) -> tuple[dict[str, torch.Tensor], str]:
    """torchvision's own weights: downloaded once, the hash in the file's name checked."""
    try:
        return weights.get_state_dict(progress=False, check_hash=True), weights.url.rsplit("/", 1)[-1]
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"The weights of {name} could not be downloaded ({_first_line(error)}): "
            f"fetch {weights.url} on a connected machine and pass it with --weights FILE."
        ) from None


def _open_timm(name: str, weights: Path | None) -> Backbone:
    try:
        import timm
    except ImportError:
        raise BackendError(f"timm:{name} needs timm: pip install 'fastmlp[timm]'.") from None
    if not timm.is_model(name.split(".")[0]):
        raise UsageError(f"timm has no model {name!r}: its names are in timm.list_models().")
    try:
        model = timm.create_model(name, pretrained=weights is None, num_classes=0 if weights is None else None)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"The weights of timm:{name} could not be downloaded ({_first_line(error)}): pass them with --weights FILE."
        ) from None
    origin = str(model.pretrained_cfg.get("hf_hub_id") or model.pretrained_cfg.get("url") or name)
    if weights is not None:
        state, origin = _read_state(weights)
        _load(model, state, f"timm:{name}", origin)
        model.reset_classifier(0)
    config = timm.data.resolve_model_data_config(model)
    return Backbone(model.eval(), config["mean"], config["std"], config["input_size"][-1], origin)


def _read_state(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The state dict in a .safetensors file, or in a .pth file read without executing pickles; and its SHA-256."""
    if not path.is_file():
        raise DataError(f"The weights file {path} does not exist: check --weights.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (zip, pickle, safetensors and torch each raise their own)
        raise DataError(f"The weights file {path} cannot be read ({_first_line(error)}): fetch it again.") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"The weights file {path} holds no plain state dict: save model.state_dict() and pass that.")
    return state, f"sha256:{sha256_of(path)}"


def _load(model: nn.Module, state: dict[str, torch.Tensor], name: str, origin: str) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"The weights ({origin}) do not fit {name} ({reason}): pass the state dict of {name}.") from None
    if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise DataError(f"The weights ({origin}) hold NaN or infinity: fetch them again.")


def _remove_last_linear(model: nn.Module, name: str) -> None:
    """The classifier's last layer gives way to the identity, so that its input comes out."""
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"torchvision:{name} does not end in a linear layer: choose another backbone.")
    parent, _, child = linear[-1].rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """The same function with every batch norm that follows a convolution folded into that convolution's weights.

    A model that torch.fx cannot trace (control flow that depends on data) is returned as it is: it is slower, not wrong.
    """
    from torch.fx.experimental.optimization import fuse
    from torch.fx.proxy import TraceError

    try:
        return fuse(model)
    except (TraceError, TypeError, NotImplementedError):
        return model


def _normalisation(backbone: Backbone, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """scale and shift, (1, 3, 1, 1), so that pixel * scale + shift = (pixel / 255 - mean) / std."""
    mean, std = (torch.tensor(v, dtype=torch.float32, device=device).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
    return 1 / (255 * std), -mean / std


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
