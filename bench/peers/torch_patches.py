"""PyTorch: patch features (Coates, Ng and Lee 2011) step by step, and folded into one convolution by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..contenders import AbsentError, Bound
from ..extracting import Features, Images, PatchExtraction

SIDE, NOISE = 6, 10
BATCH_SIZE = 16


def unfold(problem: PatchExtraction) -> Bound:
    """Unfold, normalise, whiten, distances, triangle, pool."""
    return problem.bound(_on_the_host(_unfold(problem)), BATCH_SIZE)


def compiled(problem: PatchExtraction) -> Bound:
    """The same through torch.compile: everything but the products is fused."""
    import torch

    from fastmlp.common.errors import first_line

    try:
        steps = torch.compile(_unfold(problem))
        with torch.inference_mode():
            steps(torch.from_numpy(problem.images[:BATCH_SIZE]))
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise AbsentError(f"torch.compile finds no working C++ compiler ({first_line(error)}).") from None
    return problem.bound(_on_the_host(steps), BATCH_SIZE)


def convolve(problem: PatchExtraction) -> Bound:
    """Whitening and centroids as one convolution's filters; means and variances by average pooling."""
    return problem.bound(_on_the_host(_convolve(problem)), BATCH_SIZE)


def _on_the_host(steps: Callable[[Any], Any]) -> Callable[[Images], Features]:
    import torch

    def extract(images: Images) -> Features:
        with torch.inference_mode():
            return steps(torch.from_numpy(images)).numpy()

    return extract


def _unfold(problem: PatchExtraction) -> Callable[[Any], Any]:
    import torch
    from torch.nn.functional import unfold

    mean, whitening, centroids, shift, scale = map(torch.from_numpy, vars(problem.codebook).values())
    lengths = centroids.square().sum(1)

    def steps(images: Any) -> Any:
        patches = unfold(images.float(), SIDE).transpose(1, 2)
        patches = patches - patches.mean(-1, keepdim=True)
        patches /= torch.sqrt(patches.square().mean(-1, keepdim=True) + NOISE)
        whitened = (patches - mean) @ whitening
        squared = whitened.square().sum(-1, keepdim=True) - 2 * (whitened @ centroids.T) + lengths
        return (_pool(_triangle(squared, -1).mT, images.shape) - shift) * scale

    return steps


def _convolve(problem: PatchExtraction) -> Callable[[Any], Any]:
    import torch
    from torch.nn.functional import avg_pool2d, conv2d

    mean, whitening, centroids, shift, scale = map(torch.from_numpy, vars(problem.codebook).values())
    lengths = centroids.square().sum(1)[:, None, None]
    filters = torch.cat([whitening.T, centroids @ whitening.T]).double()
    offset = (filters @ mean.double()).float()[:, None, None]
    filters -= filters.mean(1, keepdim=True)  # subtracts the mean of a patch
    filters = filters.float().view(-1, 3, SIDE, SIDE)

    def steps(images: Any) -> Any:
        pixels = images.float() - 128  # precise where patches are bright
        means, squares = (avg_pool2d(p.mean(1, keepdim=True), SIDE, 1) for p in (pixels, pixels.square()))
        products = conv2d(pixels, filters)
        products *= torch.rsqrt(squares - means.square() + NOISE)
        products -= offset
        whitened, crossed = products.tensor_split([len(whitening)], 1)
        squared = whitened.square().sum(1, keepdim=True) - 2 * crossed + lengths
        return (_pool(_triangle(squared, 1), images.shape) - shift) * scale

    return steps


def _triangle(squared: Any, axis: int) -> Any:
    distance = squared.clamp_(min=0).sqrt_()
    return (distance.mean(axis, keepdim=True) - distance).relu_()


def _pool(activations: Any, shape: Any) -> Any:
    """The mean over each quadrant."""
    import torch

    height, width = shape[2] - SIDE + 1, shape[3] - SIDE + 1
    rows = activations.reshape(len(activations), -1, height, width).tensor_split(2, 2)
    return torch.cat([quadrant.mean((2, 3)) for half in rows for quadrant in half.tensor_split(2, 3)], 1)
