"""How the report's figures look, and how they become files: PNG for the folder, SVG in the page's own colours.

matplotlib is imported when the first figure is drawn, and used through its objects alone: no pyplot, no global state.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from xml.etree import ElementTree

from fastmlp.common.files import write_bytes
from fastmlp.paper import MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

DPI = 192  # two pixels for each of the 96 a browser counts to the inch
WIDTH = 9.6  # inches

# Blue and orange keep apart for every kind of colour vision (Wong 2011); in SVG each colour is a CSS variable.
PALETTE = {
    "surface": "#ffffff",
    "ink": "#1a212c",
    "muted": "#5b6675",
    "rule": "#d5dae1",
    "original": "#b84a00",
    "augmented": "#0a5ea8",
    "heat": "#1b6ab3",
    "on-heat": "#fefefe",
}
FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "Noto Sans", "DejaVu Sans")
FONTS_OF_OTHER_SCRIPTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei")

LONGEST_NAME = 16  # characters of a class name in a figure


def colour_of(model: str) -> str:
    """The paper's models have colours of their own; a model that stands alone has the second one's."""
    return PALETTE[model if model in MODELS else "augmented"]


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """The drawing function, under the report's style whatever the user's matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return drawn


def prepare() -> None:
    """Import all that the first figure needs, and find the installed fonts."""
    from matplotlib import figure
    from matplotlib.backends import backend_agg, backend_svg

    _ = figure, backend_agg, backend_svg, _installed_fonts()


@contextmanager
def _style() -> Iterator[None]:
    from matplotlib import style

    settings = {
        "font.family": _installed_fonts(),
        "font.size": 9,
        "text.parse_math": False,  # a class may be called $x$
        "text.color": PALETTE["ink"],
        "axes.edgecolor": PALETTE["rule"],
        "axes.labelcolor": PALETTE["muted"],
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlepad": 12,
        "figure.facecolor": PALETTE["surface"],
        "xtick.color": PALETTE["rule"],
        "ytick.color": PALETTE["rule"],
        "xtick.labelcolor": PALETTE["muted"],
        "ytick.labelcolor": PALETTE["muted"],
        "svg.fonttype": "none",
        "svg.hashsalt": "fastmlp",
    }
    with style.context(["default", settings]), warnings.catch_warnings():
        # The PNG shows a box for a script no installed font has; the page's browser knows better.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        yield


@cache
def _installed_fonts() -> list[str]:
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return [name for name in FONTS + FONTS_OF_OTHER_SCRIPTS if name in installed]


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, **options)


def save(figure: Figure, path: Path) -> None:
    """The figure as a PNG, whole or not at all."""
    write_bytes(path, png(figure))


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def svg(figure: Figure, prefix: str) -> str:
    """The figure as an <svg> to put into a page: ids start with `prefix`, colours are the page's CSS variables."""
    buffer = io.StringIO()
    with _style():
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in [child for child in parent if _local(child.tag) in ("metadata", "style")]:
            parent.remove(child)
        parent.tag = _local(parent.tag)
        parent.attrib = {_local(key): _for_page(_local(key), value, prefix) for key, value in parent.attrib.items()}
    del root.attrib["width"], root.attrib["height"]
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """The name without its namespace, as HTML wants it."""
    return name.rpartition("}")[2]


def _for_page(attribute: str, value: str, prefix: str) -> str:
    if attribute == "id":
        return f"{prefix}-{value}"
    if attribute == "href":
        return re.sub("^#", f"#{prefix}-", value)
    value = value.replace("url(#", f"url(#{prefix}-")
    for name, colour in PALETTE.items():
        value = value.replace(colour, f"var(--{name})")
    return value


def clean(text: object) -> str:
    """The text on one line, without control and format characters, half surrogates and other things unseen."""
    spaced = " ".join(str(text).split())
    return "".join(character for character in spaced if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co"))


def shortened(text: str) -> str:
    """A name as a figure has room for it."""
    text = clean(text)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
