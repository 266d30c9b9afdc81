"""torchvision's transforms v2 on uint8 images, one after the other, as in a Dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.augment import Plan

from .. import devices
from ..augmenting import SIDE, Augmentation
from ..contenders import Bound


def augment(problem: Augmentation) -> Bound:
    import torch

    device = devices.torch_device(problem)
    with torch.device(device):
        operator = OPERATORS[problem.kind]()
    images, plan = [torch.from_numpy(image).to(device) for image in problem.images], problem.plan
    results: list[Any] = []

    def run() -> None:
        with torch.inference_mode():
            results[:] = [operator(image, plan, i) for i, image in enumerate(images)]
        devices.wait(problem)

    def check(what: str) -> None:
        """Contrast may differ by one level, because torchvision truncates where we round."""
        got = torch.stack(results).cpu().numpy()
        if problem.kind != "contrast + flip":
            problem.check(what, got)
        elif (difference := np.abs(got.astype(int) - problem.reference)).max() > 1:
            raise AssertionError(f"{what}: off by {difference.max()} levels")

    return Bound(run, check=check)


# Operators: functions of one image, the plan, and the image's number.


def _crop() -> Callable[[Any, Plan, int], Any]:
    from torchvision.transforms.v2.functional import crop

    def operator(image: Any, plan: Plan, i: int) -> Any:
        corner, padding = plan.parameters["crop"], int(plan.policy.as_dict()["crop_padding"])
        return crop(image, int(corner["dy"][i]) - padding, int(corner["dx"][i]) - padding, SIDE, SIDE)

    return operator


def _rotate() -> Callable[[Any, Plan, int], Any]:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2.functional import rotate

    def operator(image: Any, plan: Plan, i: int) -> Any:
        return rotate(image, float(plan.parameters["rotation"]["degrees"][i]), InterpolationMode.BILINEAR)

    return operator


def _cutout() -> Callable[[Any, Plan, int], Any]:
    import torch
    from torchvision.transforms.v2.functional import erase

    black = torch.zeros((3, 1, 1), dtype=torch.uint8)

    def operator(image: Any, plan: Plan, i: int) -> Any:
        corner, size = plan.parameters["cutout"], int(plan.policy.as_dict()["cutout_size"])
        return erase(image, int(corner["top"][i]), int(corner["left"][i]), size, size, black)

    return operator


def _contrast_and_flip() -> Callable[[Any, Plan, int], Any]:
    from torchvision.transforms.v2.functional import adjust_contrast

    flip = _flip()

    def operator(image: Any, plan: Plan, i: int) -> Any:
        return flip(adjust_contrast(image, float(plan.parameters["contrast"]["factor"][i])), plan, i)

    return operator


def _flip() -> Callable[[Any, Plan, int], Any]:
    from torchvision.transforms.v2.functional import horizontal_flip

    return lambda image, plan, i: horizontal_flip(image) if plan.parameters["contrast"]["flip"][i] else image


OPERATORS: dict[str, Callable[[], Callable[[Any, Plan, int], Any]]] = {
    "crop": _crop,
    "rotation": _rotate,
    "cutout": _cutout,
    "contrast + flip": _contrast_and_flip,
    "flip": _flip,
}
