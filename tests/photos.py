"""Folders of images, for tests of what reads them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog")


def draw_photos(root: Path, counts: Mapping[str, int], size: tuple[int, int] = (32, 32), digits: int = 1) -> None:
    """Images of noise, so many of each class in each split; size: height and width; digits: of their names."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:0{digits}}.png")
