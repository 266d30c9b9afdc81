"""torchvision's ResNet-18 without its last layer, in eval and inference mode, and its transforms on whole batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..contenders import AbsentError, Bound
from ..extracting import Features, Images, ResNetExtraction

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH_SIZE = 16  # of the compiled network


def extract(problem: ResNetExtraction, batch_size: int) -> Bound:
    return problem.bound(_on_the_host(network(problem), problem.image_size), batch_size)


def compiled(problem: ResNetExtraction) -> Bound:
    """Channels-last and frozen, so that batch norms are folded and convolutions fused with what follows them."""
    import torch
    from torch._inductor import config

    from fastmlp.errors import first_line

    fused = torch.compile(network(problem).to(memory_format=torch.channels_last))
    bound = problem.bound(_on_the_host(fused, problem.image_size, torch.channels_last), BATCH_SIZE)
    try:
        with config.patch(freezing=True):
            bound.run()
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise AbsentError(f"torch.compile finds no working C++ compiler ({first_line(error)}).") from None
    return bound


def network(problem: ResNetExtraction) -> Any:
    import torch
    from torchvision.models import resnet18

    model = resnet18()
    model.load_state_dict(torch.load(problem.weights, weights_only=True))
    model.fc = torch.nn.Identity()
    return model.eval()


def preprocess(images: Any, image_size: int) -> Any:
    """What the weights' own transforms do with images 0..255 (n, 3, h, w) of a float dtype, less the crop."""
    from torchvision.transforms.v2.functional import normalize, resize

    return normalize(resize(images / 255, [image_size, image_size]), MEAN, STD)


def _on_the_host(model: Any, image_size: int, memory_format: Any = None) -> Callable[[Images], Features]:
    import torch

    def extract(images: Images) -> Features:
        with torch.inference_mode():
            pixels = preprocess(torch.from_numpy(images).float(), image_size)
            return model(pixels.contiguous(memory_format=memory_format or torch.contiguous_format)).numpy()

    return extract
