"""What measuring changes in a process, set back."""

from collections.abc import Iterator

import pytest

from fastmlp.backends import Backend


@pytest.fixture(scope="module", autouse=True)
def own_threads() -> Iterator[None]:
    """Measuring sets the threads of all backends that are opened later: other tests open them as they were.

    For a module, as some of its fixtures measure.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backend, "threads", Backend.threads)
        yield
