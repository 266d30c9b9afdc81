"""Measurements side by side: the contenders on one problem, the floor under them, and the best of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from .results import Measurement

SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


@dataclass(frozen=True)
class Comparison:
    """All measurements of one problem, fastest first, then those without times."""

    measurements: tuple[Measurement, ...]

    @property
    def title(self) -> str:
        return self.measurements[0].title

    @property
    def unit(self) -> str:
        return self.measurements[0].unit

    @property
    def timed(self) -> list[Measurement]:
        return [measurement for measurement in self.measurements if measurement.status == "measured"]

    @property
    def racers(self) -> list[Measurement]:
        """Those timed on the whole problem."""
        return [measurement for measurement in self.timed if measurement.kind != "floor"]

    @property
    def floor(self) -> Measurement | None:
        """The lowest, if there are several."""
        return next((measurement for measurement in self.timed if measurement.kind == "floor"), None)

    @property
    def best_of_ours(self) -> Measurement | None:
        return next((measurement for measurement in self.timed if measurement.kind == "ours"), None)

    def having(self, status: str) -> list[Measurement]:
        return [measurement for measurement in self.measurements if measurement.status == status]


def comparisons(measurements: Sequence[Measurement]) -> list[Comparison]:
    """One per problem, in the order of measurement."""
    return [Comparison(tuple(sorted(group, key=_rank))) for group in _grouped(measurements, _problem)]


def growths(measurements: Sequence[Measurement]) -> list[list[Comparison]]:
    """For each axis along which something grew, its problems by value."""
    grown = [measurement for measurement in measurements if measurement.axis is not None]
    groups = _grouped(grown, attrgetter("suite", "axis"))
    return [sorted(comparisons(group), key=lambda one: one.measurements[0].value or 0) for group in groups]


def scale(seconds: Sequence[float]) -> tuple[float, str]:
    """The unit in which the smallest of these times is 1 or more: (seconds, symbol)."""
    smallest = min(seconds, default=1.0)
    return next(((size, symbol) for size, symbol in SCALES if smallest >= size), SCALES[-1])


def digits(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Seconds in a suitable unit."""
    size, symbol = scale([seconds])
    return f"{digits(seconds / size)} {symbol}"


def _rank(measurement: Measurement) -> tuple[bool, float]:
    timed = measurement.status == "measured"
    return not timed, measurement.median if timed else 0.0


def _problem(measurement: Measurement) -> tuple[Any, ...]:
    return (measurement.suite, measurement.title, measurement.axis, measurement.value)


def _grouped(measurements: Sequence[Measurement], key: Callable[[Measurement], Any]) -> list[list[Measurement]]:
    """Groups in the order of their first measurement."""
    places = {name: place for place, name in reversed(list(enumerate(map(key, measurements))))}
    ordered = sorted(measurements, key=lambda measurement: places[key(measurement)])
    return [list(group) for _, group in groupby(ordered, key)]
