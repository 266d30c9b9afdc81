"""Blocks and words that every report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastmlp import paper
from fastmlp.common.files import write_bytes
from fastmlp.report.document import Picture, Table
from fastmlp.report.style import clean, png, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPOKEN = {
    "cifar10": "CIFAR-10",
    "resnet18": "ResNet-18",
    "torchvision:resnet18": "ResNet-18",
    "patches": "patch",  # features
    "pixels": "pixel",
}

LEAST_SECONDS = 0.005  # that are shown


def picture(out: Path, name: str, figure: Figure, title: str, caption: str, description: str) -> Picture:
    """Save the figure as OUT/figures/NAME.png and keep it for the page."""
    return unsaved(name, figure, title, caption, description).saved(out)


class Unsaved(NamedTuple):
    """A picture whose file is yet to be written."""

    picture: Picture
    png: bytes

    def saved(self, out: Path) -> Picture:
        write_bytes(out / self.picture.file, self.png)
        return self.picture


def unsaved(name: str, figure: Figure, title: str, caption: str, description: str) -> Unsaved:
    picture = Picture(f"figures/{name}.png", svg(figure, name), title, caption, description)
    return Unsaved(picture, png(figure))


def facts(values: Mapping[str, Any]) -> Table:
    """Names and values."""
    rows = [(spaced(name), shown(one)) for name, one in flat(values)]
    return Table(("name", "value"), rows, "facts", ["same"] * len(rows))


def flat(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Name and value pairs; a nested mapping gives one per entry, except for settings that belong together."""
    pairs: list[tuple[str, Any]] = []
    for name, one in values.items():
        if isinstance(one, Mapping) and name not in paper.RUN:
            pairs += [(f"{name}, {inner}", inner_value) for inner, inner_value in one.items()]
        else:
            pairs.append((name, one))
    return pairs


def shown(one: Any) -> str:
    """A value of a configuration, in words."""
    if isinstance(one, Mapping):
        return ", ".join(f"{spaced(name)} {shown(inner)}" for name, inner in one.items())
    if isinstance(one, list | tuple):
        return ", ".join(shown(item) for item in one) or "none"
    if isinstance(one, bool) or one is None:
        return {True: "yes", False: "no", None: "none"}[one]
    return clean(f"{one:,}" if isinstance(one, int) and one >= 10_000 else one)


def spaced(name: str) -> str:
    """A name of Python as words."""
    return name.replace("_", " ")


def spoken(name: str) -> str:
    """The name of a dataset or an extractor as people write it."""
    return clean(SPOKEN.get(name, name))


def counted(count: int, noun: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def stages(seconds: Mapping[str, float]) -> dict[str, float]:
    """The time of each stage; where the whole run was timed too, as "total", the rest of it is "other"."""
    named = {stage: one for stage, one in seconds.items() if stage != "total"}
    other = seconds.get("total", 0.0) - sum(named.values())
    return named | {"other": other} if other >= LEAST_SECONDS else named


def total(seconds: Mapping[str, float]) -> float:
    """The seconds of all stages."""
    return sum(stages(seconds).values())
