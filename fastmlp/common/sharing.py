"""What belongs to the whole process, while several of its threads need it at once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock


class Shared:
    """A change of the process that lasts while any thread is within `held`: the first makes it, the last undoes it.

    Each thread alone would undo what it found, which may be another's change: it would never end.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change, self._lock = change, Lock()
        self._made, self._users = ExitStack(), 0

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._made.enter_context(self._change())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._made.close()
