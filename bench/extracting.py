"""The problems of extracting features: patch features by a drawn codebook, and ResNet-18 with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.numpy import NumpyBackend
from fastmlp.extractors.patches import CENTROIDS, FEATURES, PATCH, Codebook
from fastmlp.ops.patches import SIDE as PATCH_SIDE
from fastmlp.ops.patches import PatchOps
from fastmlp.testing.compare import assert_close
from fastmlp.testing.tolerances import BFLOAT16_BACKBONE, FLOAT16_BACKBONE, STEP, TF32_BACKBONE

from .contenders import Bound, Problem

SIDE = 32
CHECKED = 4  # images; the first and the last are in other batches than the rest; float64 is slow

TOLERANCES = {
    "float32": STEP["float32"],
    "tf32": TF32_BACKBONE,
    "bfloat16": BFLOAT16_BACKBONE,
    "float16": FLOAT16_BACKBONE,
}

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet

Images = NDArray[np.uint8]
Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Extraction(Problem):
    """From images uint8 (n, 3, 32, 32) to features float32 (n, d), both on the host."""

    images: Images

    @cached_property
    def checked(self) -> NDArray[np.intp]:
        """The indices of the images whose features are compared."""
        return np.unique(np.linspace(0, len(self.images) - 1, CHECKED, dtype=np.intp))

    @cached_property
    def reference(self) -> NDArray[np.float64]:
        """The features of those images, in float64."""
        raise NotImplementedError

    def check(self, what: str, result: Features, dtype: str = "float32") -> None:
        if len(result) != len(self.images):
            raise AssertionError(f"{what}: {len(result)} features for {len(self.images)} images")
        assert_close(what, result[self.checked], self.reference, TOLERANCES[dtype])

    def bound(
        self, extract: Callable[[Images], Features], batch_size: int, dtype: str = "float32", **facts: Any
    ) -> Bound:
        """The contender that extracts features from up to batch_size images at a time, computing in that dtype."""
        starts = range(0, len(self.images), batch_size)
        result = np.empty((0, 0), np.float32)

        def run() -> None:
            nonlocal result
            result = np.concatenate([extract(self.images[start : start + batch_size]) for start in starts])

        def check(what: str) -> None:
            self.check(what, result, dtype)

        return Bound(run, check=check, facts={"batch_size": batch_size, "dtype": dtype, **facts})


@dataclass(frozen=True, kw_only=True)
class PatchExtraction(Extraction):
    codebook: Codebook

    @cached_property
    def reference(self) -> NDArray[np.float64]:
        """Array code on NumPy, with explicit whitened patches, which the extractor avoids."""
        ops, images, book = PatchOps(NumpyBackend.xp), self.images[self.checked], self.codebook
        mean, whitening, centroids = (a.astype(np.float64) for a in (book.mean, book.whitening, book.centroids))
        columns = SIDE - PATCH_SIDE + 1
        patches, pooled = np.empty((len(images), PATCH, columns**2)), np.empty((len(images), FEATURES))
        ops.extract_patches(images, mean, patches)
        whitened = whitening.T @ patches
        squares, lengths = (whitened**2).sum(axis=1), (centroids**2).sum(axis=1)
        ops.triangle_pool(centroids @ whitened, squares, lengths, columns, pooled)
        return (pooled - book.shift) * book.scale


@dataclass(frozen=True, kw_only=True)
class ResNetExtraction(Extraction):
    """image_size: pixels that images are resized to. folder: for the weights, as torchvision initialises them."""

    image_size: int
    folder: Path

    @cached_property
    def weights(self) -> Path:
        """A file with the state of torchvision's ResNet-18."""
        import torch
        from torchvision.models import resnet18

        path = self.folder / "resnet18.pth"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.save(resnet18().state_dict(), path)
        return path

    @cached_property
    def reference(self) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():
            images = torch.from_numpy(self.images[self.checked])
            return self.network().double()(self.preprocessed(images.double())).numpy()

    def network(self) -> Any:
        """torchvision's model with those weights and without its last layer."""
        import torch
        from torchvision.models import resnet18

        model = resnet18()
        model.load_state_dict(torch.load(self.weights, weights_only=True))
        model.fc = torch.nn.Identity()
        return model.eval()

    def preprocessed(self, images: Any) -> Any:
        """The transforms of the weights for tensors (n, 3, h, w) of floats 0..255, except the crop."""
        from torchvision.transforms.v2.functional import normalize, resize

        return normalize(resize(images / 255, [self.image_size, self.image_size]), MEAN, STD)


def draw_patches(threads: int, n: int, device: str = "cpu") -> PatchExtraction:
    rng = np.random.default_rng(n)
    rotation = np.linalg.qr(rng.standard_normal((PATCH, PATCH))).Q
    codebook = Codebook(
        mean=rng.normal(0, 0.1, PATCH).astype(np.float32),
        whitening=(rotation * rng.uniform(0.3, 3, PATCH) @ rotation.T).astype(np.float32),  # symmetric, as a ZCA is
        centroids=rng.standard_normal((CENTROIDS, PATCH), dtype=np.float32),
        shift=np.zeros(FEATURES, np.float32),
        scale=np.ones(FEATURES, np.float32),
    )
    title = f"patches, {n:,} images, {SIDE} x {SIDE}"
    return PatchExtraction(
        suite="extract", threads=threads, title=title, unit="image", units=n, images=_images(rng, n), codebook=codebook,
        device=device,
    )  # fmt: skip


def draw_resnet(threads: int, n: int, image_size: int, folder: Path, device: str = "cpu") -> ResNetExtraction:
    title = f"ResNet-18, {n:,} images, {SIDE} x {SIDE} resized to {image_size} x {image_size}"
    return ResNetExtraction(
        suite="extract", threads=threads, title=title, unit="image", units=n,
        images=_images(np.random.default_rng(n), n), image_size=image_size, folder=folder, rounds=2,
        device=device,
    )  # fmt: skip


def _images(rng: np.random.Generator, n: int) -> Images:
    """Fields of 4 x 4 pixels of one colour, and noise."""
    fields = rng.integers(20, 236, (n, 3, SIDE // 4, SIDE // 4)).repeat(4, axis=2).repeat(4, axis=3)
    return (fields + rng.integers(-20, 21, fields.shape)).astype(np.uint8)
