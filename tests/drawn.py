"""What a figure shows, for tests of the reports."""

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text


def cut_texts(figure: Figure) -> list[str]:
    """The texts that lie partly outside their figure."""
    figure.draw_without_rendering()
    page = figure.bbox.padded(1)  # a pixel
    unseen = {id(label) for axes in figure.axes for label in _out_of_view(axes)}
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and id(text) not in unseen]
    extents = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    return [text for text, box in extents if not (page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1))]


def _out_of_view(axes: Axes) -> Iterator[Text]:
    """The labels of ticks beyond the axes' limits, which are not drawn."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        yield from (tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high)
