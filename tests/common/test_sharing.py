"""A change of the process, made by the first thread that needs it and undone after the last."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastmlp.common.sharing import Shared


@contextmanager
def one(setting: dict[str, int]) -> Iterator[None]:
    before, setting["threads"] = setting["threads"], 1
    yield
    setting["threads"] = before


def test_overlapping_users_leave_the_process_as_it_was() -> None:
    setting = {"threads": 4}
    shared = Shared(lambda: one(setting))
    first, second = shared.held(), shared.held()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert setting == {"threads": 1}  # the second still needs it
    second.__exit__(None, None, None)
    assert setting == {"threads": 4}
    with shared.held():
        assert setting == {"threads": 1}
    assert setting == {"threads": 4}


def test_an_error_within_undoes_the_change() -> None:
    setting = {"threads": 4}
    with pytest.raises(RuntimeError, match="within"), Shared(lambda: one(setting)).held():
        raise RuntimeError("within")
    assert setting == {"threads": 4}
