"""Kornia's batched operators on float32 images between 0 and 1, each image with parameters of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.augment import Plan

from .. import devices
from ..augmenting import SIDE, Augmentation, Images
from ..contenders import Bound

# The fastest of 32, 64, ... 1,024 and all at once on two cores with 1 MiB of cache each.
BATCH_SIZES = {"crop": 256, "rotation": 128, "cutout": 1024, "contrast + flip": 64, "flip": 64}
BATCH_ON_GPU = 4096


def augment(problem: Augmentation, converting: bool = False) -> Bound:
    """converting: bytes in, bytes out, like ours; otherwise the images are floats already, and stay floats."""
    import torch

    device = devices.torch_device(problem)
    batch_size = BATCH_SIZES[problem.kind] if device == "cpu" else BATCH_ON_GPU
    batches = []
    for images, plan in problem.batches(batch_size):
        tensor = torch.from_numpy(images).to(device)
        with torch.device(device):
            operator = OPERATORS[problem.kind](plan)
        batches.append((tensor if converting else _to_floats(tensor), operator))
    last = batches[-1][0]

    def run() -> None:
        nonlocal last
        with torch.inference_mode():
            for images, operator in batches:
                last = _to_bytes(operator(_to_floats(images))) if converting else operator(images)
        devices.wait(problem)

    def result() -> Images:
        return (last if converting else _to_bytes(last)).cpu().numpy()

    return Bound(run, result, {"batch_size": batch_size})


def _placed(array: Any) -> Any:
    """A host array as a tensor on the current default device."""
    import torch

    return torch.from_numpy(array).to(torch.get_default_device())


def _to_floats(images: Any) -> Any:
    return images.float().div_(255)


def _to_bytes(images: Any) -> Any:
    return images.mul(255).round_().byte()


# Operators: for a plan, a function of the images.


def _crop(plan: Plan) -> Callable[[Any], Any]:
    """Padding, then slices of it: RandomCrop's own way, and faster than its resampling."""
    import torch
    from kornia.geometry.transform import crop_by_indices

    padding, last = int(plan.policy.as_dict()["crop_padding"]), SIDE - 1
    dy, dx = plan.parameters["crop"]["dy"], plan.parameters["crop"]["dx"]
    corners = np.array([[0, 0], [last, 0], [last, last], [0, last]])
    boxes = _placed(np.stack([dx, dy], axis=1)[:, None] + corners).float()
    return lambda images: crop_by_indices(torch.nn.functional.pad(images, [padding] * 4), boxes, (SIDE, SIDE))


def _rotate(plan: Plan) -> Callable[[Any], Any]:
    from kornia.geometry.transform import rotate

    degrees = _placed(plan.parameters["rotation"]["degrees"]).float()
    return lambda images: rotate(images, degrees)


def _cutout(plan: Plan) -> Callable[[Any], Any]:
    import torch
    from kornia.augmentation import RandomErasing

    size = torch.full((len(plan),), float(plan.policy.as_dict()["cutout_size"]))
    corner = plan.parameters["cutout"]
    parameters = {
        "xs": _placed(corner["left"]).float(),
        "ys": _placed(corner["top"]).float(),
        "widths": size,
        "heights": size,
        "values": torch.zeros(len(plan)),
        "batch_prob": torch.ones(len(plan)),
        "forward_input_shape": torch.tensor([len(plan), 3, SIDE, SIDE]),
    }
    erase = RandomErasing(p=1.0)
    return lambda images: erase(images, params=parameters)


def _contrast_and_flip(plan: Plan) -> Callable[[Any], Any]:
    from kornia.enhance import adjust_contrast_with_mean_subtraction

    factor, flip = _placed(plan.parameters["contrast"]["factor"]).float(), _flip(plan)
    return lambda images: flip(adjust_contrast_with_mean_subtraction(images, factor))


def _flip(plan: Plan) -> Callable[[Any], Any]:
    import torch
    from kornia.geometry.transform import hflip

    flip = _placed(plan.parameters["contrast"]["flip"])[:, None, None, None]
    return lambda images: torch.where(flip, hflip(images), images)


OPERATORS: dict[str, Callable[[Plan], Callable[[Any], Any]]] = {
    "crop": _crop,
    "rotation": _rotate,
    "cutout": _cutout,
    "contrast + flip": _contrast_and_flip,
    "flip": _flip,
}
