"""Augmentations of uint8 images (n, 3, h, w): functions, and plans that are drawn on the host apart from their use.

crop, rotate, cutout, contrast and hflip return a new array beside the images; every parameter is one number per image.
A `Policy` says which kinds run in which ranges, `draw` chooses one of them for every image, `apply` carries the choice
out. Each kind is a module of `fastmlp.augment.kinds`; give `backend` to run the backend's kernels.
"""

from fastmlp.augment.functions import ROTATION_METHODS, contrast, crop, cutout, hflip, rotate
from fastmlp.augment.policy import Plan, Policy, draw
from fastmlp.augment.running import CHUNK, apply

KINDS = tuple(kind.name for kind in Policy().kinds)  # the paper's, as figures name them

__all__ = [
    "CHUNK",
    "KINDS",
    "ROTATION_METHODS",
    "Plan",
    "Policy",
    "apply",
    "contrast",
    "crop",
    "cutout",
    "draw",
    "hflip",
    "rotate",
]
