"""Progress on stderr: a live bar on a terminal, a plain line now and then in a log, or nothing."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastmlp.common.clock import work_seconds

SECONDS_BETWEEN_LINES = 10.0
_quiet = False


class Progress:
    """Counts the finished units of one task, and shows how many there are, their rate and the time left."""

    def __init__(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self._done_before = done
        self._start, self._last_line = work_seconds(), time.monotonic()

    def advance(self, units: int, note: str = "") -> None:
        self.done += units
        self._show(note)

    def _rate(self) -> float:
        elapsed = work_seconds() - self._start
        return (self.done - self._done_before) / elapsed if elapsed > 0 else 0.0

    def _line(self, note: str) -> str:
        rate = self._rate()
        left = (self.total - self.done) / rate if rate else 0.0
        text = f"{self.title}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.0f} {self.unit}/s, {clock(left)} left"
        return f"{text}, {note}" if note else text

    def _show(self, note: str) -> None:
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            say(self._line(note))


class LiveProgress(Progress):
    """The same as a live bar, drawn by rich, which omits colours where NO_COLOR is set."""

    def __init__(self, title: str, total: int, unit: str, done: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        super().__init__(title, total, unit, done)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.bar = RichProgress(*columns, console=Console(stderr=True), transient=True, get_time=work_seconds)
        self._task = self.bar.add_task(title, total=total, completed=done, rate="", note="")

    def _show(self, note: str) -> None:
        rate = f"{self._rate():,.0f} {self.unit}/s"
        self.bar.update(self._task, completed=self.done, rate=rate, note=note)


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """Progress of `total` units, `done` of them finished by an earlier run."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not _quiet:
        live = LiveProgress(title, total, unit, done)
        with live.bar:
            yield live
    else:
        yield Progress(title, total, unit, done)


def say(text: str) -> None:
    """Write a line of log to stderr, unless quiet."""
    if not _quiet:
        warn(text)


def warn(text: str) -> None:
    """Write a warning or an error to stderr, safe for a terminal even if it quotes names and messages from outside."""
    print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Within the block, show no progress and only write warnings; quiet=False: as usual."""
    global _quiet  # noqa: PLW0603  (or every function with progress to show would need a parameter)
    before, _quiet = _quiet, quiet
    try:
        yield
    finally:
        _quiet = before


def is_quiet() -> bool:
    return _quiet


def printable(text: str) -> str:
    """The text without characters that a terminal could interpret."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
