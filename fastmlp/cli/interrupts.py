"""Ctrl-C where Python would only print it, as in a callback of the garbage collector: it comes again in a moment."""

import _thread
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer, get_ident
from typing import Any

MOMENT = 0.02  # seconds


@contextmanager
def not_ignored() -> Iterator[None]:
    """Within the block no KeyboardInterrupt is lost, but for one just before its end."""
    before, thread, timers = sys.unraisablehook, get_ident(), list[Timer]()

    def again(unraisable: Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            before(unraisable)
            return
        timers.append(Timer(MOMENT, _interrupt, (thread,)))
        timers[-1].start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def _interrupt(thread: int) -> None:
    if sys.platform == "win32":  # where threads get no signals
        _thread.interrupt_main()
    else:
        signal.pthread_kill(thread, signal.SIGINT)
