"""torchvision's ResNet-18 without its last layer, in eval and inference mode, and its transforms on whole batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmlp.common.errors import first_line

from .. import devices
from ..contenders import AbsentError, Bound
from ..extracting import Features, Images, ResNetExtraction

BATCH_SIZE = 16  # of the compiled network
BATCH_ON_GPU = 512


def extract(problem: ResNetExtraction, batch_size: int) -> Bound:
    return problem.bound(_on_the_host(problem, problem.network()), batch_size)


def compiled(problem: ResNetExtraction) -> Bound:
    """Channels-last and frozen, so that batch norms are folded and convolutions fused with the ops that follow."""
    import torch
    from torch._inductor import config

    fused = torch.compile(problem.network().to(memory_format=torch.channels_last))
    with config.patch(freezing=True):
        return _compiled(problem.bound(_on_the_host(problem, fused, torch.channels_last), BATCH_SIZE))


def on_gpu(problem: ResNetExtraction, dtype: str, compile: bool) -> Bound:
    """Channels-last, in that dtype; images go to the GPU as bytes and are preprocessed there."""
    import torch

    device, kind = devices.torch_device(problem), getattr(torch, dtype)
    model = problem.network().to(device, kind, memory_format=torch.channels_last)
    if compile:
        model = torch.compile(model, mode="reduce-overhead", dynamic=False)

    def extract(images: Images) -> Features:
        with torch.inference_mode():
            pixels = problem.preprocessed(torch.from_numpy(images).to(device).float())
            return model(pixels.to(kind, memory_format=torch.channels_last)).float().cpu().numpy()

    bound = problem.bound(extract, BATCH_ON_GPU, dtype)
    return _compiled(bound) if compile else bound


def _compiled(bound: Bound) -> Bound:
    """The contender after its first run. Raises AbsentError if PyTorch has no compiler for it."""
    import torch

    try:
        bound.run()
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise AbsentError(f"torch.compile finds no working compiler ({first_line(error)}).") from None
    return bound


def _on_the_host(problem: ResNetExtraction, model: Any, memory_format: Any = None) -> Callable[[Images], Features]:
    import torch

    def extract(images: Images) -> Features:
        with torch.inference_mode():
            pixels = problem.preprocessed(torch.from_numpy(images).float())
            return model(pixels.contiguous(memory_format=memory_format or torch.contiguous_format)).numpy()

    return extract
