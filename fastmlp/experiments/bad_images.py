"""The list of the images that could not be read, and were left out, in the folder of what was made from the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from fastmlp.common.files import write_text
from fastmlp.common.progress import say
from fastmlp.experiments.feature_sets import FeatureSet

BAD_IMAGES = "bad-images.jsonl"


def list_bad_images_of(features: FeatureSet, folder: Path) -> None:
    """The list of a feature set's images; features that were made elsewhere are of none."""
    list_bad_images(features.describe().get("left_out", {}).get("images", {}), folder)


def list_bad_images(reasons: Mapping[str, str], folder: Path) -> None:
    """A line of JSON for each image, with its path and the reason; where there are none no list, nor an earlier one."""
    listed = folder / BAD_IMAGES
    if reasons:
        lines = [json.dumps({"path": image, "reason": reason}) for image, reason in reasons.items()]
        write_text(listed, "\n".join(lines) + "\n")
        say(f"Bad images: {listed}")
    else:
        listed.unlink(missing_ok=True)
