"""Frozen vision backbones from torchvision and timm without their last layer, run by PyTorch."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastmlp.backends.cupy import CudaBackend
from fastmlp.common.errors import BackendError, DataError, UsageError, did_you_mean, first_line
from fastmlp.common.files import sha256_of
from fastmlp.common.progress import say
from fastmlp.extractors.base import Extractor, kind_of_device
from fastmlp.extractors.convolutions import Network, channels_last, fold_batch_norm, network_by
from fastmlp.extractors.devices import TF32, check_device, check_dtype
from fastmlp.extractors.gpu import Cuda, Enlarge, Pipeline
from fastmlp.extractors.trials import Trials, way_for
from fastmlp.extractors.ways import PLAIN, Way

BATCH_ON_CPU = 8  # batches whose activations stay in cache are fastest there

# What torchvision itself sets to build these networks for their published weights.
BUILT_WITH: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
    "vit_h_14": {"image_size": 518},
}

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Backbone:
    """A model that outputs features, the preprocessing its weights were trained with, and a hash of the weights."""

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    interpolation: str  # bilinear or bicubic
    weights: str


class VisionExtractor(Extractor):
    """Normalise, resize, backbone; batch norm folded into the convolutions, channels-last.

    The preprocessing is the one the weights declare, except that the whole image is resized to the network's input,
    without cropping its border. Bilinear enlargement is the same with and without antialiasing; for bicubic,
    antialiasing means another kernel (PIL's), the one that published weights were evaluated with.

    Weights and activations are of dtype, float32, bfloat16 or float16, or float32 multiplied in "tf32"; features are
    always float32. On a GPU a batch is one recorded graph, and `kernels`, if given, enlarges its images. There,
    `convolutions` says in which way whole batches are computed, or that the fastest one is to be measured (`ways`); a
    last, smaller batch is computed in the plain way.

    Raises DataError if the weights are missing, damaged or for another network, UsageError for an unknown name or an
    image size (in pixels) that the network does not accept, or if its numbers are too large for float16, BackendError
    if PyTorch cannot use the device, or the device cannot compute in that dtype or way.
    """

    def __init__(
        self,
        name: str,
        weights: Path | None,
        image_size: int | None,
        device: str,
        dtype: str = "float32",
        kernels: CudaBackend | None = None,
        convolutions: str = PLAIN,
    ) -> None:
        if image_size is not None and image_size < 1:
            raise UsageError(f"--image-size is {image_size}: give a positive number of pixels, or leave it out.")
        check_device(device)
        check_dtype(dtype, device)
        backbone = open_backbone(name, weights)
        self.name, self.device, self.weights, self.dtype = name, device, backbone.weights, dtype
        self.image_size = image_size or backbone.image_size
        self._interpolation = backbone.interpolation
        self._dtype = torch.float32 if dtype == TF32 else getattr(torch, dtype)
        self.model = channels_last(fold_batch_norm(backbone.model)).to(device, self._dtype)
        self._scale, self._shift = _normalisation(backbone, device)
        self._enlarge = self._enlarging(kernels)
        self._cuda = self._streams(kernels)
        self._networks: dict[str, Network] = {PLAIN: self.model}
        self._pipelines: dict[tuple[int, ...], Pipeline] = {}
        self._piping = Lock()
        self.features = self._count_features(backbone.image_size)
        self.way = self._way(convolutions)
        self.batch_size = BATCH_ON_CPU if device == "cpu" else self.way.batch

    def provenance(self) -> dict[str, Any]:
        convolved = {} if self.way == Way() else {"convolutions": str(self.way)}
        return {**self._origin(), **convolved}

    def _origin(self) -> dict[str, Any]:
        """The provenance but for the way of convolutions."""
        engine = "torch" if self.device == "cpu" else f"torch:{kind_of_device(self.device)}"
        rounded = {} if self.dtype == "float32" else {"dtype": self.dtype}
        return {
            "name": self.name,
            "weights": self.weights,
            "image_size": self.image_size,
            "engine": engine if self._enlarge is None else f"{engine}, resize.cu",
            **rounded,
        }

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._cuda is None:
            return self._step_by_step(images)
        return next(self.batches(images), np.empty((0, self.features), np.float32))

    def batches(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        if self._cuda is None:
            return super().batches(images)
        return self._piped(images, self._cuda)

    def _piped(self, images: NDArray[np.uint8], cuda: Cuda) -> Iterator[NDArray[np.float32]]:
        """Batches through the pipeline of their shape: one caller at a time, because its buffers are its own."""
        shape = images.shape[1:]
        with self._piping:
            if shape not in self._pipelines:
                self._pipelines[shape] = Pipeline(self._by_size, cuda, self.batch_size, shape, self.features)
            yield from map(self._held, self._pipelines[shape].batches(images))

    def _step_by_step(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), nullcontext() if self._cuda is None else self._cuda.computing():
            placed = torch.as_tensor(np.ascontiguousarray(images), device=self.device)
            return self._held(np.asarray(self.forward(placed).cpu()))

    def _held(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features, of numbers that the dtype could hold: those of float16 end at 65,504."""
        if self.dtype == "float16" and not np.isfinite(features).all():
            raise UsageError(f"{self.name} has numbers too large for float16: choose --dtype bfloat16.")
        return features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features float32 (n, d) of uint8 images (n, 3, h, w), both on the device."""
        return self._forward_by(Way(), images)

    def _by_size(self, images: torch.Tensor) -> torch.Tensor:
        """The same, in the chosen way if that is a whole batch."""
        return self._forward_by(self.way if len(images) == self.batch_size else Way(), images)

    def _forward_by(self, way: Way, images: torch.Tensor) -> torch.Tensor:
        pixels = self._prepared(images)
        if way.path not in self._networks:
            self._networks[way.path] = network_by(way.path, self.model, pixels[:1])
        return self._networks[way.path](pixels).float()

    @property
    def trials(self) -> Trials | None:
        """Of the ways in which an NVIDIA GPU may compute whole batches; None on another device."""
        return None if self._cuda is None else Trials(self._forward_by, self._cuda, self.dtype)

    def _way(self, convolutions: str) -> Way:
        trials = self.trials
        return Way() if trials is None else way_for(convolutions, trials, self._origin())

    def _streams(self, kernels: CudaBackend | None) -> Cuda | None:
        if not self.device.startswith("cuda"):
            return None
        return Cuda(self.device, shared=kernels is not None, tf32=self.dtype == TF32)

    def _enlarging(self, kernels: CudaBackend | None) -> Enlarge | None:
        """Our kernel, if there is one for this backbone's interpolation."""
        if kernels is None or self._interpolation != "bilinear":
            return None
        return Enlarge(kernels, self._scale, self._shift, self.image_size)

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised pixels at the network's input size, channels last."""
        if self._enlarge is not None and self.image_size >= min(images.shape[2:]):
            return self._enlarge(images, self._dtype)
        # normalised before resizing, while there are fewer pixels: resizing averages, so the result is the same
        pixels = images.to(torch.float32).mul_(self._scale).add_(self._shift)
        return self._resize(pixels).to(self._dtype).contiguous(memory_format=torch.channels_last)

    def _resize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (n, 3, h, w) at the network's input size; bicubic overshoot is clipped, as in PIL."""
        cubic = self._interpolation == "bicubic"
        size = (self.image_size, self.image_size)
        antialias = cubic or self.image_size < min(pixels.shape[2:])
        resized = nn.functional.interpolate(
            pixels, size, mode=self._interpolation, align_corners=False, antialias=antialias
        )
        return resized.clamp_(self._shift, 255 * self._scale + self._shift) if cubic else resized  # black, white

    def _count_features(self, own_size: int) -> int:
        try:
            features = self._step_by_step(np.zeros((1, 3, 32, 32), np.uint8))
        except (RuntimeError, AssertionError, ValueError) as error:
            if self.image_size == own_size:
                raise
            raise UsageError(
                f"{self.name} does not accept images of {self.image_size} pixels ({first_line(error)}): "
                f"leave --image-size out for {own_size}."
            ) from None
        if features.ndim != 2:
            raise UsageError(
                f"{self.name} outputs shape {features.shape}, not features (n, d): choose another backbone."
            )
        return features.shape[1]


def open_backbone(name: str, weights: Path | None) -> Backbone:
    """The backbone `resnet18`, `torchvision:NAME` or `timm:NAME`, with the weights in that file or its own weights."""
    library, _, model = name.partition(":")
    if library == "timm":
        return _open_timm(model, weights)
    return _open_torchvision(model or name, weights)


# torchvision


def _open_torchvision(name: str, weights: Path | None) -> Backbone:
    try:
        from torchvision import models
    except ImportError as error:
        raise BackendError(f"{name} needs torchvision ({error}): pip install 'fastmlp[torch]'.") from None
    names = models.list_models(module=models)
    if name not in names:
        raise _unknown("torchvision", name, names, "torchvision.models.list_models(module=torchvision.models)")
    default = models.get_model_weights(name).DEFAULT
    model = models.get_model(name, weights=None, **BUILT_WITH.get(name, {})).eval()
    last = _last_linear(model, name)
    path = weights or _downloaded(name, default.url)
    state, origin = _read_state(path)
    if path.name == _file_name(default.url) and not origin.startswith(f"sha256:{_published_hash(default.url)}"):
        raise DataError(f"The weights file {path} is damaged (its SHA-256 is {origin[7:15]}...): fetch it again.")
    _load(model, _renamed(state), name, path)
    parent, _, child = last.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    preset = default.transforms()
    size, interpolation = preset.crop_size[0], preset.interpolation.value
    return Backbone(model, tuple(preset.mean), tuple(preset.std), size, interpolation, origin)


def _last_linear(model: nn.Module, name: str) -> str:
    """The path of the classifier's last layer, to be replaced by the identity so that the model outputs its input."""
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"torchvision:{name} does not end in a linear layer: choose another backbone.")
    return linear[-1]


def _downloaded(name: str, url: str) -> Path:
    """The file at url in PyTorch's own download folder; if missing, downloaded and checked against its name's hash."""
    path = Path(torch.hub.get_dir(), "checkpoints", _file_name(url))
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"Downloading {url} to {path}.")
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_published_hash(url), progress=False)
    except (OSError, HTTPException, RuntimeError) as error:
        raise DataError(
            f"The weights of {name} could not be downloaded ({first_line(error)}): "
            f"fetch {url} on a connected machine and pass it with --weights FILE."
        ) from None
    return path


def _file_name(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def _published_hash(url: str) -> str:
    """The first digits of the SHA-256, with which the names of torchvision's files end."""
    return _file_name(url).removesuffix(".pth").rsplit("-", 1)[-1]


def _renamed(state: State) -> State:
    """The state with new names for DenseNet's published weights, which use those of an older layout."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): value for key, value in state.items()}


# timm


def _open_timm(name: str, weights: Path | None) -> Backbone:
    try:
        import timm
    except ImportError:
        raise BackendError(f"timm:{name} needs timm: pip install 'fastmlp[timm]'.") from None
    names = [*timm.list_models(), *timm.list_models(include_tags=True)]
    if name not in names:
        raise _unknown("timm", name, names, "timm.list_models()")
    model: Any
    if weights is None:
        model = _download_timm(timm, name)
        origin = _hash_of(model.state_dict())
    else:
        model = timm.create_model(name)
        state, origin = _read_state(weights)
        _load(model, state, f"timm:{name}", weights)
        model.reset_classifier(0)
    config = timm.data.config.resolve_model_data_config(model)
    size, interpolation = config["input_size"][-1], config["interpolation"]
    return Backbone(model.eval(), config["mean"], config["std"], size, interpolation, origin)


def _download_timm(timm: Any, name: str) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # noqa: BLE001  (hub, HTTP client, safetensors and timm each raise their own)
        published = timm.get_pretrained_cfg(name)
        source = f"https://huggingface.co/{published.hf_hub_id}" if published.hf_hub_id else published.url or "them"
        raise DataError(
            f"The weights of timm:{name} could not be downloaded ({first_line(error)}): "
            f"fetch {source} on a connected machine and pass the file with --weights FILE."
        ) from None


def _hash_of(state: State) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


# both


def _unknown(library: str, name: str, names: Iterable[str], where: str) -> UsageError:
    return UsageError(f"{library} has no classifier {name!r}{did_you_mean(name, names)}: see {where}.")


def _read_state(path: Path) -> tuple[State, str]:
    """The state dict in a .safetensors file, or in a .pth file read without executing pickles; and its SHA-256."""
    if not path.is_file():
        raise DataError(f"There is no weights file {path}: check --weights.")
    try:
        state = _read_tensors(path)
    except Exception as error:  # noqa: BLE001  (zip, pickle, safetensors and torch each raise their own)
        pickled = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than tensors, and pickled code is never run" if pickled else first_line(error)
        raise DataError(
            f"The weights file {path} cannot be read ({reason}): fetch it again, or save model.state_dict() in it."
        ) from None
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, torch.Tensor) and not value.is_complex() for value in state.values()):
        raise DataError(f"The weights file {path} has no plain state dict: save model.state_dict() and pass that.")
    return state, f"sha256:{sha256_of(path)}"


def _read_tensors(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns about files that it then refuses
        return torch.load(path, map_location="cpu", weights_only=True)


def _load(model: nn.Module, state: State, name: str, path: Path) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"The weights file {path} does not fit {name} ({reason}): pass the state dict of {name}."
        ) from None
    if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise DataError(f"The weights file {path} holds NaN or infinity: fetch it again.")


def _normalisation(backbone: Backbone, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """scale and shift, (1, 3, 1, 1), such that pixel * scale + shift = (pixel / 255 - mean) / std."""
    mean, std = (
        torch.tensor(v, dtype=torch.float32, device=device).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std)
    )
    return 1 / (255 * std), -mean / std
