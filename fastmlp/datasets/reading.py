"""How image files are read."""

from dataclasses import dataclass

from fastmlp.common.errors import UsageError, did_you_mean

ON_BAD_IMAGE = ("fail", "skip")
MAX_PIXELS = 89_478_485  # Pillow's own limit


@dataclass(frozen=True)
class Reading:
    """How image files are read. Raises UsageError for values that mean nothing.

    on_bad_image: "fail", or "skip": images that cannot be read are told and left out. max_pixels: larger images cannot
    be read. Above Pillow's own limit, that one, which is the whole process's, is raised while images are read.
    """

    on_bad_image: str = "fail"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.on_bad_image not in ON_BAD_IMAGE:
            near = did_you_mean(self.on_bad_image, ON_BAD_IMAGE)
            raise UsageError(f"There is no --on-bad-image {self.on_bad_image!r}{near}: choose fail or skip.")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels must be 1 or more, not {self.max_pixels}.")


DEFAULT_READING = Reading()
